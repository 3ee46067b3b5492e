"""The kernels of examples/cpp, built with CMake and called through their C interface."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from runtime.spec import FITS, ModelSpec
from tests.helpers.project import ROOT

# As c_interface.cpp numbers them.
UPSAMPLES = ("half_pixel", "align_corners", "nearest")
SOURCE = ROOT / "examples" / "cpp"


def build(folder: Path) -> Path:
    """The program `segment` and the kernels' library in that folder, by the commands of the example's README."""
    from openvino.utils import get_cmake_path

    configure = ["cmake", "-S", str(SOURCE), "-B", str(folder), f"-DOpenVINO_DIR={get_cmake_path()}"]
    for command in ([*configure, "-DCMAKE_CXX_FLAGS=-Werror"], ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Kernels:
    """One network's resizer and segmenter, as `runtime.kernels.cpu` has them."""

    def __init__(self, library: ctypes.CDLL, spec: ModelSpec, threads: int = 2) -> None:
        self._library, self._size = library, (spec.preprocess.height, spec.preprocess.width)
        library.segment_open.restype = library.segment_resize.restype = ctypes.c_void_p
        given = spec.preprocess
        self._handle = ctypes.c_void_p(
            library.segment_open(
                *self._size, ctypes.c_double(given.scale), (ctypes.c_double * 3)(*given.mean),
                int(given.channel_order == "BGR"), FITS.index(given.fit), len(spec.classes), spec.block,
                UPSAMPLES.index(spec.upsample), threads,
            )
        )  # fmt: skip

    def __del__(self) -> None:
        self._library.segment_close(self._handle)

    def resize(self, frame: np.ndarray) -> np.ndarray:
        """uint8 (height, width, 3); a copy."""
        frame = np.ascontiguousarray(frame)
        made = self._library.segment_resize(self._handle, frame.ctypes.data_as(ctypes.c_void_p), *frame.shape[:2])
        size = self._size[0] * self._size[1] * 3
        return np.frombuffer(ctypes.string_at(made, size), np.uint8).reshape(*self._size, 3)

    def segment(self, logits: np.ndarray, height: int, width: int) -> np.ndarray:
        """The mask of contiguous logits (h, w, channels), float32 or bfloat16's bits; with a guard behind it."""
        mask = np.full(height * width + 8, 254, np.uint8)
        call = self._library.segment_mask_bf16 if logits.dtype == np.uint16 else self._library.segment_mask_fp32
        places = (values.ctypes.data_as(ctypes.c_void_p) for values in (logits, mask))
        call(self._handle, next(places), *logits.shape[:2], height, width, next(places))
        assert (mask[-8:] == 254).all()
        return mask[:-8].reshape(height, width)
