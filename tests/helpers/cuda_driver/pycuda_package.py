"""The real pycuda, compiled from its source package once, in seconds: without optimisation, Boost as one file."""

import re
import shutil
import subprocess
import sysconfig
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from runtime.artifacts import locked
from tests.helpers.cuda_driver import headers
from tests.helpers.cuda_driver.library import NAME

VERSION = "2026.1"
BOOST = "bpl-subset/bpl_subset"
OWN = ("src/cpp/cuda.cpp", "src/cpp/bitlog.cpp", "src/wrapper/wrap_cudadrv.cpp", "src/wrapper/mempool.cpp")
# As its setup.py sets them for the Boost that it brings.
DEFINES = (
    "BOOST_ALL_NO_LIB=1", "BOOST_THREAD_BUILD_DLL=1", "BOOST_MULTI_INDEX_DISABLE_SERIALIZATION=1",
    "BOOST_PYTHON_SOURCE=1", "BOOST_THREAD_DONT_USE_CHRONO=1", "boost=pycudaboost", "PYGPU_PACKAGE=pycuda",
    "PYGPU_PYCUDA=1",
)  # fmt: skip
COMPILER = ("g++", "-O0", "-w", "-fPIC", "-pthread")
AT_ONCE = 2  # compilers, a gigabyte each


def built(folder: Path) -> Path:
    """The folder to put on PYTHONPATH; fetched and compiled once for a Python and a NumPy.

    Raises:
        RuntimeError: it cannot be fetched, or does not compile.
    """
    tag = f"{sysconfig.get_config_var('SOABI')}-numpy{np.__version__.split('.')[0]}"
    made = folder / f"pycuda-{VERSION}-{tag}-imitated"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(made):
        if not (made / "pycuda").is_dir():
            include = headers.fetched(folder)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                _build(_source(Path(temporary)), include, made)
    return made


def driver_calls(package: Path) -> set[str]:
    """The calls of libcuda that it links to."""
    (driver,) = (package / "pycuda").glob("_driver.*.so")
    done = subprocess.run(["nm", "-D", "--undefined-only", driver], capture_output=True, text=True, check=True)
    return set(re.findall(r"\b(cu[A-Z]\w+)", done.stdout))


def _source(temporary: Path) -> Path:
    archive = headers.download(f"pycuda=={VERSION}", temporary, "--no-binary=pycuda", "--no-build-isolation")
    with tarfile.open(archive) as files:
        files.extractall(temporary, filter="data")
    return temporary / f"pycuda-{VERSION}"


def _build(source: Path, include: Path, made: Path) -> None:
    boost = source / BOOST
    if not (boost / "pycudaboost").exists():
        (boost / "pycudaboost").symlink_to("boost")  # under a name of its own, as its setup.py gives it
    (source / "boost.cpp").write_text("".join(f'#include "{path}"\n' for path in _boost_sources(boost)))
    sources = [*OWN, "boost.cpp"]
    paths = [source, source / "src/cpp", boost, include, np.get_include(), sysconfig.get_paths()["include"]]
    flags = [*(f"-I{path}" for path in paths), *(f"-D{define}" for define in DEFINES)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        objects = list(pool.map(lambda name: _compiled(source, name, flags), sources))
    _link(source, "_driver", [*objects, _named_driver(source)])
    _link(source, "_pvt_struct", [_compiled(source, "src/wrapper/_pvt_struct_v3.cpp", flags)])
    made.mkdir(exist_ok=True)
    shutil.move(source / "pycuda", made / "pycuda")


def _boost_sources(boost: Path) -> list[Path]:
    threads = boost / "libs/thread/src"
    found = [path for path in sorted((boost / "libs").rglob("*.cpp")) if threads not in path.parents]
    return found + [path for path in sorted((threads / "pthread").glob("*.cpp")) if path.name != "once_atomic.cpp"]


def _compiled(source: Path, name: str, flags: list[str]) -> str:
    out = str(source / f"{Path(name).stem}.o")
    _run([*COMPILER, *flags, "-c", str(source / name), "-o", out])
    return out


def _named_driver(source: Path) -> str:
    # An empty library of that name: the one that is compiled is found where pycuda is loaded.
    out = str(source / NAME)
    _run(["g++", "-shared", f"-Wl,-soname,{NAME}", "-x", "c++", "/dev/null", "-o", out])
    return out


def _link(source: Path, name: str, objects: list[str]) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    _run(
        ["g++", "-shared", "-pthread", "-Wl,--no-as-needed", *objects, "-o", str(source / "pycuda" / f"{name}{suffix}")]
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-300:])
        raise RuntimeError(f"pycuda {VERSION} does not compile: {first}")
