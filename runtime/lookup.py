"""Which of the engines on disk is this machine's: above the manifests that it reads and the backends that it asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from runtime.backend import backend_module
from runtime.errors import EngineError, LibraryError
from runtime.kernels import nvidia
from runtime.manifest import ENGINE_SUFFIX, ENGINES, manifest_path, read_manifest
from runtime.spec import BackendName, Target


def newest_engine(folder: Path = ENGINES) -> Path:
    """The engine of this machine that was built, or asked to be built, last.

    Raises:
        EngineError: there is none; it names the command that builds one.
    """
    here = cache(_target_or_none)
    found = []
    for path in folder.glob(f"*{ENGINE_SUFFIX}"):
        with _skipping_unreadable():
            manifest = read_manifest(path)
            if manifest.spec.batch == 1 and manifest.target == here(manifest.backend):
                found.append((manifest_path(path).stat().st_mtime_ns, path))
    if not found:
        raise EngineError(f"no engine for this machine in {folder}. Build one: make engine MODEL=icnet PRECISION=fp16")
    return max(found)[1]


def _target_or_none(backend: BackendName) -> Target | None:
    try:
        if backend == "tensorrt-rtx":  # its engines fit every machine, but not every machine has a GPU
            nvidia.gpu()
        return backend_module(backend).this_target(backend)
    except LibraryError:
        return None


@contextmanager
def _skipping_unreadable() -> Iterator[None]:
    # Looking for the newest engine, a damaged neighbour is no reason to stop; opening it by name is.
    try:
        yield
    except EngineError:
        pass
