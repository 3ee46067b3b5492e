"""A bundle builds and runs an engine on a machine that has neither the checkout nor torch."""

import json
import shutil
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest

from engines import bundle
from runtime.errors import GraphError, OutputError
from tests.helpers.installed import ROOT, bare_environment, with_libraries
from tests.helpers.videos import moving, write_video

pytestmark = [pytest.mark.package, pytest.mark.slow]

WITHOUT = ("torch", "onnxscript", "onnx_ir", "safetensors", "functorch", "torchgen")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """INT8, of the shipped weights and table."""
    folder = tmp_path_factory.mktemp("graph")
    made = ("-m", "export.to_onnx", "--model", "enet", "--precision", "fp16", "--size", "96x128")
    fp16 = python(*made, cwd=folder).splitlines()[-1]
    return folder / python("-m", "calib.qdq", fp16, cwd=folder).splitlines()[-1]


def python(*words, cwd):
    environment = {**bare_environment(), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def made(graph, wheel, tmp_path):
    """A bundle, and the venv in it, in which the libraries are, but neither torch nor the project: pip adds that."""
    folder = bundle.make_bundle(bundle.Source(graph, wheel), tmp_path / "robot")
    return folder, with_libraries(folder / "venv", WITHOUT)


def install(folder, *options):
    command = ["bash", str(folder / "install.sh"), *options]
    return subprocess.run(command, cwd="/", env=bare_environment(), capture_output=True, text=True, timeout=600)


def test_a_bundle_builds_its_engine_without_torch_and_runs_a_video(made, tmp_path):
    folder, robot = made
    there = "from importlib.util import find_spec; print([name for name in ('torch', 'runtime') if find_spec(name)])"
    assert robot.run("python", "-c", there, cwd=folder).stdout == "[]\n"
    done = install(folder, "--wheels", str(tmp_path))
    assert done.returncode == 0, done.stderr
    engine = done.stdout.splitlines()[-1]
    assert engine.endswith(".engine")
    mask = cv2.imread(str(next((folder / "masks").glob("*_ids.png"))), cv2.IMREAD_UNCHANGED)
    assert len(np.unique(mask)) > 3
    write_video(folder / "video.mp4", moving(5))
    words = ("runtime.infer", "video.mp4", "-o", "out", "--engine", engine, "--json")
    told = json.loads(robot.python_m(*words, cwd=folder).stdout)
    assert told and next((folder / "out").glob("video*overlay*.mp4"))


def test_a_copy_that_is_not_whole_is_refused_before_anything_is_installed(graph, wheel, tmp_path):
    folder = bundle.make_bundle(bundle.Source(graph, wheel), tmp_path / "robot")
    with (folder / graph.name).open("r+b") as file:
        file.write(b"x")
    done = install(folder)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "error: this bundle is not whole; copy it again"
    assert not (folder / "venv").exists()


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--wheel", "x"), 2, "error: there is no option --wheel; ./install.sh --help"),
        (("--wheels",), 2, "error: --wheels needs a value; ./install.sh --help"),
        (("--wheels", "nowhere"), 1, "error: --wheels names no folder"),
        (("--python", "python9"), 1, "error: there is no python9; name one: --python PYTHON"),
    ],
)
def test_a_wrong_option_is_one_line(graph, wheel, tmp_path, options, code, told):
    done = install(bundle.make_bundle(bundle.Source(graph, wheel), tmp_path / "robot"), *options)
    assert (done.returncode, done.stderr.splitlines()) == (code, [told])


def test_a_tar_holds_the_same_folder_with_the_table_that_the_graph_was_made_with(graph, wheel, tmp_path):
    path = bundle.make_bundle(bundle.Source(graph, wheel), tmp_path / "robot.tar.gz")
    with tarfile.open(path) as tar:
        names = {name.removeprefix("robot/") for name in tar.getnames()}
    assert {graph.name, wheel.name, "enet-camvid.json", "install.sh", "README.md", "SHA256SUMS"} <= names
    assert [entry.name for entry in tmp_path.iterdir()] == ["robot.tar.gz"]


def test_what_is_no_bundle_is_not_overwritten_and_an_earlier_bundle_is(graph, wheel, tmp_path):
    source = bundle.Source(graph, wheel)
    bundle.make_bundle(source, tmp_path / "robot")
    (tmp_path / "robot" / "old").touch()
    bundle.make_bundle(source, tmp_path / "robot")
    assert not (tmp_path / "robot" / "old").exists()
    for place in (tmp_path / "own", tmp_path / "own.tar"):
        shutil.copytree(tmp_path / "robot", place) if not place.suffix else place.write_text("mine")
    (tmp_path / "own" / "SHA256SUMS").unlink()
    for place in (tmp_path / "own", tmp_path / "own.tar"):
        with pytest.raises(OutputError, match="is there and is no bundle"):
            bundle.make_bundle(source, place)


def test_a_graph_or_wheel_that_is_not_there_is_one_line(graph, wheel, tmp_path):
    with pytest.raises(GraphError, match="does not exist; export one"):
        bundle.make_bundle(bundle.Source(tmp_path / "no.onnx", wheel), tmp_path / "robot")
    with pytest.raises(OutputError, match=r"no\.whl: does not exist"):
        bundle.make_bundle(bundle.Source(graph, tmp_path / "no.whl"), tmp_path / "robot")
    assert not (tmp_path / "robot").exists()
