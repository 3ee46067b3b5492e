"""What the doctor tries of a machine without its GPU: the CPU, the libraries, the loops, an inference library."""

import os
import platform
import sys
from pathlib import Path

from runtime.artifacts import user_cache
from runtime.commands import install
from runtime.cpu import cpu_features, cpu_name
from runtime.health.steps import Note, Step, child
from runtime.threads import count

OLDEST_PYTHON = (3, 10)
SIZES = ((1, 1), (37, 53), (8, 12))  # of frames: smaller, larger and as large as the logits
LOOPS = "from runtime.health.on_cpu import loops_agree; print(loops_agree())"
OPENVINO = """
import runtime, openvino, numpy
from openvino import opset13 as ops
frame = ops.parameter([1, 3, 8, 8], numpy.float32)
model = openvino.Model([ops.relu(frame)], [frame], "doctor")
given = numpy.arange(-96, 96, dtype=numpy.float32).reshape(1, 3, 8, 8)
got = openvino.Core().compile_model(model, "CPU")([given])[0]
assert (got == numpy.maximum(given, 0)).all(), "it computes something else than NumPy"
print(openvino.__version__.split("-")[0], "computes on the CPU")
"""
ONNXRUNTIME = "import onnxruntime as o; print(o.__version__, *o.get_available_providers())"


def host_steps() -> list[Step]:
    """Python and the CPU."""
    return [Step("Python", _python), Step("CPU", _cpu)]


def library_steps() -> list[Step]:
    """What every engine needs before and after its network."""
    return [
        Step("NumPy", lambda: child("import numpy; print(numpy.__version__)", _again("numpy"))),
        Step("OpenCV", lambda: child("import cv2; print(cv2.__version__)", _again("opencv-python-headless"))),
        Step("numba", lambda: child("import numba; print(numba.__version__)", _again("numba"))),
        Step("CPU kernels", lambda: child(LOOPS, "These masks would be wrong: report it, with this line")),
    ]


def cache_step() -> Step:
    """Where compiled kernels are kept between starts."""
    return Step("kernel cache", _cache)


def backend_steps() -> dict[str, Step]:
    """By backend, whether its library computes here."""
    return {
        "openvino": Step("OpenVINO", lambda: child(OPENVINO, _again("openvino"))),
        "onnxruntime": Step("onnxruntime", lambda: child(ONNXRUNTIME, f"To have it: {install('build')}")),
    }


def loops_agree() -> str:
    """The CPU's loops beside `runtime.reference`, to the last bit; in words, how they are made.

    Raises:
        AssertionError: they differ.
    """
    import numpy as np

    from runtime import reference
    from runtime.kernels.cpu import FrameResizer, Segmenter, compiled_loops
    from runtime.labels import CAMVID
    from runtime.spec import ModelSpec, Preprocess

    random = np.random.default_rng(0)
    preprocess = Preprocess(16, 24, 1 / 255, (0.3, 0.4, 0.5), (0.2, 0.3, 0.4), "BGR")
    spec = ModelSpec("doctor", preprocess, CAMVID, 2, 1, 1, "", "")
    for height, width in SIZES:
        frame = random.integers(0, 256, (height, width, 3), np.uint8)
        resized = FrameResizer(preprocess).resize(frame)
        assert (resized == reference.resize_frame(frame, 16, 24)).all(), "the loops' frame is not the reference's"
        logits = random.normal(size=(8, 12, len(CAMVID))).astype(np.float32)
        mask = Segmenter(spec).segment(logits, height, width)
        wanted = reference.postprocess(logits.transpose(2, 0, 1)[None], height, width)
        assert (mask == wanted).all(), "the loops' mask is not the reference's"
    how = "compiled by numba" if compiled_loops() else "by NumPy, many times slower: numba does not work"
    return f"equal to the reference to the last bit, {how}"


def _again(package: str) -> str:
    return f"Install it again: pip install --force-reinstall {package}"


def _python() -> str:
    here = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        raise Note(f"{here}: 3.10 or newer is needed")
    return here


def _cpu() -> str:
    features = cpu_features()
    found = f"{cpu_name()}, {count()} threads, {' '.join(features) or 'no vector units that are known'}"
    if platform.machine() in ("x86_64", "AMD64") and not {"avx2", "avx512f"} & set(features):
        raise Note(f"{found}. Without AVX2 OpenVINO is slow and refuses some networks; onnxruntime takes them all")
    return found


def _cache() -> str:
    from runtime.kernels.kept import COST, folders

    tried = [os.fspath(folder) for folder in folders()]
    writable = next((folder for folder in folders() if _can_write(folder)), None)
    if writable is None:
        raise Note(f"no folder of {', '.join(tried)} can be written: {COST}")
    if not _can_write(user_cache()):
        raise Note(
            f"{user_cache()} cannot be written: kernels for a GPU are compiled at every start. Set XDG_CACHE_HOME"
        )
    return os.fspath(writable)


def _can_write(folder: Path) -> bool:
    # Of a folder that is not there yet, where it would be made.
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
