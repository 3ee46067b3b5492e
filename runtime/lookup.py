"""Which of the engines on disk is this machine's: above the manifests that it reads and the backends that it asks."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from runtime.backend import backend_module
from runtime.cli import log
from runtime.commands import command
from runtime.errors import EngineError, LibraryError
from runtime.kernels import nvidia
from runtime.manifest import ENGINE_SUFFIX, ENGINES, manifest_path, read_manifest, target_differences
from runtime.spec import BackendName, EngineManifest, Target

NAMED = 3  # other engines that a warning names


class Found(NamedTuple):
    """An engine on disk. `fault` tells why this machine does not open it, and is empty where it does."""

    path: Path
    manifest: EngineManifest | None  # None: it cannot be read
    fault: str
    asked_ns: int  # when it was built, or asked to be built, last; since 1970


def found_engines(folder: Path = ENGINES) -> list[Found]:
    """Every engine in the folder, the one that was built, or asked to be built, last first."""
    here = cache(_target_or_fault)
    found = [_found(path, here) for path in folder.glob(f"*{ENGINE_SUFFIX}")]
    return sorted(found, key=lambda each: (each.asked_ns, each.path), reverse=True)


def newest_engine(folder: Path = ENGINES) -> Path:
    """The engine of this machine that was built, or asked to be built, last.

    Raises:
        EngineError: there is none; it names the command that builds one.
    """
    return _fitting(folder)[0].path


def chosen_engine(folder: Path = ENGINES) -> Path:
    """The newest engine as `newest_engine` finds it, told in one line on stderr; another line where several fit.

    Raises:
        EngineError: there is none; it names the command that builds one.
    """
    newest, *others = _fitting(folder)
    log(f"engine {newest.path.stem}: {described(newest.manifest)}")
    if others:
        names = ", ".join(other.path.stem for other in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        log(f"warning: {len(others)} more fit this machine ({names}{more}); --engine takes one, see streetseg engines")
    return newest.path


def described(manifest: EngineManifest | None) -> str:
    """An engine in a few words: network, size, precision and backend."""
    if manifest is None:
        return "unreadable"
    size = f"{manifest.spec.preprocess.height}x{manifest.spec.preprocess.width}"
    batch = f", {manifest.spec.batch_shown} frames at once" if manifest.spec.batch > 1 else ""
    return f"{manifest.spec.name}, {size}{batch}, {manifest.precision} on {manifest.backend}"


def _fitting(folder: Path) -> list[Found]:
    found = found_engines(folder)
    _warn_of_unreadable([each for each in found if each.manifest is None])
    fitting = [each for each in found if not each.fault]
    if not fitting:
        build = command("engine", model="icnet", precision="fp16")
        newest = next((f"; {each.path.stem}: {each.fault}" for each in found if each.manifest), "")
        raise EngineError(f"no engine for this machine in {folder}{newest}. Build one: {build}")
    return fitting


def _warn_of_unreadable(found: list[Found]) -> None:
    if found:
        more = f", and {len(found) - 1} more" * (len(found) > 1)
        log(f"warning: passed over: {found[0].fault}{more}")


def _found(path: Path, here: Callable[[BackendName], Target | str]) -> Found:
    # Looking for the newest engine, a damaged neighbour is no reason to stop; opening it by name is.
    try:
        manifest = read_manifest(path)
        asked_ns = manifest_path(path).stat().st_mtime_ns
    except (EngineError, OSError) as error:
        return Found(path, None, str(error), 0)
    return Found(path, manifest, _fault(manifest, here(manifest.backend)), asked_ns)


def _fault(manifest: EngineManifest, here: Target | str) -> str:
    if isinstance(here, str):
        return here
    if manifest.spec.batch != 1 and not manifest.spec.batch_free:
        return f"it takes {manifest.spec.batch} frames at once: open it by its path, for segment_batch"
    return "; ".join(target_differences(manifest, here))


def _target_or_fault(backend: BackendName) -> Target | str:
    try:
        if backend == "tensorrt-rtx":  # its engines fit every machine, but not every machine has a GPU
            nvidia.gpu()
        return backend_module(backend).this_target(backend)
    except LibraryError as error:
        return str(error)
