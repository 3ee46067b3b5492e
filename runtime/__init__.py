"""From a frame to a mask: what is deployed. Imports none of the project's other packages, nor torch or onnx."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

# OpenVINO reports each import of it to its makers, from a process that it forks, where it finds this package of theirs.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from runtime.backend import Backend, open_backend
    from runtime.lanes import Lanes, open_lanes
    from runtime.lookup import newest_engine
    from runtime.media.camera import Camera
    from runtime.media.frames import read_frame

__all__ = ["Backend", "Camera", "Lanes", "newest_engine", "open_backend", "open_lanes", "read_frame"]

_PLACES = {
    "Backend": "runtime.backend",
    "Camera": "runtime.media.camera",
    "Lanes": "runtime.lanes",
    "newest_engine": "runtime.lookup",
    "open_backend": "runtime.backend",
    "open_lanes": "runtime.lanes",
    "read_frame": "runtime.media.frames",
}


def __getattr__(name: str) -> Any:
    # NumPy is imported with the first engine and not before: commands that only look for one stay quick.
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'runtime' has no attribute {name!r}")
