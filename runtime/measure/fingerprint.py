"""What a figure was measured on and of: without it a millisecond is no fact."""

import dataclasses
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime.cpu import cpu_features, cpu_name
from runtime.errors import LibraryError
from runtime.kernels import nvidia
from runtime.manifest import this_system
from runtime.spec import EngineManifest
from runtime.threads import count

PACKAGES = (
    "numpy", "opencv-python-headless", "numba", "openvino", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt",
    "tensorrt-rtx-cu13", "pycuda",
)  # fmt: skip
# Of an engine, what makes another network or another machine of it.
DECIDING = (
    "model",
    "weights_sha256",
    "precision",
    "backend",
    "network_size",
    "preprocess",
    "classes",
    "batch",
    "batch_free",
    "target",
)
# nvidia-smi's names of what a GPU is doing; clocks in MHz, throttling as a bit mask of reasons, 0 for none.
CLOCKS = ("clocks.sm", "clocks.mem", "clocks_event_reasons.active", "temperature.gpu", "power.draw")


def fingerprint(engine: Path, manifest: EngineManifest, frame_size: tuple[int, int], command: Sequence[str]) -> Any:
    """Machine, software, engine and command, as JSON values.

    Args:
        engine: its file.
        manifest: of that engine.
        frame_size: (height, width) of the frames that are measured.
        command: as it was typed, the program first.
    """
    return {
        "machine": machine(),
        "software": software(),
        "engine": engine_facts(engine, manifest),
        "frame_size": list(frame_size),
        "command": shlex.join(command),
        "revision": revision(),
        "measured": today(),
    }


def engine_facts(engine: Path, manifest: EngineManifest) -> dict[str, Any]:
    """What an engine is, as JSON values."""
    spec = manifest.spec
    size = [spec.preprocess.height, spec.preprocess.width]
    values = {name: getattr(spec.preprocess, name) for name in ("scale", "mean", "std", "channel_order")}
    return {
        "model": spec.name,
        "weights_sha256": spec.weights_sha256,
        "precision": manifest.precision,
        "executed": manifest.executed,
        "backend": manifest.backend,
        "network_size": size,
        "onnx_sha256": manifest.onnx_sha256,
        "engine_sha256": manifest.engine_sha256,
        "engine_mib": engine.stat().st_size / 2**20,
        "preprocess": {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()},
        "classes": [label.name for label in spec.classes],
        "batch": spec.batch,
        "batch_free": spec.batch_free,
        "target": dataclasses.asdict(manifest.target),
    }


def today() -> str:
    """The date, in UTC."""
    return datetime.now(timezone.utc).date().isoformat()


def machine() -> dict[str, Any]:
    """CPU, the threads that are used, and the GPU with its driver; None where there is none."""
    try:
        gpu: dict[str, Any] | None = {**nvidia.gpu()._asdict(), "driver_version": smi("driver_version")}
    except LibraryError:
        gpu = None
    return {
        "cpu": cpu_name(), "features": list(cpu_features()), "threads": count(), "system": this_system(), "gpu": gpu
    }  # fmt: skip


def software() -> dict[str, str]:
    """Versions of Python and of the packages that do the work, those that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def differences(stored: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """In what two fingerprints differ that decides a time, in words; the engine's bytes may, they are compared."""
    machines = ("cpu", "features", "threads", "system", "gpu")
    pairs = [(f"machine {key}", stored["machine"].get(key), here["machine"].get(key)) for key in machines]
    pairs += [
        (name, stored["software"].get(name), here["software"].get(name))
        for name in {**stored["software"], **here["software"]}
    ]
    pairs += [("frame size", stored["frame_size"], here["frame_size"])]
    found = [f"{what}: stored {old}, here {new}" for what, old, new in pairs if old != new]
    return engine_differences(stored["engine"], here["engine"], "stored", "here") + found


def engine_differences(base: dict[str, Any], other: dict[str, Any], first: str, second: str) -> list[str]:
    """In what two engines are not the same network for the same machine, in words.

    How it is computed may differ, and is what is compared: graph, bytes, executed types, blocks and strides.

    Args:
        base, other: what `engine_facts` gives; an older one lacks some facts, which are then not compared.
        first, second: what the two are called.
    """
    found: list[str] = []
    for key in DECIDING:
        old, new = base.get(key), other.get(key)
        if key not in base or key not in other or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            found += [f"engine {key} {n}: {first} {old.get(n)}, {second} {new.get(n)}" for n in names]
        else:
            found.append(f"engine {key}: {first} {_short(old)}, {second} {_short(new)}")
    return found


def _short(value: Any) -> str:
    return ", ".join(map(str, value[:12])) if isinstance(value, list) and len(value) > 2 else str(value)


def revision() -> str | None:
    """The commit of the folder that is worked in, with "+" where files differ from it; None outside of git."""
    commit = _output(["git", "rev-parse", "HEAD"])
    return commit and commit + ("+" if _output(["git", "status", "--porcelain", "--untracked-files=no"]) else "")


def load() -> dict[str, Any]:
    """How busy the machine is at this moment: processes that want a core, and the GPU's clocks and throttling."""
    running = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"running_processes": running, "gpu": smi(*CLOCKS)}


def command_line(module: str, argv: Sequence[str]) -> list[str]:
    """How a user types a module's command."""
    return [Path(sys.executable).name, "-m", module, *argv]


def smi(*fields: str) -> dict[str, str] | None:
    """What nvidia-smi tells of the first GPU, by its names of fields; None where it tells nothing."""
    line = _output(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
    return dict(zip(fields, map(str.strip, line.splitlines()[0].split(",")), strict=True)) if line else None


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
