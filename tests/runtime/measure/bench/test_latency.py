"""Figures as a command: what is measured, what is written, and that the tables are what the files say."""

import json
from pathlib import Path

import numpy as np
import pytest

from runtime import cli
from runtime.backends.tensorrt_clock import KernelTimes
from runtime.errors import EngineError, PipelineError
from runtime.measure.bench import kernels, latency, tables
from runtime.measure.bench.latency import main
from runtime.measure.bench.tables import BEGIN, END, PERCENTILES, as_text, between_marks, read_document, summary, table
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


def test_ours_and_the_rivals_get_the_same_fit():
    options = latency._options(["--plain", "p.engine", "--torch", "t.pt2", "--fit", "pad"])
    jobs = latency._jobs(Path("a.engine"), options)
    assert list(jobs) == ["engine", "onnxruntime", "openvino", "torch", "torch-compile"]
    assert {job.fit for job in jobs.values()} == {"pad"}


def test_a_missing_engine_is_one_line(tmp_path):
    with pytest.raises(EngineError, match="does not exist"):
        main(["--engine", str(tmp_path / "none.engine"), "--rounds", "1"])


def written(folder, name):
    """A page with an old table between its marks."""
    page = folder / name
    page.write_text(f"before\n{BEGIN}\nan old table\n{END}\nafter\n")
    return page


def test_the_best_rows_and_all_rows_are_written_between_the_marks_of_two_pages(document, tmp_path):
    readme, page = written(tmp_path, "README.md"), written(tmp_path, "benchmarks.md")
    again = [str(document), "--readme", str(readme), "--page", str(page)]
    assert tables.main(again) == cli.DONE
    for path, made in ((readme, summary), (page, table)):
        text = path.read_text()
        assert text.startswith(f"before\n{BEGIN}\n\n| network |") and text.endswith(f"\n\n{END}\nafter\n")
        assert "an old table" not in text and made([read_document(document)]).strip() in text
    before = readme.read_text(), page.read_text()
    assert tables.main(again) == cli.DONE and (readme.read_text(), page.read_text()) == before


@pytest.mark.parametrize("wrong", ["no marks", BEGIN, f"{BEGIN}\n{BEGIN}\n{END}", f"{BEGIN}\n<!-- another -->\n{END}"])
def test_a_page_without_a_place_for_the_table_is_named_and_left_as_it_is(document, tmp_path, wrong):
    page = tmp_path / "page.md"
    page.write_text(wrong)
    with pytest.raises(PipelineError, match=r"page\.md: .* put them where the table belongs"):
        tables.main([str(document), "--page", str(page)])
    assert page.read_text() == wrong
    with pytest.raises(PipelineError, match=r"none\.md: there is no such page"):
        tables.main([str(document), "--readme", str(tmp_path / "none.md")])


def made_up(model, precision, ms, rivals=(), cpu="Abacus"):
    """A document of one engine and its rivals, {name: median}."""
    paths = {
        name: {
            "percentiles_ms": dict.fromkeys(PERCENTILES, value), "times_slower": value / ms, "mask_agreement": 0.987,
        }
        for name, value in {"engine": ms, **dict(rivals)}.items()
    }  # fmt: skip
    machine = {"cpu": cpu, "threads": 2, "features": ["beads"], "gpu": None}
    engine = {"model": model, "precision": precision, "backend": "openvino", "executed": {}}
    found = {"engine": engine, "machine": machine, "software": {"openvino": "1"}, "frame_size": [8, 16]}
    return {"paths": paths, "fingerprint": found, "rounds": 3}


def test_a_network_in_a_precision_has_one_row_the_quickest_beside_the_best_rival_of_its_own_run():
    slow = made_up("icnet", "int8", 20.0, {"openvino": 21.0})
    quick = made_up("icnet", "int8", 10.0, {"onnxruntime": 50.0, "openvino": 30.0}, cpu="Loom")
    alone, beside_one = made_up("enet", "fp16", 40.0), made_up("enet", "fp16", 40.0, {"openvino": 41.0})
    lines = summary([slow, quick, alone]).splitlines()
    assert lines[2:4] == [
        "| enet | fp16 | **40** | 40 | none | | | |",
        "| icnet | int8 | **10** | 10 | OpenVINO as it comes | 30 | 3.0 | 98.7 % |",
    ]
    assert "enet fp16: Abacus, 2 threads" in lines[5] and "icnet int8: Loom, 2 threads" in lines[7]
    assert "| OpenVINO as it comes, the only one | 41 | 1.0 |" in summary([beside_one])
    assert summary([alone]).splitlines()[-1].startswith("Abacus, 2 threads, beads; openvino 1; frames of 8x16; ")


def test_what_is_no_document_is_refused(tmp_path):
    kept = {"version": tables.VERSION, "paths": {"onnxruntime": {"samples_ms": [1]}}}
    for text in ("", "[]", "{}", json.dumps({"version": 1, "paths": {"engine": {}}}), json.dumps(kept)):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(PipelineError, match=r"no document of runtime\.bench"):
            read_document(tmp_path / "x.json")


@pytest.mark.parametrize(("name", "made"), [("README.md", summary), ("docs/benchmarks.md", table)])
def test_the_pages_show_the_figures_of_the_committed_files(name, made):
    text = (ROOT / name).read_text()
    assert FIGURES and between_marks(text, BEGIN, made([read_document(path) for path in FIGURES])) == text


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
