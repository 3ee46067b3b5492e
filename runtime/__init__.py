"""From a frame to a mask: what is deployed. Imports none of the project's other packages, nor torch or onnx."""

import sys
from typing import TYPE_CHECKING, Any

# OpenVINO reports each import of it to its makers, from a process that it forks, where it finds this package of theirs.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from runtime.backend import Backend, open_backend
    from runtime.lanes import Lanes, open_lanes

__all__ = ["Backend", "Lanes", "open_backend", "open_lanes"]


def __getattr__(name: str) -> Any:
    # NumPy is imported with the first engine and not before: commands that only look for one stay quick.
    if name in __all__:
        from runtime import backend, lanes

        return getattr(backend if hasattr(backend, name) else lanes, name)
    raise AttributeError(f"module 'runtime' has no attribute {name!r}")
