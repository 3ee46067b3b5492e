"""Which weights, and the key of what is made from them: known without importing torch, so that a cache hit is quick."""

from importlib import metadata
from pathlib import Path
from typing import Any

import runtime
from export.checkpoints.foreign import folder_kind
from export.own_code import code_of
from runtime.artifacts import key_of, sha256_of, sources_sha256
from runtime.commands import option
from runtime.errors import WeightsError

EXPORT, RUNTIME = Path(__file__).parents[1], Path(runtime.__file__).parent
SHIPPED = EXPORT / "weights"
PART_OF = {
    "icnet-sub4": "icnet",
    "icnet-sub24": "icnet",
}  # networks that are a part of another one, and take its weights
# What the exported bytes depend on beside the arguments: these packages, and this code.
MADE_BY = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
CODE = (
    *(
        EXPORT / name
        for name in (
            "models",
            "checkpoints",
            "registry.py",
            "network.py",
            "own_network.py",
            "own_code.py",
            "own_normalization.py",
            "to_onnx.py",
            "half.py",
            "check.py",
            "last_upsample.py",
            "adopting",
        )
    ),
    *(RUNTIME / name for name in ("spec.py", "labels.py", "reference.py")),
)


def default_weights(model: str) -> Path | None:
    """The file shipped with the project for that network, or None."""
    shipped = SHIPPED / f"{PART_OF.get(model, model)}-camvid.safetensors"
    return shipped if "/" not in model and shipped.is_file() else None


def check_file(weights: Path) -> None:
    """Refuse weights that are not a file.

    Raises:
        WeightsError: missing, or a folder.
    """
    if weights.is_dir() and (kind := folder_kind(weights)):
        raise WeightsError(f"weights {weights}: it {kind}")
    if not weights.is_file():
        what = "is a folder" if weights.is_dir() else "does not exist"
        raise WeightsError(f"weights {weights} {what}; give the checkpoint's file: {option('weights')}")


def export_key(arguments: dict[str, Any], weights: Path | None) -> str:
    """The key of an export: its arguments, the weights' bytes, the packages and the code that make it, a user's too."""
    if weights is not None:
        check_file(weights)
    return key_of(
        {
            **arguments,
            "weights": sha256_of(weights) if weights else "random",
            "packages": {name: metadata.version(name) for name in MADE_BY},
            "code": sources_sha256(*CODE),
            "own": code_of(str(arguments.get("model", ""))),
        }
    )
