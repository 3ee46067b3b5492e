"""Figures as a command: what is measured, what is written, and that README's table is what the files say."""

import json
from pathlib import Path

import numpy as np
import pytest

from runtime import cli
from runtime.backends.tensorrt_clock import KernelTimes
from runtime.errors import EngineError, PipelineError
from runtime.measure.bench import kernels, tables
from runtime.measure.bench.latency import main
from runtime.measure.bench.tables import BEGIN, END, as_text, read_document, table, with_table
from tests.helpers.engines import built_engine

ROOT = Path(__file__).parents[4]
FIGURES = sorted((ROOT / "figures").glob("bench-*.json"))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run on two tiny engines writes."""
    folder = tmp_path_factory.mktemp("bench")
    engine, plain = built_engine(folder), built_engine(folder, backend="onnxruntime")
    options = ["--rounds", "5", "--warmup", "1", "--frame-size", "64x128", "--json", str(folder / "out.json")]
    assert main(["--engine", str(engine), "--plain", str(plain), *options]) == cli.DONE
    return folder / "out.json"


def test_every_path_has_samples_percentiles_stages_and_memory(document):
    found = read_document(document)
    assert set(found["paths"]) == {"engine", "onnxruntime", "openvino"}
    for path in found["paths"].values():
        assert len(path["samples_ms"]) == 5 and path["peak_mib"] > 10
        assert list(path["percentiles_ms"]) == ["p50", "p90", "p99", "max"]
        assert path["percentiles_ms"]["p50"] == np.median(path["samples_ms"])
        assert path["percentiles_ms"]["max"] == max(path["samples_ms"])
        assert set(path["stages_ms"]) == {"preprocess", "network", "postprocess"}
        assert 0 < path["mask_agreement"] <= 1
    engine = found["paths"]["engine"]
    assert engine["times_slower"] == engine["mask_agreement"] == 1
    assert engine["throughput"]["in_flight"] == 2 and engine["throughput"]["frames_per_s"] > 0


def test_the_fingerprint_says_on_what_and_of_what(document):
    found = read_document(document)["fingerprint"]
    assert found["machine"]["threads"] >= 1 and found["machine"]["cpu"]
    assert {"python", "numpy", "openvino"} <= set(found["software"])
    assert len(found["engine"]["engine_sha256"]) == len(found["engine"]["weights_sha256"]) == 64
    assert found["frame_size"] == [64, 128] and "-m runtime.bench --engine" in found["command"]


def test_latency_and_throughput_are_named_apart(document):
    text = as_text(read_document(document))
    assert "latency of single frames, ms; 5 interleaved rounds after 1 of warm-up" in text
    assert "throughput: " in text and "with 2 in flight (10 frames)" in text


def test_a_table_of_a_gpu_names_it_with_its_library_and_tells_parts_of_a_millisecond(document):
    found = read_document(document)
    assert "driver" not in table([found]) and "tensorrt" not in table([found])
    found["fingerprint"]["machine"]["gpu"] = {"name": "NVIDIA Abacus", "driver_version": "580.1"}
    found["fingerprint"]["software"]["tensorrt"] = "11.4"
    found["paths"]["engine"]["percentiles_ms"] |= {"p50": 1.234, "max": 12.34}
    text = table([found])
    assert "NVIDIA Abacus, driver 580.1; tensorrt 11.4, " in text
    assert "| 1.23 |" in text and "| 12 |" in text


def test_kernels_are_measured_alone(tmp_path, capsys):
    engine = built_engine(tmp_path)
    assert main(["--engine", str(engine), "--kernels", "--rounds", "3", "--frame-size", "64x128"]) == cli.DONE
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    kernels = ["resize", "upsample and argmax", "overlay"]
    assert names == ["kernel", *kernels, *(f"{kernel}, NumPy" for kernel in kernels)]


def test_a_rival_without_its_file_is_usage(tmp_path):
    with pytest.raises(SystemExit) as exit_:
        main(["--engine", "a.engine", "--against", "torch"])
    assert exit_.value.code == cli.USAGE


def test_a_missing_engine_is_one_line(tmp_path):
    with pytest.raises(EngineError, match="does not exist"):
        main(["--engine", str(tmp_path / "none.engine"), "--rounds", "1"])


def test_the_table_is_written_between_its_marks(document, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nan old table\n{END}\nafter\n")
    assert tables.main([str(document), "--readme", str(readme)]) == cli.DONE
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| network |") and text.endswith(f"{END}\nafter\n")
    assert "an old table" not in text and "onnxruntime FP32, with OpenCV and NumPy" in text
    assert with_table(text, [read_document(document)]) == text
    for wrong in ("no marks", BEGIN, f"{BEGIN}\n{BEGIN}\n{END}", f"{BEGIN}\n<!-- another -->\n{END}"):
        readme.write_text(wrong)
        with pytest.raises(PipelineError, match="put them where the table belongs"):
            tables.main([str(document), "--readme", str(readme)])
        assert readme.read_text() == wrong


def test_what_is_no_document_is_refused(tmp_path):
    kept = {"version": tables.VERSION, "paths": {"onnxruntime": {"samples_ms": [1]}}}
    for text in ("", "[]", "{}", json.dumps({"version": 1, "paths": {"engine": {}}}), json.dumps(kept)):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(PipelineError, match=r"no document of runtime\.bench"):
            read_document(tmp_path / "x.json")


def test_readme_shows_the_figures_of_the_committed_files():
    readme = (ROOT / "README.md").read_text()
    documents = [read_document(path) for path in FIGURES]
    assert (BEGIN in readme) == bool(documents)
    if documents:
        assert table(documents) in readme and with_table(readme, documents) == readme


def test_kernels_get_logits_as_the_engine_gives_them():
    halves = np.array([[[1.5, -2.0]]], np.float32)  # as exact in bfloat16
    assert kernels._as_from_engine(halves, 2).tolist() == [[[0x3FC0, 0xC000]]]
    assert kernels._as_from_engine(halves, 1) is halves
    finer = halves + np.float32(2**-20)
    assert kernels._as_from_engine(finer, 2) is finer


class OnGpu:
    """A backend that has kernels on a GPU, and their times."""

    def __init__(self, times):
        self._times = times

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def kernels_alone(self, frame, rounds):
        return self._times[:rounds]


def test_kernels_of_a_gpu_are_told_beside_a_copy(tmp_path, monkeypatch, capsys):
    times = KernelTimes("upsample_argmax_fp16", 3_000_000, [0.1, 0.003, 0.002], [0.002, 0.0024, 0.1])
    monkeypatch.setattr(kernels, "open_backend", lambda engine: OnGpu([times]))
    options = ["--kernels", "--frame-size", "64x128", "--json", str(tmp_path / "kernels.json")]
    assert main(["--engine", str(built_engine(tmp_path)), *options]) == cli.DONE
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split()[:2] == ["upsample_argmax_fp16", "0.003"] and row.endswith("1000 GB/s, 80% of a copy's rate")
    found = json.loads((tmp_path / "kernels.json").read_text())
    assert found["kernels"]["upsample_argmax_fp16"]["of_a_copy"] == pytest.approx(0.8)
    assert found["fingerprint"]["frame_size"] == [64, 128]
