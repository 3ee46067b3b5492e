"""An engine that fits any machine is proven on each by its results, once, when it is first opened there.

Engines of one CPU or GPU were proven where they were built, and are refused elsewhere.
"""

import json
from pathlib import Path
from typing import Any

from runtime.artifacts import key_of, write_atomically
from runtime.bars import say
from runtime.cpu import cpu_features, cpu_name
from runtime.json_values import read_json
from runtime.kernels import nvidia
from runtime.media.frames import read_frame
from runtime.proof import Computes, compared, expected_path, read_expected, refuse_wrong, told
from runtime.samples import STREET
from runtime.spec import ANY, EngineManifest

SUFFIX = ".proven.json"


def is_due(path: str | Path, manifest: EngineManifest) -> bool:
    """Whether an engine fits any machine and was not yet held to its proof on this."""
    return manifest.target.device == ANY and _key(manifest) not in _recorded(Path(path))


def prove_once(path: str | Path, manifest: EngineManifest, backend: Computes) -> None:
    """Hold an engine to what the referee computed at its build, if it fits any machine and was not held to it on this.

    What was built with `--no-proof` is taken as it is. What was built where it could not run is held to it, too.

    Raises:
        EngineError: it computes something else here, or the referee's logits are damaged.
    """
    path = Path(path)
    if not is_due(path, manifest):
        return
    if not expected_path(path).is_file():
        if manifest.proof.frames:
            say(f"{path.name} was never proven on this machine: {expected_path(path).name} is not beside it")
        return
    proof = compared(backend, read_frame(STREET), read_expected(path), manifest.executed)
    refuse_wrong(proof, path, manifest)
    say(f"{path.name}, first use on this machine: {told(proof)}")
    record(path, manifest)


def record(path: Path, manifest: EngineManifest) -> None:
    """Note beside an engine that it was proven on this machine; where nothing can be written, it is proven again."""
    known = {**_recorded(path), _key(manifest): _machine(manifest)}
    try:
        write_atomically(path.with_suffix(SUFFIX), json.dumps(known, indent=1).encode())
    except OSError as error:
        say(f"that it was proven here cannot be kept ({error.strerror}); it is proven again at each start")


def _machine(manifest: EngineManifest) -> dict[str, Any]:
    machine: dict[str, Any] = {"cpu": cpu_name(), "features": list(cpu_features())}
    if manifest.backend.startswith("tensorrt"):
        machine["gpu"] = list(nvidia.gpu())
    return machine


def _key(manifest: EngineManifest) -> str:
    return key_of({**_machine(manifest), "engine": manifest.engine_sha256})


def _recorded(path: Path) -> dict[str, Any]:
    # Damaged, or not there: nothing is known, and it is proven again.
    try:
        known = read_json(path.with_suffix(SUFFIX))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
