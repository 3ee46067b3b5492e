"""The JSON beside every engine: written with it, checked before it is opened."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

from runtime.artifacts import ARTIFACTS, write_atomically
from runtime.errors import EngineError, LibraryError
from runtime.spec import MANIFEST_VERSION, BackendName, EngineManifest, Target, from_json, to_json

ENGINES = ARTIFACTS / "engines"
ENGINE_SUFFIX = ".engine"
CHECKSUM = "manifest_sha256"


def manifest_path(engine: str | Path) -> Path:
    """Where the manifest of an engine stands: `name.engine` -> `name.json`."""
    return Path(engine).with_suffix(".json")


def rebuild_command(manifest: EngineManifest) -> str:
    """What a user types to build that engine again on this machine."""
    size = f"{manifest.spec.preprocess.height}x{manifest.spec.preprocess.width}"
    return (
        f"make engine MODEL={manifest.spec.name} PRECISION={manifest.precision} BACKEND={manifest.backend} SIZE={size}"
    )


def write_engine(path: Path, engine: bytes, manifest: EngineManifest) -> None:
    """The engine and its manifest; the manifest last, so that an engine without one is an unfinished build."""
    write_atomically(path, engine)
    write_atomically(manifest_path(path), manifest_text(manifest).encode())


def manifest_text(manifest: EngineManifest) -> str:
    """A manifest as it is written: its JSON, and the sha256 of that, so that an edited one is found out."""
    return json.dumps({**json.loads(to_json(manifest)), CHECKSUM: _checksum(manifest)}, indent=1)


def read_manifest(path: str | Path) -> EngineManifest:
    """The manifest of the engine at `path`.

    Raises:
        EngineError: the engine or its manifest is missing or unreadable.
    """
    engine, beside = Path(path), manifest_path(path)
    if not engine.is_file():
        what = "is a folder" if engine.is_dir() else "does not exist"
        raise EngineError(f"engine {engine} {what}; build one: make engine MODEL=icnet PRECISION=fp16")
    if not beside.is_file():
        raise EngineError(f"engine {engine} has no manifest {beside.name} beside it; build it again with make engine")
    try:
        fields = json.loads(beside.read_text())
        checksum = fields.pop(CHECKSUM, None) if isinstance(fields, dict) else None
        manifest = from_json(EngineManifest, json.dumps(fields))
    except (ValueError, OSError) as error:
        raise EngineError(
            f"manifest {beside} is not readable ({error}); build the engine again with make engine"
        ) from None
    if checksum != _checksum(manifest) or manifest.version != MANIFEST_VERSION:
        raise EngineError(f"manifest {beside} is edited or of another version. Rebuild it: {rebuild_command(manifest)}")
    return manifest


def refuse_other_target(path: str | Path, manifest: EngineManifest, here: Target) -> None:
    """Compare the machine that an engine was built for with this one.

    Raises:
        EngineError: they differ; it says in what.
    """
    differs = [
        f"{field.name}: built for {getattr(manifest.target, field.name)}, this machine has {getattr(here, field.name)}"
        for field in dataclasses.fields(Target)
        if getattr(manifest.target, field.name) != getattr(here, field.name)
    ]
    if differs:
        raise EngineError(
            f"engine {Path(path).name} does not match this machine ({'; '.join(differs)}). "
            f"Rebuild it here: {rebuild_command(manifest)}"
        )


def verified_engine(path: str | Path, manifest: EngineManifest) -> bytes:
    """The engine's bytes, if they are the ones that were built.

    Raises:
        EngineError: their sha256 is another.
    """
    engine = Path(path).read_bytes()
    found = hashlib.sha256(engine).hexdigest()
    if found != manifest.engine_sha256:
        raise EngineError(
            f"engine {path} is damaged or edited: {len(engine)} bytes with sha256 {found[:12]}, its manifest says "
            f"{manifest.engine_sha256[:12]}. Rebuild it: {rebuild_command(manifest)}"
        )
    return engine


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


def installed_version(*distributions: str) -> str:
    """The version of the first of these packages that is installed, without importing it.

    Raises:
        LibraryError: none is installed.
    """
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise LibraryError(f"{distributions[0]} is not installed: pip install {distributions[0]}")


def _checksum(manifest: EngineManifest) -> str:
    return hashlib.sha256(to_json(manifest).encode()).hexdigest()


def this_system() -> str:
    """Operating system and instruction set, as a `Target` names them."""
    return f"{platform.system().lower()}-{platform.machine()}"


def _target_or_none(backend: BackendName) -> Target | None:
    from runtime.backend import backend_module
    from runtime.kernels import nvidia

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
