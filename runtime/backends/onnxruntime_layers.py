"""The layers that onnxruntime executes for a frame, read from its profile of one run."""

import json
import tempfile
from pathlib import Path
from typing import Any

from runtime.backends.layer import Layer
from runtime.backends.onnxruntime import open_engine, providers, session_options
from runtime.errors import EngineError, LibraryError
from runtime.libraries import refusing
from runtime.spec import EngineManifest

ROLES = {
    "Cast": "cast", "Reshape": "view", "Squeeze": "view", "Unsqueeze": "view", "Identity": "view", "Flatten": "view",
    "Transpose": "reorder", "ReorderInput": "reorder", "ReorderOutput": "reorder",
    "QuantizeLinear": "quantizer", "DequantizeLinear": "quantizer",
}  # fmt: skip
KERNEL = "_kernel_time"  # how the profile names the run of a node


def layers(engine: bytes, manifest: EngineManifest) -> list[Layer]:
    """Every node of the optimised graph that runs for a frame of zeros.

    Raises:
        EngineError: onnxruntime refuses the engine.
        LibraryError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise LibraryError(f"onnxruntime does not load ({error}): pip install onnxruntime") from None
    open_engine(engine, manifest).close()  # its refusals are typed
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()  # other options are another graph
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        with refusing(EngineError, f"onnxruntime cannot run the engine of {manifest.spec.name}"):
            session = onnxruntime.InferenceSession(
                engine, options, providers=providers(onnxruntime.get_available_providers())
            )
            session.run(None, {node.name: _zeros(node) for node in session.get_inputs()})
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return [_layer(event["args"]) for event in events if str(event["name"]).endswith(KERNEL)]


def _layer(run: dict[str, Any]) -> Layer:
    role = ROLES.get(run["op_name"], "work")
    moved = sum(int(run[size]) for size in ("activation_size", "parameter_size", "output_size"))
    return Layer(role, 0 if role == "view" else moved)


def _zeros(node: Any) -> Any:
    import numpy as np

    return np.zeros(node.shape, np.float16 if "float16" in node.type else np.float32)
