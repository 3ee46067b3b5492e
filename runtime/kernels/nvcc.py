"""Where CUDA's compiler is: on the PATH, in CUDA_HOME, where its packages put it, or in NVIDIA's wheels."""

import os
import re
import shutil
import site
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import LibraryError

NAME = "nvcc.exe" if os.name == "nt" else "nvcc"
# Debian's and NVIDIA's packages, conda's, HPC SDK's; of several toolkits the newest.
PREFIXES = (
    ("/usr/local", "cuda"), ("/usr/local", "cuda-*"), ("/opt", "cuda"), ("/usr/lib", "cuda"),
    ("/usr/lib", "nvidia-cuda-toolkit"), ("/opt/nvidia/hpc_sdk", "Linux_*/*/compilers"),
)  # fmt: skip
VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CONDA_PREFIX")
# Of nvidia-cuda-nvcc from CUDA 13 on. Those of CUDA 12 (nvidia-cuda-nvcc-cu12) hold the assembler, and no compiler.
WHEELS = ("nvidia/cu*/bin", "nvidia/cuda_nvcc/bin")
INSTALL = "install the CUDA toolkit, or from PyPI: pip install nvidia-cuda-nvcc nvidia-cuda-cccl"


def nvcc() -> str:
    """The compiler's path: the first that is there, in the order of this file's first line.

    Raises:
        LibraryError: there is none; it says where it was sought.
    """
    found = next((str(path) for path in _candidates() if path.is_file() and os.access(path, os.X_OK)), None)
    if found is None:
        named = ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)) or "CUDA_HOME"
        raise LibraryError(
            f"nvcc is not on the PATH, in {named}, in /usr/local/cuda or in NVIDIA's wheels{_of_cuda_12()}: {INSTALL}"
        )
    return found


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which(NAME):
        yield Path(on_path)
    for variable in VARIABLES:
        if folder := os.environ.get(variable):
            yield Path(folder) / "bin" / NAME
    for prefix, pattern in PREFIXES:
        yield from (folder / "bin" / NAME for folder in _newest_first(prefix, pattern))
    for packages in _site_packages():
        for wheel in WHEELS:
            yield from (folder / NAME for folder in _newest_first(packages, wheel))


def _newest_first(folder: str, pattern: str) -> list[Path]:
    # By the numbers in the name: cuda-13.0 before cuda-12.9 and cuda-9.2.
    def version(path: Path) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", str(path))]

    return sorted(Path(folder).glob(pattern), key=version, reverse=True)


def _site_packages() -> list[str]:
    return list(dict.fromkeys((sysconfig.get_path("purelib"), *site.getsitepackages(), site.getusersitepackages())))


def _of_cuda_12() -> str:
    there = any((Path(folder) / "nvidia/cuda_nvcc/bin/ptxas").is_file() for folder in _site_packages())
    return " (the wheel of CUDA 12 that is installed holds no nvcc)" if there else ""
