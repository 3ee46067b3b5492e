"""The confidence of every kernel, held to the definition to the last bit; segment.cu's as C++ compiles it."""

import dataclasses
import functools

import numpy as np
import pytest

from runtime import reference
from runtime.fit import box_of
from runtime.kernels import confidence, cpu
from tests.helpers import cuda_on_cpu, kernel_cases, kernel_runs
from tests.helpers.cuda_on_cpu import Cpu
from tests.helpers.graphs import tiny_spec
from tests.helpers.resize_cases import logits_with_ties

needs_compiler = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler")
either_layout = pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])


def by_loops(logits, size, spec):
    found = cpu.Segmenter(spec).confidence(np.ascontiguousarray(logits[0].transpose(1, 2, 0)), *size)
    assert found.dtype == np.uint8
    return found


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_compiled_loops_give_the_references_confidence_to_the_last_bit(coarse, size, block):
    for classes in kernel_cases.CLASSES:
        for what, logits in kernel_cases.confidence_logits(classes, block, *coarse, np.float32).items():
            for height, width in (size, (coarse[0] * block, coarse[1] * block)):
                expected = reference.confidence(logits, height, width, block=block)
                found = by_loops(logits, (height, width), tiny_spec(block=block))
                np.testing.assert_array_equal(found, expected, f"{what}, {classes}")


@needs_compiler
@either_layout
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_the_gpus_kernel_gives_the_references_confidence_to_the_last_bit(coarse, size, block, dtype, last):
    for classes in kernel_cases.CLASSES:
        for what, logits in kernel_cases.confidence_logits(classes, block, *coarse, dtype).items():
            expected = reference.confidence(logits, *size, block=block)
            found = kernel_runs.confidence(Cpu(), logits, *size, block, last=last)
            np.testing.assert_array_equal(found, expected, f"{what}, {classes}")


@needs_compiler
@pytest.mark.parametrize("upsample", ["align_corners", "nearest"])
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_every_way_to_upsample_gives_the_references_confidence(coarse, size, upsample):
    spec = dataclasses.replace(tiny_spec(block=2), upsample=upsample)
    for what, logits in kernel_cases.confidence_logits(11, 2, *coarse, np.float32).items():
        expected = reference.segment_confidence(logits, spec, size)
        np.testing.assert_array_equal(by_loops(logits, size, spec), expected, what)
        found = kernel_runs.confidence(Cpu(), logits, *size, 2, upsample=upsample)
        np.testing.assert_array_equal(found, expected, what)


@needs_compiler
@pytest.mark.parametrize(("size", "network"), kernel_cases.FITTED_SIZES, ids=str)
def test_a_frame_with_a_border_has_the_references_confidence(size, network):
    spec = tiny_spec(height=network[0], width=network[1], block=2)
    spec = dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, fit="pad"))
    box = box_of(spec.preprocess, *size)
    for what, logits in kernel_cases.confidence_logits(5, 2, network[0] // 4, network[1] // 4, np.float32).items():
        expected = reference.segment_confidence(logits, spec, size)
        np.testing.assert_array_equal(by_loops(logits, size, spec), expected, what)
        np.testing.assert_array_equal(kernel_runs.confidence(Cpu(), logits, *size, 2, box=box), expected, what)


@needs_compiler
@either_layout
@pytest.mark.parametrize("block", [1, 16])
def test_the_most_classes_that_a_mask_can_hold(block, last):
    logits = np.random.default_rng(0).normal(size=(1, 255 * block**2, 3, 4)).astype(np.float16)
    expected = reference.confidence(logits, 11, 13, block=block)
    np.testing.assert_array_equal(kernel_runs.confidence(Cpu(), logits, 11, 13, block, last=last), expected)
    np.testing.assert_array_equal(
        by_loops(logits.astype(np.float32), (11, 13), dataclasses.replace(tiny_spec(), block=block)), expected
    )


@pytest.mark.parametrize("bands", [1, 3, 16])
@pytest.mark.parametrize("size", [(34, 60), (77, 200)], ids=["own size", "upsampled"])
def test_bands_meet_without_a_seam_and_bfloat16_is_its_values(size, bands, monkeypatch):
    monkeypatch.setattr(cpu, "count", lambda: bands)
    logits = logits_with_ties(5, 17, 30, 2)
    expected = reference.confidence(logits, *size, block=2)
    np.testing.assert_array_equal(by_loops(logits, size, tiny_spec(block=2)), expected)
    bits = (logits.view(np.uint32) >> 16).astype(np.uint16)  # halves are bfloat16 values
    np.testing.assert_array_equal(by_loops(bits, size, tiny_spec(block=2)), expected)


def test_without_compiled_loops_the_definition_does_the_work(monkeypatch):
    monkeypatch.setattr(cpu, "_loops", lambda name: None)
    logits = logits_with_ties(5, 6, 7)
    np.testing.assert_array_equal(by_loops(logits, (20, 30), tiny_spec()), reference.confidence(logits, 20, 30))


def test_what_is_far_ahead_in_a_cell_is_not_interpolated():
    corners = np.float32([[9, 1, 0], [9, 0, 1], [8.5, 0, 0], [9, 1, 1]])
    classes = np.zeros(3, np.uintp)
    enough = reference.CONFIDENCE_STEPS[-1]
    assert confidence._rivals(corners, enough, classes) == 0
    corners[:, 1] = 5
    assert confidence._rivals(corners, enough, classes) == 2
    assert classes[:2].tolist() == [0, 1]
    corners[0, 0] = np.nan
    assert confidence._rivals(corners, enough, classes) == 3


def test_no_two_steps_lie_in_one_bin_and_each_step_counts_from_itself_on():
    steps = reference.CONFIDENCE_STEPS
    first = confidence.first_of_bins(steps)
    bins = (steps * confidence.BINS).astype(int)
    assert (np.diff(bins) > 0).all() and len(first) == bins[-1] + 1
    leads = np.concatenate([steps, np.nextafter(steps, np.float32(0)), np.float32([0, 9, np.inf, np.nan])])
    expected = [*range(1, 256), *range(255), 0, 255, 255, 0]
    assert [confidence._step(lead, steps, first) for lead in leads] == expected


def test_where_its_loops_alone_do_not_load_the_confidence_is_the_reference_s_and_it_says_so(monkeypatch, capsys):
    def fails(_, loops):
        if loops is confidence.LOOPS:
            raise ImportError("broken")

    monkeypatch.setattr("runtime.kernels.kept.compile_all", fails)
    monkeypatch.setattr(cpu, "_compiled", functools.cache(cpu._compiled.__wrapped__))
    logits = logits_with_ties(11, 8, 16)
    for _ in range(2):
        np.testing.assert_array_equal(by_loops(logits, (30, 50), tiny_spec()), reference.confidence(logits, 30, 50))
    assert capsys.readouterr().err == "numba does not load (broken): confidences are computed in NumPy, slowly\n"


# What is broken on purpose, in the kernel and in the loops.
BROKEN = [
    ("second = value > best ? best : value", "second = value"),
    ("lead >= steps", "lead > steps"),
    ("return finite ? best - second : NAN;", "return best - second;"),
    ("made.down[y]), steps)", "made.down[0]), steps)"),
]


@needs_compiler
@pytest.mark.parametrize(("right", "wrong"), BROKEN)
def test_these_checks_fail_on_a_broken_kernel(right, wrong):
    source = cuda_on_cpu.source()
    assert right in source
    broken = Cpu(cuda_on_cpu.compiled(source.replace(right, wrong), "-O0"))
    logits = kernel_cases.confidence_logits(5, 2, 6, 10, np.float32)
    edge = np.zeros((1, 2, 1, 1), np.float32)
    edge[0, 0] = reference.CONFIDENCE_STEPS[99]
    checks = [*((one, 24, 40, 2) for one in logits.values()), (edge, 1, 1, 1)]
    found = [
        (kernel_runs.confidence(broken, *check), reference.confidence(*check[:3], block=check[3])) for check in checks
    ]
    assert not all(np.array_equal(*each) for each in found)
