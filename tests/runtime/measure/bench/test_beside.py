"""An engine beside all that one would use instead: what is written, how it is told, and what a failed peer does."""

from pathlib import Path

import numpy as np
import pytest

from runtime import cli
from runtime.accuracy.datasets import Pair
from runtime.errors import EngineError, PipelineError
from runtime.measure import roof
from runtime.measure.bench.beside import main, spread
from runtime.measure.bench.peer_tables import BEGIN, conditions, read_document, table
from runtime.measure.bench.tables import END
from tests.helpers.engines import built_engine
from tests.helpers.labelled import write_pair
from tests.helpers.pictures import gradient

ROOT = Path(__file__).parents[4]
FIGURES = sorted((ROOT / "figures").glob("rivals-*.json"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camvid")
    for i in range(3):
        write_pair(folder, f"f{i}", gradient(40, 60), np.full((40, 60), i))
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    return ["--engine", str(built_engine(folder)), "--plain", str(built_engine(folder, backend="onnxruntime"))]


@pytest.fixture(scope="module")
def document(tmp_path_factory, data, files):
    """What a run on two tiny engines writes, with labels, without a torch program and with an engine of NNCF's."""
    path = tmp_path_factory.mktemp("out") / "out.json"
    options = ["--rounds", "4", "--warmup", "1", "--frame-size", "64x128", "--data", str(data), "--frames", "2"]
    options += ["--nncf", files[1], "--against", "nncf", "openvino", "onnxruntime", "torch", "onnxruntime-int8", "mnn"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roof, "SHAPES", roof.SHAPES[2:3])
        missing = ["--missing", "onnxruntime-int8=error:  it has\nno such layer"]
        assert main([*files, *options, *missing, "--json", str(path)]) == cli.DONE
    return path


def test_every_path_has_times_accuracy_memory_and_its_share_of_the_floor(document):
    found = read_document(document)
    assert set(found["paths"]) == {"engine", "nncf", "openvino", "onnxruntime"}
    for path in found["paths"].values():
        assert len(path["samples_ms"]) == 4 and path["peak_mib"] > 10
        assert 0 <= path["miou"] < 1 and 0 < path["same_as_fp32"] <= 1
        floors = [found["gmac"] / of[path["precision"]] * 1e3 for of in found["reached_by_round"]]
        each = [ms / floor for ms, floor in zip(path["samples_ms"], floors, strict=True)]
        assert path["times_floor"] == pytest.approx(np.median(each))
        assert found["reached"][path["precision"]] == max(of[path["precision"]] for of in found["reached_by_round"])
    assert found["paths"]["onnxruntime"]["same_as_fp32"] == 1 and found["paths"]["engine"]["times_slower"] == 1
    assert found["accuracy"] == {"dataset": "camvid", "split": "val", "frames": 2, "frames_in_split": 3}
    assert 0 < found["gmac"] < 0.01 and {"fp32", "int8"} <= set(found["reached"])
    assert "openvino" in found["libraries"]


def test_what_is_not_there_is_a_line_in_the_table_with_its_reason(document):
    found = read_document(document)
    assert found["failed"] == {
        "torch": "its file was not given",
        "onnxruntime-int8": "it has no such layer",
        "mnn": "its file was not given",
    }
    text = table(found)
    assert "| onnxruntime INT8, quantized by itself | not measured: it has no such layer |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_the_quickest_path_stands_first_and_ours_is_marked(document):
    rows = [line for line in table(read_document(document)).splitlines() if line.startswith("| ")][1:]
    times = [float(row.split("|")[3]) for row in rows if "not measured" not in row]
    assert len(times) == 4 and times == sorted(times)
    assert sum("**this project**" in row for row in rows) == 1


def test_the_conditions_tell_floor_machine_and_frames(document):
    line = conditions(read_document(document))
    assert "GMAC, of which this CPU's convolutions reach a second" in line
    assert "mIoU on 2 of 3 frames of camvid val" in line and "4 rounds in turns" in line


def test_without_data_there_is_no_miou(files, tmp_path, monkeypatch):
    monkeypatch.setattr(roof, "SHAPES", roof.SHAPES[2:3])
    options = ["--rounds", "1", "--warmup", "1", "--frame-size", "32x64", "--against", "--json", str(tmp_path / "o")]
    assert main([*files, *options]) == cli.DONE
    found = read_document(tmp_path / "o")
    assert found["accuracy"] is None and found["paths"]["engine"]["miou"] is None
    assert found["paths"]["engine"]["same_as_fp32"] is None  # nobody else was asked
    assert " - | - |" in table(found)


def test_a_data_set_of_other_classes_is_one_line(files, tmp_path):
    (tmp_path / "classes.json").write_text('[{"name": "a"}, {"name": "b"}]')
    (tmp_path / "leftImg8bit/val/x").mkdir(parents=True)
    with pytest.raises(EngineError, match="the engine has 11 classes, cityscapes has 19"):
        main([*files, "--dataset", "cityscapes", "--data", str(tmp_path)])


def test_frames_are_spread_over_the_split():
    pairs = [Pair(Path(str(i)), Path("x"), ()) for i in range(10)]
    assert [pair.frame.name for pair in spread(pairs, 3)] == ["0", "3", "6"]
    assert spread(pairs, 99) == pairs


def test_the_tables_are_written_between_the_marks_of_a_page(document, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main([str(document), "--page", str(page)]) == cli.DONE
    assert table(read_document(document)) in page.read_text() and "old" not in page.read_text()


@pytest.mark.parametrize("wrong", [["a.json"], [], ["--engine", "e"], ["--missing", "nobody=x"], ["--missing", "mnn="]])
def test_half_a_command_is_usage(wrong):
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == cli.USAGE


def test_another_document_is_refused(document, tmp_path):
    (tmp_path / "x.json").write_text(
        document.read_text().replace('"engine": {\n   "samples', '"other": {\n   "samples')
    )
    with pytest.raises(PipelineError, match="there is no engine"):
        read_document(tmp_path / "x.json")


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_the_page_has_the_tables_of_the_figures(path):
    assert table(read_document(path)) in (ROOT / "docs/benchmarks.md").read_text()
