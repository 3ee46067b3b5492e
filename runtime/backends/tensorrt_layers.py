"""The layers that TensorRT executes for a frame, as its builder told them: no engine tells them without a GPU."""

import json
from pathlib import Path
from typing import Any

from runtime.artifacts import write_atomically
from runtime.backends.layer import Layer
from runtime.errors import EngineError
from runtime.json_values import read_json
from runtime.manifest import rebuild_command
from runtime.spec import EngineManifest

SUFFIX = ".plan.json"
ROLES = ("work", "cast", "reorder", "quantizer", "view")


def layers_path(engine: Path) -> Path:
    """Where the layers of an engine stand: `name.engine` -> `name.plan.json`."""
    return engine.with_suffix(SUFFIX)


def keep_layers(engine: Path, layers: tuple[Layer, ...], engine_sha256: str) -> None:
    """Write what a build was told beside its engine; of a build that was told nothing no file is left."""
    path = layers_path(engine)
    if not layers:
        path.unlink(missing_ok=True)
        return
    write_atomically(path, json.dumps({"engine_sha256": engine_sha256, "layers": layers}).encode())


def kept_layers(engine: Path, manifest: EngineManifest) -> list[Layer]:
    """The layers of an engine; none where its build was told none.

    Raises:
        EngineError: the file is damaged, or of another engine.
    """
    path = layers_path(engine)
    if not path.is_file():
        return []
    try:
        told = read_json(path)
    except (ValueError, OSError) as error:
        raise EngineError(f"{path} is not readable ({error}); build it again: {rebuild_command(manifest)}") from None
    layers: Any = told.get("layers") if isinstance(told, dict) else None
    if not _are_layers(layers) or told.get("engine_sha256") != manifest.engine_sha256:
        raise EngineError(f"{path} is damaged or of another engine; build it again: {rebuild_command(manifest)}")
    return [Layer(role, nbytes) for role, nbytes in layers]


def _are_layers(found: object) -> bool:
    if not isinstance(found, list):
        return False
    pairs = [each for each in found if isinstance(each, list) and len(each) == 2]
    return len(pairs) == len(found) and all(
        role in ROLES and type(nbytes) is int and nbytes >= 0 for role, nbytes in pairs
    )
