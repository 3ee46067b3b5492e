"""Frames and masks of other libraries, on the host: taken where they lie."""

import numpy as np
import pytest
import torch
from PIL import Image

from runtime.arrays import host_array, host_arrays, on_gpu
from runtime.backend import open_backend
from runtime.errors import FrameError
from runtime.lanes import open_lanes
from tests.helpers.engines import built_engine
from tests.helpers.pictures import gradient


class Shown:
    """What shows an array by one of its protocols alone."""

    def __init__(self, array, **shown):
        self._array = array
        for name, value in (shown or {"__array_interface__": array.__array_interface__}).items():
            setattr(self, name, value)


def on_a_gpu(shape=(4, 6, 3)):
    interface = {"shape": shape, "typestr": "|u1", "data": (4096, False), "version": 3, "strides": None}
    return Shown(None, __cuda_array_interface__=interface)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_tensor_of_the_host_is_a_frame_and_a_mask_is_written_into_one(tmp_path, backend):
    image = gradient()
    with open_lanes(built_engine(tmp_path, backend=backend), 1) as lanes:
        expected = lanes.segment(image)
        for frame in (torch.from_numpy(image), Shown(image), torch.from_numpy(image.copy()).flip(2).flip(2)):
            out = torch.full(image.shape[:2], 77, dtype=torch.uint8)
            assert lanes.segment(frame, out) is out
            np.testing.assert_array_equal(out.numpy(), expected)
            np.testing.assert_array_equal(lanes.segment(frame), expected)
        with lanes.lane() as engine:
            palette = np.zeros((256, 3), np.uint8)
            np.testing.assert_array_equal(engine.overlay(torch.from_numpy(image), palette, 0.5)[0], expected)
            np.testing.assert_array_equal(engine.logits(torch.from_numpy(image)), engine.logits(image))


def test_the_memory_is_the_tensor_s_own():
    tensor = torch.zeros((4, 6, 3), dtype=torch.uint8)
    found, _ = host_arrays(tensor)
    tensor[1, 2, 0] = 9
    assert found[1, 2, 0] == 9
    turned, _ = host_arrays(tensor.permute(1, 0, 2))  # any strides
    assert turned[2, 1, 0] == 9 and turned.shape == (6, 4, 3)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_what_lies_on_a_gpu_is_refused_by_an_engine_of_the_cpu_in_one_line(tmp_path, backend):
    path, colors = built_engine(tmp_path, backend=backend), np.zeros((256, 3), np.uint8)
    with open_backend(path) as engine, open_lanes(path, 1) as lanes:
        overlays = [lambda it, to=to: to.overlay(it, colors, 0.5) for to in (engine, lanes)]
        for call in (engine.segment, engine.logits, lanes.segment, lambda it: lanes.warm_up(it, 1), *overlays):
            with pytest.raises(FrameError, match=r"^the frame lies on a GPU \(.*Shown\), .*: copy it \(tensor.cpu"):
                call(on_a_gpu())
        with pytest.raises(FrameError, match=r"^the mask lies on a GPU"):
            engine.segment(gradient(), on_a_gpu((4, 6)))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.zeros((4, 6, 3)), r"got float32 \(4, 6, 3\)"),
        (torch.zeros((3, 4, 6), dtype=torch.uint8), r"got uint8 \(3, 4, 6\)"),
        (torch.zeros((4, 6, 3), dtype=torch.bfloat16), "cannot be read where it lies"),
        (torch.zeros((4, 6, 3), requires_grad=True), "cannot be read where it lies"),
        (torch.zeros((4, 6, 3), dtype=torch.uint8).to_sparse(), "a frame|cannot be read where it lies"),
        (torch.zeros((4, 6, 3), dtype=torch.uint8, device="meta"), "a frame is|cannot be read where it lies"),
        (Shown(None, __array_interface__={"shape": (4, 6, 3)}), "cannot be read where it lies"),
    ],
    ids=["float", "planes", "bfloat16", "grad", "sparse", "meta", "broken"],
)
def test_a_tensor_that_is_no_frame_is_one_line(given, told):
    with pytest.raises(FrameError, match=told) as refused:
        host_arrays(given)
    assert "\n" not in str(refused.value)


def test_a_mask_is_not_written_over_its_frame_nor_into_another_shape():
    tensor = torch.zeros((4, 6, 3), dtype=torch.uint8)
    with pytest.raises(ValueError, match="over its frame"):
        host_arrays(tensor, tensor[..., 0])
    with pytest.raises(ValueError, match=r"is written to uint8 \(4, 6\), got uint8 \(6, 4\)"):
        host_arrays(tensor, torch.zeros((6, 4), dtype=torch.uint8))


def test_a_picture_of_pillow_is_refused_as_its_bytes_need_not_be_rgb():
    picture = Image.fromarray(gradient()).convert("YCbCr")
    assert host_array(picture) is picture
    with pytest.raises(FrameError, match=r"numpy.asarray\(picture.convert\('RGB'\)\) is one"):
        host_arrays(picture)


def test_only_what_says_so_is_on_a_gpu():
    assert on_gpu(on_a_gpu())
    for other in (None, np.zeros(3), torch.zeros(3), [1], "cuda", 7):
        assert not on_gpu(other)
