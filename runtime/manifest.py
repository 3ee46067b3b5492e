"""The JSON beside every engine: written with it, checked before it is opened."""

import dataclasses
import hashlib
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.artifacts import ARTIFACTS, sha256_of, write_atomically
from runtime.commands import ADOPTED, command
from runtime.errors import EngineError, LibraryError
from runtime.json_values import TOLD, read_json, told
from runtime.spec import MANIFEST_VERSION, READ_VERSIONS, EngineManifest, ModelSpec, Target, from_json, to_json
from runtime.texts import shown
from runtime.versions import version_of

ENGINES = ARTIFACTS / "engines"
ENGINE_SUFFIX = ".engine"
CHECKSUM = "manifest_sha256"
SHIPPED_WEIGHTS = Path(__file__).parents[1] / "export" / "weights"  # read, where it is; the package is not imported
RANDOM = "random"  # how the checksum of weights that are none begins

newest_engine: Callable[..., Path]  # of `runtime.lookup`, by the name that programs import it by


def manifest_path(engine: str | Path) -> Path:
    """Where the manifest of an engine stands: `name.engine` -> `name.json`."""
    path = Path(engine)
    return path.with_suffix(".json") if path.name else path / ".json"  # of "." and "/", which are folders


def rebuild_command(manifest: EngineManifest) -> str:
    """What a user types to build that engine again on this machine."""
    spec = manifest.spec
    if spec.source.startswith(ADOPTED):
        onnx = spec.source.removeprefix(ADOPTED)
        return command("engine", onnx=onnx, precision=manifest.precision, backend=manifest.backend)
    return command(
        "engine",
        model=spec.name,
        precision=manifest.precision,
        backend=manifest.backend,
        size=(spec.preprocess.height, spec.preprocess.width),
        batch=spec.batch_shown if spec.batch > 1 else None,
        weights=None if _are_default(spec) else "path",
    )


def _build_command() -> str:
    return command("engine", model="...", precision="...")


def _are_default(spec: ModelSpec) -> bool:
    # Whether that network gets these weights without being told. The package that ships them may not be here.
    shipped = SHIPPED_WEIGHTS / f"{spec.name}-camvid.safetensors"
    if not shipped.is_file():
        return spec.weights_sha256.startswith(RANDOM)
    return sha256_of(shipped) == spec.weights_sha256


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
    try:
        is_file = engine.is_file()
    except OSError as error:  # its name is too long, or a folder on its way may not be searched
        raise EngineError(f"engine {shown(engine)[:TOLD]} cannot be read ({error.strerror})") from None
    if not is_file:
        what = "is a folder" if engine.is_dir() else "does not exist"
        raise EngineError(f"engine {engine} {what}; build one: {command('engine', model='icnet', precision='fp16')}")
    if not beside.is_file():
        raise EngineError(
            f"engine {engine} has no manifest {beside.name} beside it; build it again: {_build_command()}"
        )
    fields: Any = None
    try:
        fields = read_json(beside)
        checksum = fields.pop(CHECKSUM, None) if isinstance(fields, dict) else None
        manifest = from_json(EngineManifest, json.dumps(fields))
    except (ValueError, OSError) as error:
        version = fields.get("version") if isinstance(fields, dict) else MANIFEST_VERSION
        if version not in READ_VERSIONS:
            raise EngineError(
                f"manifest {beside} is of version {told(version)}, this program reads "
                f"{' and '.join(map(str, READ_VERSIONS))}; "
                f"build it again: {_build_command()}"
            ) from None
        raise EngineError(f"manifest {beside} is not readable ({error}); build it again: {_build_command()}") from None
    if checksum != _checksum(manifest) or manifest.version not in READ_VERSIONS:
        raise EngineError(f"manifest {beside} is edited or of another version. Rebuild it: {rebuild_command(manifest)}")
    return manifest


def target_differences(manifest: EngineManifest, here: Target) -> list[str]:
    """In what the machine that an engine was built for differs from this one; empty where it is this one."""
    return [
        f"{field.name}: built for {getattr(manifest.target, field.name)}, this machine has {getattr(here, field.name)}"
        for field in dataclasses.fields(Target)
        if getattr(manifest.target, field.name) != getattr(here, field.name)
    ]


def refuse_other_target(path: str | Path, manifest: EngineManifest, here: Target) -> None:
    """Compare the machine that an engine was built for with this one.

    Raises:
        EngineError: they differ; it says in what.
    """
    differs = target_differences(manifest, here)
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


def installed_version(*distributions: str) -> str:
    """The version of the first of these packages that is installed, without importing it.

    Raises:
        LibraryError: none is installed.
    """
    for name in distributions:
        if found := version_of(name):
            return found
    raise LibraryError(f"{distributions[0]} is not installed: pip install {distributions[0]}")


def _checksum(manifest: EngineManifest) -> str:
    return hashlib.sha256(to_json(manifest).encode()).hexdigest()


def this_system() -> str:
    """Operating system and instruction set, as a `Target` names them."""
    return f"{platform.system().lower()}-{platform.machine()}"


if not TYPE_CHECKING:  # it would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        # What finds it reads manifests and stands above this file; the package offers it.
        if name == "newest_engine":
            return sys.modules[__package__].newest_engine
        raise AttributeError(f"module 'runtime.manifest' has no attribute {name!r}")
