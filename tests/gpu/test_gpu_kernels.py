"""segment.cu on the GPU itself: the same cases as on the CPU, and frames of the size that matters."""

import numpy as np
import pytest

from runtime import reference
from runtime.backends.tensorrt_buffers import Memory
from runtime.kernels.cuda import Kernels
from runtime.kernels.graph import NON_BLOCKING
from runtime.labels import CAMVID, palette
from tests.helpers import kernel_cases, kernel_runs
from tests.helpers.gpu_work import LARGE, VIDEO

pytestmark = pytest.mark.gpu


class Device:
    """The place of `kernel_runs` that is a GPU."""

    def __init__(self, driver, kernels):
        self._driver, self._kernels, self._stream = driver, kernels, driver.Stream(NON_BLOCKING)
        self.memory = Memory(driver, self._stream)

    def put(self, array):
        return self.memory.upload(np.ascontiguousarray(array))

    def get(self, address, like):
        array = np.empty_like(like)
        self._driver.memcpy_dtoh(array, address)
        return array

    def launch(self, launch):
        self._kernels.launch(launch, self._stream)
        self._stream.synchronize()


@pytest.fixture(scope="module")
def kernels(driver, gpu):
    return Kernels(driver, gpu.capability)


@pytest.fixture
def device(driver, kernels):
    device = Device(driver, kernels)
    yield device
    device.memory.free()


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("base", [kernel_cases.STREET, kernel_cases.RAW_BGR], ids=["rgb", "bgr"])
@pytest.mark.parametrize(
    ("size", "network"),
    [*kernel_cases.INPUT_SIZES, (LARGE, LARGE), (VIDEO, LARGE)],
    ids=str,
)
def test_resize_normalize_equals_the_reference_bit_for_bit(device, size, network, base, dtype):
    preprocess = base.__class__(*network, base.scale, base.mean, base.std, base.channel_order)
    for what, frame in kernel_cases.frames(*size).items():
        expected = reference.preprocess(frame, preprocess).astype(kernel_runs.DTYPES[dtype])
        np.testing.assert_array_equal(kernel_runs.preprocess(device, frame, preprocess, dtype), expected, what)
        made = kernel_runs.preprocess(device, frame, preprocess, dtype, last=True)
        np.testing.assert_array_equal(made, kernel_runs.padded_last(expected), what)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("classes", kernel_cases.CLASSES)
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_upsample_argmax_equals_the_reference_on_every_pixel(device, coarse, size, classes, block, dtype, last):
    for what, logits in kernel_cases.logits(classes, block, *coarse, dtype).items():
        expected = reference.postprocess(logits, *size, block=block)
        np.testing.assert_array_equal(kernel_runs.postprocess(device, logits, *size, block, last=last), expected, what)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("coarse", [(1, 1), (5, 7), (6, 8), (3, 130)], ids=str)
def test_at_the_logits_own_size_their_winners_are_the_mask(device, coarse, block, dtype, last):
    for classes in kernel_cases.CLASSES:
        for what, logits in kernel_cases.logits(classes, block, *coarse, dtype).items():
            expected = reference.postprocess(logits, coarse[0] * block, coarse[1] * block, block=block)
            np.testing.assert_array_equal(kernel_runs.native_mask(device, logits, block, last=last), expected, what)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_an_overlay_in_the_same_pass_equals_the_reference_on_every_pixel(device, coarse, size, alpha):
    colors = palette(CAMVID)
    logits = kernel_cases.logits(11, 1, *coarse, np.float16)["noise"]
    expected = reference.postprocess(logits, *size)
    for what, frame in kernel_cases.frames(*size).items():
        mask, overlay = kernel_runs.overlay(device, frame, logits, colors, alpha)
        np.testing.assert_array_equal(mask, expected, what)
        np.testing.assert_array_equal(overlay, reference.overlay(frame, expected, colors, alpha), what)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_full_mask_equals_the_reference_on_every_pixel(device, dtype, last):
    coarse = np.random.default_rng(0).normal(0, 5, (1, 19, LARGE[0] // 4, LARGE[1] // 4)).astype(dtype)
    expected = reference.postprocess(coarse, *LARGE)
    np.testing.assert_array_equal(kernel_runs.postprocess(device, coarse, *LARGE, 1, last=last), expected)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_a_confidence_equals_the_reference_bit_for_bit(device, coarse, size, block, dtype, last):
    for classes in kernel_cases.CLASSES:
        for what, logits in kernel_cases.confidence_logits(classes, block, *coarse, dtype).items():
            expected = reference.confidence(logits, *size, block=block)
            found = kernel_runs.confidence(device, logits, *size, block, last=last)
            np.testing.assert_array_equal(found, expected, what)
