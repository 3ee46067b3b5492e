"""The NVIDIA driver, imitated on the CPU, and the real pycuda over it; `environment` puts a program on them."""

import os
import shutil
import sys
from pathlib import Path

from runtime.artifacts import locked, write_atomically
from tests.helpers.cuda_driver import library, pycuda_package
from tests.helpers.cuda_driver import nvcc as compiler

HERE = Path(__file__).parent
CACHE = Path(__file__).parents[3] / "artifacts" / "cache" / "imitated-cuda"
BETWEEN = "--"  # what is printed by one of `rules` and by the next


def missing() -> str | None:
    """Which program is not here that it takes: the probe on which its tests are skipped."""
    if sys.platform != "linux":
        return "the imitated driver is a library of Linux"
    return next((f"there is no {name}" for name in ("g++", "nm") if shutil.which(name) is None), None)


def environment(folder: Path = CACHE) -> dict[str, str]:
    """The environment of a process that finds the imitated driver, pycuda, nvcc and TensorRT; all is built once.

    Raises:
        RuntimeError: what pycuda is built from cannot be fetched, or does not compile.
    """
    package = pycuda_package.built(folder)
    driver = library.built(folder, pycuda_package.driver_calls(package))
    toolkit = _toolkit(folder)
    paths = [str(_site(folder)), str(package), str(HERE.parents[2])]
    return os.environ | {
        "LD_LIBRARY_PATH": str(driver),
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": f"{toolkit / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "CUDA_HOME": str(toolkit),
        "XDG_CACHE_HOME": str(folder / "user"),
    }


def driver_file() -> Path:
    """The library, for a process that has another environment."""
    return Path(environment()["LD_LIBRARY_PATH"], library.NAME)


def _toolkit(folder: Path) -> Path:
    nvcc = folder / "toolkit" / "bin" / "nvcc"
    # Every engine that is opened asks for the version: the shell answers that.
    answer = f'case "$*" in *--version*) echo "{compiler.version()}"; exit;; esac'
    with locked(nvcc):  # or another process finds it while it may not be run yet
        _write(nvcc, f'#!/bin/sh\n{answer}\nexec "{sys.executable}" -I "{HERE / "nvcc.py"}" "$@"\n')
        nvcc.chmod(0o755)
    return nvcc.parents[1]


def _site(folder: Path) -> Path:
    site = folder / "site"
    for name in ("tensorrt", "tensorrt_rtx"):
        _write(
            site / f"{name}.py",
            f"from tests.helpers.cuda_driver import imitated_tensorrt\n\nimitated_tensorrt.install({name!r})\n",
        )
    version = "Metadata-Version: 2.1\nName: tensorrt\nVersion: 11.4.0.106\n"
    _write(site / "tensorrt-11.4.0.106.dist-info" / "METADATA", version)
    return site


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        write_atomically(path, text.encode())
