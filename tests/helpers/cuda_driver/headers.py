"""Packages of the index that are no wheel of ours to install: CUDA's headers, and files of a package's source."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from runtime.artifacts import locked

# Whose cuda.h and cudaProfiler.h pycuda and the imitated driver are compiled against, whatever toolkit is here.
PACKAGES = ("nvidia-cuda-runtime==13.0.96", "nvidia-cuda-profiler-api==13.0.85")


def fetched(folder: Path) -> Path:
    """The folder of CUDA's headers; fetched once.

    Raises:
        RuntimeError: pip cannot fetch them.
    """
    made = folder / "headers"
    with locked(made):
        if not made.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                for package in PACKAGES:
                    download(package, Path(temporary), "--only-binary=:all:")
                _unpack(Path(temporary), made)
    return made


def download(package: str, to: Path, *options: str) -> Path:
    """The file of one package.

    Raises:
        RuntimeError: pip cannot fetch it.
    """
    before = set(to.iterdir())
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, *options, "--dest", str(to), package], capture_output=True, text=True, check=False)
    new = set(to.iterdir()) - before
    if done.returncode or not new:
        reason = (done.stderr.strip().splitlines() or ["no file"])[-1]
        raise RuntimeError(f"pip cannot fetch {package}, which the imitated driver is built with: {reason}")
    return new.pop()


def _unpack(wheels: Path, made: Path) -> None:
    new = wheels / "include"
    for wheel in list(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(wheels / "unpacked")
    for include in sorted((wheels / "unpacked").glob("nvidia/*/include")):
        shutil.copytree(include, new, dirs_exist_ok=True)
    new.rename(made)
