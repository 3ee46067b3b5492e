"""Who is measured beside an engine in `runtime.bench_rivals`: their names, what each opens, what it computes in."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from runtime.measure.rivals import RIVALS
from runtime.measure.worker import ENGINE, Job
from runtime.spec import Fit

NNCF, ONNXRUNTIME_INT8, MNN, NCNN = "nncf", "onnxruntime-int8", "mnn", "ncnn"
FP32_MASK = "onnxruntime"  # whose mask the others' are held to
# Every peer, and in which words it is quoted.
PEERS = {
    NNCF: "NNCF's INT8, run by this runtime",
    "openvino": RIVALS["openvino"],
    "onnxruntime": RIVALS["onnxruntime"],
    ONNXRUNTIME_INT8: "onnxruntime INT8, quantized by itself",
    "torch": RIVALS["torch"],
    "torch-compile": RIVALS["torch-compile"],
    MNN: "MNN FP32",
    NCNN: "ncnn FP32",
}
OF_TORCH = ("torch", "torch-compile")
OF_OTHER_PYTHON = (MNN, NCNN)
# Compiled for one frame size: for labelled frames of another it is compiled anew, which takes minutes. It computes
# what eager does.
NOT_ON_LABELS = ("torch-compile",)
LIBRARIES = ("nncf", "openvino", "onnxruntime", "torch", "MNN", "ncnn", "pnnx")


class Files(NamedTuple):
    """What is opened; None where it was not made."""

    engine: Path
    plain: Path
    torch: Path | None = None
    nncf: Path | None = None
    onnxruntime_int8: Path | None = None
    python: Path | None = None  # of the environment that has MNN and ncnn


def jobs(files: Files, fit: Fit | None) -> dict[str, Job]:
    """The engine, then every peer whose files are there, by name."""
    found = {ENGINE: Job(ENGINE, (files.engine,), fit=fit)}
    given: dict[str, tuple[str, Path | None]] = {
        NNCF: (ENGINE, files.nncf),
        "openvino": ("openvino", files.plain),
        "onnxruntime": ("onnxruntime", files.plain),
        ONNXRUNTIME_INT8: ("onnxruntime", files.onnxruntime_int8),
        **{name: (name, files.torch) for name in OF_TORCH},
    }
    found |= {name: Job(kind, (path,), fit=fit) for name, (kind, path) in given.items() if path}
    if files.python:
        found |= {name: Job(name, (files.plain,), fit=fit, python=files.python) for name in OF_OTHER_PYTHON}
    return found


def computed_in(name: str, executed: Mapping[str, int], reached: Mapping[str, float]) -> str:
    """The precision that most of a path is computed in, by whose floor it is judged.

    Args:
        name: of the path.
        executed: of our engine, or of NNCF's: layers by type; INT8 engines are held to the floor of INT8 in all.
        reached: GMAC a second by precision, as far as this CPU has it.
    """
    if name == ONNXRUNTIME_INT8:
        return "int8"
    if name == "openvino":  # its own choice where the CPU has it
        return next(kind for kind in ("bf16", "fp16", "fp32") if kind in reached)
    if name not in (ENGINE, NNCF):
        return "fp32"
    return "int8" if "int8" in executed else max(executed, key=lambda kind: executed[kind])


def libraries(python: Path | None) -> dict[str, str]:
    """Versions of what the peers run on, of this environment and of the other one."""
    places: list[dict[str, Any]] = [{}]
    if python:
        places.append(
            {"path": [str(path) for path in python.absolute().parent.parent.glob("lib/python*/site-packages")]}
        )
    found: dict[str, str] = {}
    for place in places:
        for each in metadata.distributions(**place):
            name = next((name for name in LIBRARIES if name.lower() == (each.name or "").lower()), None)
            if name:
                found.setdefault(name, each.version)
    return found
