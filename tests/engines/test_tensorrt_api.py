"""TensorRT itself cannot run here, but its Python bindings say what they take."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import cuda_on_cpu, tensorrt_bindings

ROOT = Path(__file__).parents[2]
SOURCES = (
    "engines/tensorrt_build.py",
    "engines/tensorrt_precision.py",
    "engines/tensorrt_timings.py",
    "runtime/backends/tensorrt_engine.py",
    "runtime/backends/tensorrt_library.py",
)
# Names that are on objects of ours or of Python, and by chance in the library too.
OUR_OWN = {"clear", "pop", "update"}
RTX_ALONE = {"create_runtime_config", "set_flag"}  # of its JIT cache, and to be capturable: TensorRT has neither
TENSORRT_ALONE = {"combine", "create_timing_cache", "set_timing_cache"}  # TensorRT-RTX measures nothing
BINDINGS = ("tensorrt_bindings.tensorrt", "tensorrt_rtx_bindings.tensorrt_rtx")
needs_compiler = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler")


def drive(backend, module, *, paths=(), libraries=None):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}
    if libraries is not None:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    command = [sys.executable, "-m", "tests.helpers.tensorrt_drive", backend, module]
    folder = paths[0] if len(paths) > 1 else ROOT
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def touched(done):
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]
    names = json.loads(done.stdout)
    return set(names["used"]), set(names["known"])


def unchecked(used, known):
    """What our code says, the library has, and nothing led through: a call that this test would not see."""
    trees = [ast.parse((ROOT / path).read_text()) for path in SOURCES]
    said = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return said & known - used - OUR_OWN


@pytest.fixture(scope="module", params=tensorrt_bindings.VERSIONS)
def binding(request, tmp_path_factory):
    """PYTHONPATH and LD_LIBRARY_PATH of one release of TensorRT."""
    if cuda_on_cpu.compiler() is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("stubs")
    libraries = tensorrt_bindings.stubs(request.param, folder, cuda_on_cpu.compiler())
    return tensorrt_bindings.fetched(request.param), libraries


def test_every_name_and_call_is_one_of_tensorrt(binding):
    path, libraries = binding
    used, known = touched(drive("tensorrt", BINDINGS[0], paths=(path,), libraries=libraries))
    assert unchecked(used, known) == RTX_ALONE


def test_every_name_and_call_is_one_of_tensorrt_rtx():
    used, known = touched(drive("tensorrt-rtx", BINDINGS[1]))
    assert unchecked(used, known) == TENSORRT_ALONE


def test_the_bindings_are_the_real_ones_of_those_releases(binding):
    path, _ = binding
    assert (path / f"tensorrt_cu13_bindings-{path.name.rpartition('-')[2]}.dist-info").is_dir()


@pytest.mark.parametrize(
    ("path", "right", "wrong", "error"),
    [
        (SOURCES[0], "set_memory_pool_limit(", "set_memory_pool_limits(", "has no set_memory_pool_limits"),
        (SOURCES[2], "set_timing_cache(self._cache, False)", "set_timing_cache(self._cache)", "does not take"),
        (SOURCES[0], "trt.BuilderFlag.TF32", "trt.BuilderFlag.FP16", "FP16"),
        (SOURCES[0], "WORKSPACE, WORKSPACE)", "WORKSPACE)", "does not take"),
        (SOURCES[0], "config.progress_monitor = progress", "config.progress_monitor = 1", "does not take"),
        (SOURCES[0], "def phase_finish(self, phase_name: str)", "def phase_finish(self, phase: str)", "has no phase"),
        (SOURCES[3], "get_tensor_mode(name)", "get_tensor_mode(0)", "does not take"),
        (SOURCES[3], "execute_async_v3(stream)", "execute_async_v2(stream)", "has no execute_async_v2"),
        (SOURCES[1], "tensor.dtype for", "tensor.type for", "has no type"),
    ],
)
@needs_compiler
def test_this_check_fails_on_a_wrong_name_or_call(path, right, wrong, error, tmp_path):
    version = tensorrt_bindings.VERSIONS[1]
    for package in ("engines", "runtime", "tests/helpers"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    source = (tmp_path / path).read_text()
    assert right in source
    (tmp_path / path).write_text(source.replace(right, wrong))
    libraries = tensorrt_bindings.stubs(version, tmp_path, cuda_on_cpu.compiler())
    done = drive("tensorrt", BINDINGS[0], paths=(tmp_path, tensorrt_bindings.fetched(version)), libraries=libraries)
    assert done.returncode == 1
    assert error in done.stderr


def test_without_a_package_index_the_failure_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt_bindings, "CACHE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"pip cannot fetch tensorrt-cu13-bindings==0\.0, which the tests"):
        tensorrt_bindings.fetched("0.0")
