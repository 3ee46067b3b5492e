"""A library that is not installed is one line with the extra that brings it, whichever command wants it."""

import os
import shutil
import subprocess
import sys

import pytest

from runtime.samples import STREET
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_graph
from tests.helpers.installed import ROOT, bare_environment

# What an interpreter without the library raises; on the path of a subprocess, it is loaded before anything else.
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {library!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""
GRAPH = ("engines.build", "any.onnx", "--precision", "fp32", "--folder", "new", "--no-proof", "--backend")
EXPORT = ("export.to_onnx", "--model", "enet", "--size", "64x128")
# What is missing, the command that wants it, and what of the answer names how to get it.
CASES = [
    ("torch", EXPORT, "[export]"),
    ("torch", ("export.train", "--help"), "[export]"),
    ("torch", ("export.prune", "--help"), "[export]"),
    ("torch", ("export.balance", "--help"), "[export]"),
    ("torch", ("export.ablation", "--help"), "[export]"),
    ("torch", ("export.to_torch", "--model", "enet"), "[export]"),
    ("safetensors", EXPORT, "[export]"),
    ("safetensors", ("export.train", "--help"), "[export]"),
    ("onnxscript", EXPORT, "[export]"),
    ("onnx", EXPORT, "[build]"),
    ("onnx", ("calib.qdq", "any.onnx"), "[build]"),
    ("onnx", ("calib.ranges", "any.onnx", "--data", "."), "[build]"),
    ("onnx", ("calib.sensitivity", "--help"), "[build]"),
    ("onnx", ("calib.speed", "--help"), "[build]"),
    ("onnx", ("calib.methods", "--help"), "[build]"),
    ("onnx", (*GRAPH, "openvino"), "[build]"),
    ("onnxruntime", (*GRAPH, "onnxruntime"), "[build]"),
    ("openvino", (*GRAPH, "openvino"), "pip install"),
    ("numba", ("calib.ranges", "any.onnx", "--data", "."), "pip install"),
    ("cv2", ("runtime.infer", "street.jpg"), "pip install"),
    ("cv2", ("export.train", "--help"), "pip install"),
    ("av", ("runtime.infer", "video.mp4"), "[video]"),
    ("ray", ("runtime.fleet", "street.jpg"), "[fleet]"),
    ("pyarrow", ("runtime.fleet", "street.jpg"), "[stats]"),
    ("s3fs", ("runtime.fleet", "s3://bucket/in/"), "[fleet]"),
]


def run_without(library, words, folder):
    blocker = folder / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(BLOCKER.format(library=library))
    environment = {**bare_environment(), "PYTHONPATH": os.pathsep.join([str(blocker), str(ROOT)])}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a picture, a file of no frames, a tiny graph and its engine."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(STREET, folder / "street.jpg")
    (folder / "video.mp4").write_bytes(b"\0" * 64)
    (folder / "any.onnx").write_bytes(tiny_graph(None, "fp32"))
    (folder / "artifacts/engines").mkdir(parents=True)
    built_engine(folder / "artifacts/engines")
    return folder


@pytest.mark.package
@pytest.mark.parametrize(
    ("library", "words", "told"), CASES, ids=[f"{library}-{words[0]}" for library, words, _ in CASES]
)
def test_a_library_that_is_missing_is_one_line_that_says_how_to_get_it(place, tmp_path, library, words, told):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    done = run_without(library, words, tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert last.startswith("error: ") and told in last, last
