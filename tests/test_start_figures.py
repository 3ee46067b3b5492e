import json
import subprocess
import sys

import pytest

from runtime.measure.bench.tables import between_marks
from runtime.samples import STREET
from tests import start_figures
from tests.helpers.engines import built_engine
from tests.helpers.project import ROOT

FIGURES, PAGE = sorted((ROOT / "figures").glob("start-*.json")), ROOT / "docs" / "benchmarks.md"


def test_the_pages_table_is_that_of_the_figures():
    (figures,) = FIGURES
    text = PAGE.read_text()
    assert between_marks(text, start_figures.MARK, start_figures.as_markdown(json.loads(figures.read_text()))) == text


def test_each_way_tells_when_its_files_and_its_process_were_done(tmp_path, monkeypatch):
    every = start_figures.commands
    two = ("`runtime.infer`, all three", "`open_backend`, `segment`")
    monkeypatch.setattr(start_figures, "commands", lambda *given: {name: every(*given)[name] for name in two})
    found = json.loads(json.dumps(start_figures.measured(built_engine(tmp_path), 1, (64, 128))))
    for way in found["ways"].values():
        (file_ms,), (end_ms,), (cpu_ms,) = way["file_ms"], way["end_ms"], way["cpu_ms"]
        assert 0 < file_ms <= end_ms and cpu_ms > 0
    rows = start_figures.as_markdown(found).splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2:4]] == list(two)


@pytest.mark.parametrize("way", ["`runtime.infer`, overlay as JPEG", "`runtime.infer`, a film of one frame"])
def test_a_way_writes_one_file(tmp_path, way):
    start_figures.write_inputs(
        tmp_path, start_figures.resize_frame(start_figures.read_frame(start_figures.STREET), 64, 128)
    )
    command = start_figures.commands(built_engine(tmp_path).resolve(), tmp_path)[way]
    start_figures.first_files(command, tmp_path / "out", {"file_ms": [], "end_ms": [], "cpu_ms": []})
    (written,) = [path.suffix for path in (tmp_path / "out").iterdir() if path.name != "run.json"]
    assert written == {"`runtime.infer`, overlay as JPEG": ".jpg"}.get(way, ".mp4")


def test_a_first_mask_waits_for_no_module_that_it_does_not_need(tmp_path):
    code = "import sys; from runtime.infer import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, str(STREET), "-o", str(tmp_path), "--engine", str(built_engine(tmp_path))]
    for _ in range(2):  # the first compiles loops that are not kept yet
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.splitlines()[-1].split())
    unwanted = {"numba", "av", "http.server", "importlib.metadata", "openvino.tools.ovc", "onnx", "torch", "tqdm"}
    assert "openvino" in loaded and not unwanted & loaded
