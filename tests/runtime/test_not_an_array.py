"""What programs pass by mistake where a frame, a mask or a palette belongs."""

import re
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime import reference
from runtime.backend import check_frame, open_backend
from runtime.errors import EngineError, FrameError
from runtime.lanes import open_lanes
from tests.helpers.engines import built_engine


def of_library(module, name):
    """An object of another library, which need not be here: it is told by its type's name."""
    return type(name, (), {"__module__": module})()


NO_ARRAYS = [
    (None, "None; was the picture read? cv2.imread gives None where it cannot read one"),
    ([[1]], "list; numpy.asarray(rows, numpy.uint8) is an array"),
    (b"x", "bytes; runtime.read_frame(path) reads a file"),
    ("img.png", "str; runtime.read_frame(path) reads a file"),
    (Path("img.png"), f"{type(Path()).__module__}.PosixPath; runtime.read_frame(path) reads a file"),
    (of_library("PIL.Image", "Image"), "PIL.Image.Image; numpy.asarray(picture.convert('RGB')) is one"),
    (of_library("torch", "Tensor"), "torch.Tensor; tensor.cpu().numpy() is one, of a uint8 tensor that is"),
    (memoryview(b"x"), "memoryview"),
    (7, "int"),
]


@pytest.mark.parametrize(("given", "told"), NO_ARRAYS, ids=lambda given: type(given).__name__)
def test_what_is_no_array_is_refused_with_what_it_is_and_what_makes_a_frame_of_it(given, told):
    said = re.escape(f"a frame is a NumPy array, uint8 (height, width, 3) RGB, got {told}")
    with pytest.raises(FrameError, match=said):
        check_frame(given)


@pytest.mark.parametrize("backend", ("openvino", "onnxruntime"))
def test_every_way_in_refuses_what_is_no_array(tmp_path, backend):
    path, colors = built_engine(tmp_path, backend=backend), np.zeros((256, 3), np.uint8)
    with open_backend(path) as engine, open_lanes(path, 1) as lanes:
        for given, _ in NO_ARRAYS:
            for call in (engine.segment, engine.logits, lanes.segment, lambda it: lanes.warm_up(it, 1),
                         lambda it: engine.overlay(it, colors, 0.5), lambda it: lanes.overlay(it, colors, 0.5),
                         lambda it: reference.preprocess(it, engine.spec.preprocess),
                         lambda it: reference.resize_frame(it, 8, 8)):  # fmt: skip
                with pytest.raises(FrameError, match="a frame is a NumPy array"):
                    call(given)
        assert lanes.segment(np.zeros((9, 9, 3), np.uint8)).shape == (9, 9)


@pytest.mark.parametrize(
    "given", [None, [[0, 0, 0]] * 256, np.zeros((256, 3)), "colors"], ids=["None", "list", "float", "str"]
)
def test_what_is_no_palette_is_refused(given):
    with pytest.raises(ValueError, match=r"a palette is uint8 \(256, 3\), got "):
        reference.overlay_shades(given, 0.5)
    with pytest.raises(ValueError, match="alpha is from 0 to 1, got None"):
        reference.overlay_shades(np.zeros((256, 3), np.uint8), None)


@pytest.mark.parametrize(
    "given", [None, [[0]], np.zeros((4, 5)), np.zeros((5, 4), np.uint8)], ids=["None", "list", "float", "size"]
)
def test_what_is_no_mask_of_the_frame_is_refused(given):
    with pytest.raises(ValueError, match=r"the mask of this frame is uint8 \(4, 5\), got "):
        reference.overlay(np.zeros((4, 5, 3), np.uint8), given, np.zeros((256, 3), np.uint8), 0.5)


NO_PATHS = (None, b"x", 7, np.zeros((9, 9, 3), np.uint8), [Path("a.png")])


@pytest.mark.parametrize("given", NO_PATHS, ids=lambda it: type(it).__name__)
def test_what_is_no_path_is_refused_in_one_line(given):
    with pytest.raises(FrameError, match=rf"^a picture is read by its path, got {type(given).__name__}$"):
        runtime.read_frame(given)
    for opened in (open_backend, open_lanes):
        with pytest.raises(EngineError, match=rf"^an engine is named by its path, got {type(given).__name__}$"):
            opened(given)
    with pytest.raises(FrameError, match=r"^a camera is camera:0, /dev/video0 or the address of a stream, got "):
        runtime.Camera(given)
    with pytest.raises(EngineError, match=r"^an engine is named by its path, got ''$"):
        open_backend("")
