"""Street-scene segmentation from Python: from networks to graphs, engines and masks, and what those are worth.

    import streetseg

    engine = streetseg.build("icnet", precision="int8", size=(704, 960))
    with streetseg.open(engine) as segmenter:
        mask = segmenter.segment(streetseg.read_frame("img.png"))

What a user can cause is raised as one of `runtime.errors`. Importing this loads no library; a function loads its own.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.backend import Backend, open_backend
    from runtime.errors import PipelineError
    from runtime.lanes import Lanes, open_lanes
    from runtime.lookup import newest_engine
    from runtime.media.camera import Camera
    from runtime.media.frames import read_frame
    from streetseg.listing import Engine, Model, engines, models
    from streetseg.results import evaluate, open, train
    from streetseg.stages import adopt, build, calibrate, export, quantize

__all__ = [
    "Backend", "Camera", "Engine", "Lanes", "Model", "PipelineError", "adopt", "build", "calibrate", "engines",
    "evaluate", "export", "models", "newest_engine", "open", "open_backend", "open_lanes", "quantize",
    "read_frame", "train",
]  # fmt: skip

_PLACES = {
    "Backend": "runtime.backend",
    "Camera": "runtime.media.camera",
    "Engine": "streetseg.listing",
    "Lanes": "runtime.lanes",
    "Model": "streetseg.listing",
    "PipelineError": "runtime.errors",
    "adopt": "streetseg.stages",
    "build": "streetseg.stages",
    "calibrate": "streetseg.stages",
    "engines": "streetseg.listing",
    "evaluate": "streetseg.results",
    "export": "streetseg.stages",
    "models": "streetseg.listing",
    "newest_engine": "runtime.lookup",
    "open": "streetseg.results",
    "open_backend": "runtime.backend",
    "open_lanes": "runtime.lanes",
    "quantize": "streetseg.stages",
    "read_frame": "runtime.media.frames",
    "train": "streetseg.results",
}


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: `streetseg --help` must not wait for NumPy, nor a deployed machine have torch.
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'streetseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
