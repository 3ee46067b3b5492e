"""The wheel does everything from a folder of its user's, away from the checkout."""

import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest

from runtime.manifest import read_manifest
from runtime.samples import STREET, STREET_LABEL
from tests.helpers.installed import ROOT

pytestmark = [pytest.mark.package, pytest.mark.slow]

SIZE = "96x128"
HOSTILE = ("runtime", "export", "engines", "calib", "streetseg", "numpy", "json")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a picture, and nothing of ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(STREET, folder / "picture.jpg")
    return folder


def last_line(done):
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def graph(stranger, place):
    """FP16, of the shipped weights."""
    words = ("export.to_onnx", "--model", "enet", "--precision", "fp16", "--size", SIZE)
    return last_line(stranger.python_m(*words, cwd=place))


@pytest.fixture(scope="module")
def engine(stranger, place, graph):
    """FP16."""
    return last_line(stranger.python_m("engines.build", graph, "--precision", "fp16", cwd=place))


def test_the_wheel_brings_what_no_python_file_is(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("runtime", "engines", "calib", "export", "streetseg")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - names == set()
    assert {
        "runtime/kernels/segment.cu",
        "runtime/kernels/layout.cuh",
        "runtime/samples/street.jpg",
        "calib/tables/icnet-camvid.json",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "figures/", "build/"))]


def test_nothing_is_imported_from_the_checkout(stranger, place):
    code = "import runtime, engines, calib, export; print(*(m.__file__ for m in (runtime, engines, calib, export)))"
    for path in stranger.run("python", "-c", code, cwd=place).stdout.split():
        assert str(stranger.folder) in path


def test_an_engine_segments_a_picture(stranger, place, engine):
    stranger.python_m("runtime.infer", "picture.jpg", "-o", "masks", "--engine", engine, cwd=place)
    mask = cv2.imread(str(next((place / "masks").glob("*_ids.png"))), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (360, 480) and len(np.unique(mask)) > 3


def test_the_shipped_table_makes_an_int8_engine(stranger, place, graph):
    int8 = last_line(stranger.python_m("calib.qdq", graph, cwd=place))
    built = stranger.python_m("engines.build", int8, "--precision", "int8", cwd=place)
    manifest = read_manifest(place / last_line(built))
    assert manifest.precision == "int8" and manifest.executed["int8"] > 10


def test_an_engine_is_evaluated_on_a_folder_of_frames_and_labels(stranger, place, engine):
    for folder, source in (("val", STREET), ("valannot", STREET_LABEL)):
        (place / "data" / folder).mkdir(parents=True)
        picture = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
        if folder == "valannot":
            picture[picture == 255] = 11  # CamVid's own id of what has no class
        cv2.imwrite(str(place / "data" / folder / "a.png"), picture)
    words = ("runtime.evaluate", "--engine", engine, "--data", "data", "--json")
    assert json.loads(stranger.python_m(*words, cwd=place).stdout)["engines"][0]["miou"] > 0.1


def test_an_engine_is_as_fast_as_itself_or_it_is_too_noisy_to_tell(stranger, place, engine):
    words = (engine, engine, "--rounds", "9", "--batches", "1", "--frames", "3", "--json", "regress.json")
    regressed(stranger, place, "python", "-m", "runtime.regress", *words)
    assert json.loads((place / "regress.json").read_text())


def regressed(stranger, place, *command):
    """Hold a comparison to a verdict: pass, or ambiguous, for which rounds this few are reason enough."""
    stranger.run(*command, cwd=place, expect=(0, 4))


@pytest.mark.parametrize("command", ["export.train", "runtime.bench", "runtime.report", "calib.sensitivity"])
def test_a_command_tells_its_options(stranger, place, command):
    assert "--help" in stranger.python_m(command, "--help", cwd=place).stdout


def test_modules_of_the_users_folder_are_not_taken_for_ours(stranger, place, engine):
    if not stranger.program("streetseg").exists():
        pytest.fail("the wheel has no console command streetseg")
    hostile = place / "hostile"
    hostile.mkdir()
    for name in HOSTILE:
        (hostile / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the folder was imported')")
    shutil.copy(STREET, hostile)
    path = place / engine
    stranger.run("streetseg", "infer", "street.jpg", "-o", "masks", "--engine", path, cwd=hostile)
    assert (hostile / "masks").is_dir()
    regressed(stranger, hostile, "streetseg", "regress", path, path, "--rounds", "9", "--batches", "1", "--frames", "3")
    stranger.run("streetseg", "train", "--help", cwd=hostile)
    graph = last_line(stranger.run("streetseg", "export", "--model", "enet", "--size", SIZE, cwd=hostile))
    assert (hostile / graph).is_file()
    again = last_line(stranger.run("streetseg", "engine", "--model", "enet", "--size", SIZE, cwd=hostile))
    assert (hostile / again).is_file()
