"""What a figure was measured on and of: without it a millisecond is no fact."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime.backends.openvino import cpu_features, cpu_name
from runtime.errors import LibraryError
from runtime.kernels import nvidia
from runtime.manifest import this_system
from runtime.spec import EngineManifest
from runtime.threads import count

PACKAGES = (
    "numpy", "opencv-python-headless", "numba", "openvino", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt",
    "tensorrt-rtx-cu13", "pycuda",
)  # fmt: skip
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
        "engine": {
            "model": manifest.spec.name,
            "weights_sha256": manifest.spec.weights_sha256,
            "precision": manifest.precision,
            "executed": manifest.executed,
            "backend": manifest.backend,
            "network_size": [manifest.spec.preprocess.height, manifest.spec.preprocess.width],
            "onnx_sha256": manifest.onnx_sha256,
            "engine_sha256": manifest.engine_sha256,
            "engine_mib": engine.stat().st_size / 2**20,
        },
        "frame_size": list(frame_size),
        "command": shlex.join(command),
        "revision": revision(),
    }


def machine() -> dict[str, Any]:
    """CPU, the threads that are used, and the GPU with its driver; None where there is none."""
    try:
        gpu: dict[str, Any] | None = {**nvidia.gpu()._asdict(), "driver_version": _smi("driver_version")}
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
    deciding = {
        "machine": ("cpu", "features", "threads", "system", "gpu"),
        "engine": ("model", "weights_sha256", "precision", "backend", "network_size"),
    }
    pairs = [
        (f"{part} {key}", stored[part].get(key), here[part].get(key)) for part in deciding for key in deciding[part]
    ]
    pairs += [
        (name, stored["software"].get(name), here["software"].get(name))
        for name in {**stored["software"], **here["software"]}
    ]
    pairs += [("frame size", stored["frame_size"], here["frame_size"])]
    return [f"{what}: stored {old}, here {new}" for what, old, new in pairs if old != new]


def revision() -> str | None:
    """The commit of the folder that is worked in, with "+" where files differ from it; None outside of git."""
    commit = _output(["git", "rev-parse", "HEAD"])
    return commit and commit + ("+" if _output(["git", "status", "--porcelain", "--untracked-files=no"]) else "")


def load() -> dict[str, Any]:
    """How busy the machine is at this moment: processes that want a core, and the GPU's clocks and throttling."""
    running = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"running_processes": running, "gpu": _smi(*CLOCKS)}


def command_line(module: str, argv: Sequence[str]) -> list[str]:
    """How a user types a module's command."""
    return [Path(sys.executable).name, "-m", module, *argv]


def _smi(*fields: str) -> dict[str, str] | None:
    line = _output(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
    return dict(zip(fields, map(str.strip, line.splitlines()[0].split(",")), strict=True)) if line else None


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
