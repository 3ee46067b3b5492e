import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from runtime import reference
from runtime.kernels import cpu
from runtime.spec import ModelSpec, Preprocess
from tests.helpers import kernel_cases
from tests.helpers.graphs import tiny_spec
from tests.helpers.resize_cases import RESIZES, logits_with_ties


def preprocess(height: int, width: int) -> Preprocess:
    return Preprocess(height, width, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "RGB")


def channels_last(logits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(logits[0].transpose(1, 2, 0))


@pytest.mark.parametrize("step", [1e-6, 0.5, 2.0], ids=["no ties", "ties", "mostly ties"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("h", "w", "height", "width"), RESIZES)
def test_masks_are_the_references_to_the_last_pixel(h, w, height, width, block, step):
    for classes in (1, 2, 11, 19):
        logits = logits_with_ties(classes, h, w, block, step=step)
        mask = cpu.Segmenter(tiny_spec(block=block)).segment(channels_last(logits), height, width)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, reference.postprocess(logits, height, width, block=block))


@pytest.mark.parametrize("upsample", ["align_corners", "nearest"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("h", "w", "height", "width"), RESIZES)
def test_masks_of_every_way_to_upsample_are_the_references(h, w, height, width, block, upsample):
    spec = dataclasses.replace(tiny_spec(block=block), upsample=upsample)
    for step in (1e-6, 2.0):
        logits = logits_with_ties(11, h, w, block, step=step)
        mask = cpu.Segmenter(spec).segment(channels_last(logits), height, width)
        assert np.array_equal(mask, reference.segment(logits, spec, (height, width)))


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("sizes", kernel_cases.MASK_SIZES)
def test_masks_of_values_that_break_kernels_are_the_references(sizes, block):
    (h, w), (height, width) = sizes
    for classes in kernel_cases.CLASSES:
        for name, values in kernel_cases.logits(classes, block, h, w, np.float32).items():
            mask = cpu.Segmenter(tiny_spec(block=block)).segment(channels_last(values), height * block, width * block)
            expected = reference.postprocess(values, height * block, width * block, block=block)
            assert np.array_equal(mask, expected), (name, classes)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits of the bfloat16 at or below each float32's size."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def test_bits_of_bfloat16_become_their_values():
    bits = np.array([0x0000, 0x8000, 0x3F80, 0xC0A0, 0x7F80, 0x0001], np.uint16)
    assert cpu.float_from_bits(bits).tolist() == [0, -0.0, 1, -5, np.inf, 2.0**-133]


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("sizes", kernel_cases.MASK_SIZES)
def test_masks_of_bfloat16_logits_are_the_references(sizes, block):
    (h, w), (height, width) = sizes
    for classes in kernel_cases.CLASSES:
        cases = kernel_cases.logits(classes, block, h, w, np.float32)
        signs = np.random.default_rng(classes).choice(np.float32([0.0, -0.0, -1e-40]), cases["flat"].shape)
        for name, values in (*cases.items(), ("signed zeros", signs)):
            bits = bfloat16(channels_last(values))
            mask = cpu.Segmenter(tiny_spec(block=block)).segment(bits, height * block, width * block)
            exact = cpu.float_from_bits(bits).transpose(2, 0, 1)[None]
            expected = reference.postprocess(exact, height * block, width * block, block=block)
            assert np.array_equal(mask, expected), (name, classes)


@pytest.mark.parametrize("bands", [1, 2, 3, 16])
@pytest.mark.parametrize("block", [1, 2])
def test_bands_meet_without_a_seam(bands, block, monkeypatch):
    monkeypatch.setattr(cpu, "count", lambda: bands)
    logits = logits_with_ties(5, 17, 30, block)
    frame = np.random.default_rng(0).integers(0, 256, (33, 61, 3), dtype=np.uint8)
    for height, width in ((17 * block, 30 * block), (68 * block, 77), (23, 200)):
        segmenter, expected = (
            cpu.Segmenter(tiny_spec(block=block)),
            reference.postprocess(logits, height, width, block=block),
        )
        for values in (channels_last(logits), bfloat16(channels_last(logits))):  # halves are bfloat16 values
            assert np.array_equal(segmenter.segment(values, height, width), expected)
        resized = cpu.FrameResizer(preprocess(height, width)).resize(frame)
        assert np.array_equal(resized, reference.resize_frame(frame, height, width))


@pytest.mark.parametrize("width", [63, 64, 65, 200])
def test_tiles_of_bfloat16_logits_end_where_the_row_ends(width):
    logits = logits_with_ties(11, 3, width, 2)
    mask = cpu.Segmenter(tiny_spec(block=2)).segment(bfloat16(channels_last(logits)), 6, 2 * width)
    assert np.array_equal(mask, reference.postprocess(logits, 6, 2 * width, block=2))


@pytest.mark.parametrize(("h", "w", "height", "width"), RESIZES)
def test_resized_frames_are_the_references_to_the_last_bit(h, w, height, width):
    frame = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
    resized = cpu.FrameResizer(preprocess(height, width)).resize(frame)
    assert np.array_equal(resized, reference.resize_frame(frame, height, width))


def test_a_view_that_is_not_contiguous_is_taken():
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)[::2, ::-1]
    for height, width in ((10, 30), (13, 17)):
        resized = cpu.FrameResizer(preprocess(height, width)).resize(frame)
        assert np.array_equal(resized, reference.resize_frame(frame, height, width))


def test_frames_of_changing_size_go_through_one_resizer_and_one_segmenter():
    random, spec = np.random.default_rng(0), tiny_spec()
    resizer, segmenter = cpu.FrameResizer(spec.preprocess), cpu.Segmenter(spec)
    for height, width in ((10, 20), (50, 40), (32, 64), (10, 20)):
        frame = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert np.array_equal(resizer.resize(frame), reference.resize_frame(frame, 32, 64))
        logits = logits_with_ties(11, 8, 16, seed=height)
        mask = segmenter.segment(channels_last(logits), height, width)
        assert np.array_equal(mask, reference.postprocess(logits, height, width))


def test_a_mask_is_the_callers_to_keep():
    segmenter = cpu.Segmenter(tiny_spec())
    first = segmenter.segment(channels_last(logits_with_ties(11, 8, 16, seed=1)), 40, 80)
    kept = first.copy()
    segmenter.segment(channels_last(logits_with_ties(11, 8, 16, seed=2)), 40, 80)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("size", [(128, 256), (300, 600)], ids=["labels alone", "upsampled"])
@pytest.mark.parametrize("kind", ["float32", "float32 in blocks", "bfloat16 in blocks", "bfloat16 halved"])
def test_after_the_first_frame_only_the_mask_is_allocated(kind, size):
    import tracemalloc

    block = 2 if "blocks" in kind else 1
    spec: ModelSpec = tiny_spec(height=256, width=512, block=block)
    halved = "halved" in kind and size != (128, 256)  # labels alone are made of all doubled logits
    resizer, segmenter = cpu.FrameResizer(spec.preprocess), cpu.Segmenter(spec, halved=halved)
    frame = np.zeros((*size, 3), np.uint8)
    logits = channels_last(logits_with_ties(11, 128 // block, 256 // block, block))
    logits = bfloat16(logits) if "bfloat16" in kind else logits
    mask = segmenter.segment(logits, *size)
    resizer.resize(frame)
    tracemalloc.start()
    resizer.resize(frame)
    segmenter.segment(logits, *size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mask.nbytes + 20_000


def test_overlays_are_compiled(monkeypatch):
    loops, called = cpu._loops("frame_loops"), []
    monkeypatch.setattr(loops, "overlay_rows", lambda *given: called.append(given))
    cpu.overlay(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), np.zeros((256, 3), np.uint8), 0.5)
    assert len(called) == 1


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (7, 37), (40, 64)])
def test_overlays_are_the_references_to_the_last_bit(size, alpha):
    random = np.random.default_rng(0)
    frame, mask = random.integers(0, 256, (*size, 3), np.uint8), random.integers(0, 256, size, np.uint8)
    colors = random.integers(0, 256, (256, 3), np.uint8)
    for pixels, ids in ((frame, mask), (frame[::-1, ::2], mask[::-1, ::2])):
        blended = cpu.overlay(pixels, ids, colors, alpha)
        np.testing.assert_array_equal(blended, reference.overlay(pixels, ids, colors, alpha))
        assert blended.dtype == np.uint8 and blended.flags.c_contiguous


def test_without_numba_the_masks_are_the_same_and_it_says_so():
    code = """
import sys
sys.modules["numba"] = None
import numpy as np
from runtime import reference
from runtime.kernels import cpu
from tests.helpers import kernel_cases
from tests.helpers.graphs import tiny_spec
from tests.helpers.resize_cases import logits_with_ties
logits = logits_with_ties(11, 8, 16)
mask = cpu.Segmenter(tiny_spec()).segment(np.ascontiguousarray(logits[0].transpose(1, 2, 0)), 30, 50)
assert np.array_equal(mask, reference.postprocess(logits, 30, 50))
bits = np.ascontiguousarray(logits[0].transpose(1, 2, 0)).view(np.uint32) >> 16
mask = cpu.Segmenter(tiny_spec()).segment(bits.astype(np.uint16), 30, 50)
assert np.array_equal(mask, reference.postprocess(logits, 30, 50))  # halves are bfloat16 values
frame = cpu.FrameResizer(tiny_spec().preprocess).resize(np.zeros((9, 9, 3), np.uint8))
assert cpu.overlay(frame, np.zeros(frame.shape[:2], np.uint8), np.ones((256, 3), np.uint8), 1).all()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("numba does not load") == 1


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("size", "network"), kernel_cases.FITTED_SIZES, ids=str)
def test_frames_with_a_border_and_their_masks_are_the_references(size, network, block):
    spec = tiny_spec(height=network[0], width=network[1], block=block)
    spec = dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, fit="pad"))
    resizer, segmenter = cpu.FrameResizer(spec.preprocess), cpu.Segmenter(spec)
    for frame in kernel_cases.frames(*size).values():
        assert np.array_equal(resizer.resize(frame), reference.fit_frame(frame, spec.preprocess))
    for h, w in ((network[0] // 4, network[1] // 4), network, (1, 1)):
        logits = logits_with_ties(11, h, w, block, step=0.5)
        assert np.array_equal(segmenter.segment(channels_last(logits), *size), reference.segment(logits, spec, size))


@pytest.mark.parametrize(("block", "halved"), [(1, False), (1, True), (2, False)])
@pytest.mark.parametrize("stride", [1, 4])
def test_what_is_loaded_at_the_opening_is_all_that_a_frame_and_its_mask_need(block, halved, stride):
    made = """
import numpy as np, sys
from runtime.kernels import cpu, frame_loops, loops, tile_loops
from runtime.kernels.native import Loop
from tests.helpers.graphs import tiny_spec
import dataclasses
block, stride, halved = map(int, sys.argv[1:])
size = 4 * stride * block
spec = dataclasses.replace(tiny_spec(block=block), output_stride=stride)
spec = dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, height=size, width=2 * size))
cpu.load_loops(spec, halved=bool(halved))
every = [loop for module in (frame_loops, loops, tile_loops) for loop in vars(module).values()]
count = lambda: sum(len(loop.loaded) for loop in every if isinstance(loop, Loop))
before = count()
cpu.FrameResizer(spec.preprocess).resize(np.zeros((30, 50, 3), np.uint8))
for kind in (np.float32, np.uint16):
    for height, width in ((size, 2 * size), (30, 50)):
        logits = np.zeros((4, 8, len(spec.classes) * block**2), kind)
        cpu.Segmenter(spec, halved=bool(halved)).segment(logits, height, width)
assert before and count() == before, (before, count())
"""
    subprocess.run([sys.executable, "-c", made, str(block), str(stride), str(int(halved))], check=True)
