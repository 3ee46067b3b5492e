import dataclasses
import shutil
import subprocess
from functools import cache, partial

import numpy as np
import pytest

from runtime import reference
from runtime.errors import LibraryError
from runtime.fit import box_of
from runtime.kernels import cuda
from runtime.labels import CAMVID, palette
from tests.helpers import cuda_on_cpu, kernel_cases, kernel_runs
from tests.helpers.cuda_on_cpu import Cpu

pytestmark = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("base", [kernel_cases.STREET, kernel_cases.RAW_BGR], ids=["rgb", "bgr"])
@pytest.mark.parametrize(("size", "network"), kernel_cases.INPUT_SIZES, ids=str)
def test_resize_normalize_equals_the_reference_bit_for_bit(size, network, base, dtype):
    preprocess = base.__class__(*network, base.scale, base.mean, base.std, base.channel_order)
    for what, frame in kernel_cases.frames(*size).items():
        expected = reference.preprocess(frame, preprocess).astype(kernel_runs.DTYPES[dtype])
        np.testing.assert_array_equal(kernel_runs.preprocess(Cpu(), frame, preprocess, dtype), expected, what)
        made = kernel_runs.preprocess(Cpu(), frame, preprocess, dtype, last=True)
        np.testing.assert_array_equal(made, kernel_runs.padded_last(expected), what)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("classes", kernel_cases.CLASSES)
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_upsample_argmax_equals_the_reference_on_every_pixel(coarse, size, classes, block, dtype, last):
    for what, logits in kernel_cases.logits(classes, block, *coarse, dtype).items():
        expected = reference.postprocess(logits, *size, block=block)
        np.testing.assert_array_equal(kernel_runs.postprocess(Cpu(), logits, *size, block, last=last), expected, what)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("coarse", [(1, 1), (5, 7), (6, 8), (3, 130)], ids=str)
def test_at_the_logits_own_size_their_winners_are_the_mask(coarse, block, dtype, last):
    for classes in kernel_cases.CLASSES:
        for what, logits in kernel_cases.logits(classes, block, *coarse, dtype).items():
            expected = reference.postprocess(logits, coarse[0] * block, coarse[1] * block, block=block)
            np.testing.assert_array_equal(kernel_runs.native_mask(Cpu(), logits, block, last=last), expected, what)


@pytest.mark.parametrize("upsample", ["align_corners", "nearest"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_every_way_to_upsample_equals_the_reference_on_every_pixel(coarse, size, block, upsample):
    for what, logits in kernel_cases.logits(11, block, *coarse, np.float16).items():
        if np.isfinite(logits).all():  # nothing times infinity is no number in the reference, and is not read here
            expected = reference.postprocess(logits, *size, block=block, upsample=upsample)
            found = kernel_runs.postprocess(Cpu(), logits, *size, block, upsample=upsample)
            np.testing.assert_array_equal(found, expected, what)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("base", [kernel_cases.STREET, kernel_cases.RAW_BGR], ids=["rgb", "bgr"])
@pytest.mark.parametrize(("size", "network"), kernel_cases.FITTED_SIZES, ids=str)
def test_a_frame_with_a_border_and_its_mask_are_the_references(size, network, base, last):
    preprocess = dataclasses.replace(base, height=network[0], width=network[1], fit="pad")
    for what, frame in kernel_cases.frames(*size).items():
        expected = reference.preprocess(frame, preprocess)
        made = kernel_runs.preprocess(Cpu(), frame, preprocess, "fp32", last=last)
        np.testing.assert_array_equal(made, kernel_runs.padded_last(expected) if last else expected, what)
    box = box_of(preprocess, *size)
    for what, logits in kernel_cases.logits(5, 2, network[0] // 4, network[1] // 4, np.float32).items():
        mask = kernel_runs.postprocess(Cpu(), logits, *size, 2, last=last, box=box)
        np.testing.assert_array_equal(mask, reference.postprocess(logits, *size, block=2, box=box), what)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("coarse", "size"), kernel_cases.MASK_SIZES, ids=str)
def test_an_overlay_in_the_same_pass_equals_the_reference_on_every_pixel(coarse, size, alpha):
    colors = palette(CAMVID)
    logits = kernel_cases.logits(11, 1, *coarse, np.float16)["noise"]
    expected = reference.postprocess(logits, *size)
    for what, frame in kernel_cases.frames(*size).items():
        mask, overlay = kernel_runs.overlay(Cpu(), frame, logits, colors, alpha)
        np.testing.assert_array_equal(mask, expected, what)
        np.testing.assert_array_equal(overlay, reference.overlay(frame, expected, colors, alpha), what)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("block", [1, 2, 16])
def test_the_most_classes_that_a_mask_can_hold(block, last):
    logits = np.random.default_rng(0).normal(size=(1, 255 * block**2, 3, 4)).astype(np.float16)
    logits[:, 254 * block**2 :, 1:, 1:] = 9
    mask = kernel_runs.postprocess(Cpu(), logits, 11, 13, block, last=last)
    np.testing.assert_array_equal(mask, reference.postprocess(logits, 11, 13, block=block))
    assert 254 in mask


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("size", [(13, 301), (64, 2), (9, 1000)], ids=str)
def test_cells_that_several_tiles_share_are_whole(size, last):
    for coarse in ((2, 3), (3, 40)):
        for what, logits in kernel_cases.logits(5, 2, *coarse, np.float32).items():
            expected = reference.postprocess(logits, *size, block=2)
            np.testing.assert_array_equal(kernel_runs.postprocess(Cpu(), logits, *size, 2, last=last), expected, what)


def test_an_input_of_other_channels_is_refused():
    for shape, last in (((4, 8, 8), False), ((3, 8, 8), True)):
        with pytest.raises(ValueError, match="an input has 3 channels, or 4 where they are last"):
            cuda.resize_normalize(
                cuda.Pixels(1, 8, 8), cuda.Axes(2, 3), 4, cuda.Tensor(5, shape, "fp16", last), bgr=False
            )


# A compiler's second each.
BROKEN = [
    ("inputs", "rintf(value)", "floorf(value + 0.5f)"),
    ("inputs", "bgr ? rgb[2 - channel] : rgb[channel]", "bgr ? rgb[channel] : rgb[2 - channel]"),
    ("masks", "value > best)", "value >= best)"),
    ("masks", "vectors * LENGTH + thread", "vectors * LENGTH + thread + 1"),
    ("masks", "&queued, queue);\n        __syncthreads();", "&queued, queue);"),
    ("masks", "(x > tile_x && same_cell", "(same_cell"),
    ("overlays", "colors.value[i] : frame_row", "0 : frame_row"),
]
BROKEN_TOO = [
    ("masks", "value > best[i]", "value >= best[i]"),
    ("masks", "undecided && near ? UNDECIDED", "undecided && near && winner[i] < 0 ? UNDECIDED"),
    ("masks", "undecided && near ? UNDECIDED", "undecided >= 0 && near ? UNDECIDED"),
    ("masks", "lower[u.second] == winner", "true"),
    ("masks", "part = (y % block) * block", "part = y % block"),
    ("masks", "8 * (block + part) % 32", "8 * (1 + part) % 32"),
    ("inputs", "store(&pixel.value[3], 0.0f)", "store(&pixel.value[3], 1.0f)"),
    ("inputs", "(blockIdx.x * PIXELS + i) * blockDim.x", "(blockIdx.x * PIXELS + i) * PIXELS"),
    ("masks", "    }\n    __syncthreads();\n    const int parts", "    }\n    const int parts"),
    ("masks", "position % width) * block", "position % width) * parts"),
    ("masks", "        __syncthreads();\n        strip =", "        strip ="),
    ("masks", "(y > tile_y && same_cell", "(same_cell"),
    ("masks", "&& a.second == b.second", ""),
    ("masks", "(right - x) * (bottom - y)", "right - x"),
    ("inputs", "gain_bias[3 + channel]", "gain_bias[3]"),
    ("overlays", "strip.value[i / 3] * 3 + i % 3", "strip.value[i / 3] * 3"),
    ("overlays", "(width - x) * 3", "(width - x) * 2"),
    ("overlays", "frame + 3 * row, shades", "frame, shades"),
    ("masks", "if (x + i < width) row", "if (x + i < width - 1) row"),
]


@pytest.mark.parametrize(
    ("seen_in", "right", "wrong"), [*BROKEN, *(pytest.param(*one, marks=pytest.mark.slow) for one in BROKEN_TOO)]
)
def test_these_checks_fail_on_a_broken_kernel(seen_in, right, wrong):
    source = cuda_on_cpu.source()
    broken = Cpu(cuda_on_cpu.compiled(source.replace(right, wrong), "-O0"))
    assert not all(np.array_equal(run(broken), expected) for run, expected in CHECKS[seen_in]())


def test_what_is_broken_is_in_the_source():
    source = cuda_on_cpu.source()
    assert not [right for _, right, _ in (*BROKEN, *BROKEN_TOO) if right not in source]


@pytest.mark.parametrize("seen_in", ["inputs", "masks", "overlays"])
def test_the_checks_that_broken_kernels_fail_are_passed_by_the_whole_one(seen_in):
    assert all(np.array_equal(run(Cpu()), expected) for run, expected in CHECKS[seen_in]())


def test_threads_that_end_where_others_wait_are_told_and_the_next_launch_runs():
    wait = "        __syncthreads();\n        for (int i = thread; i < queued"
    source = cuda_on_cpu.source()
    assert wait in source
    place = Cpu(cuda_on_cpu.compiled(source.replace(wait, f"        if (thread == 3) return;\n{wait}"), "-O0"))
    logits = kernel_cases.logits(3, 1, 6, 10, np.float32)
    for _ in range(2):
        with pytest.raises(AssertionError, match="threads ended and others wait at a barrier"):
            kernel_runs.postprocess(place, logits["noise"], 24, 40, 1)
        np.testing.assert_array_equal(kernel_runs.postprocess(place, logits["flat"], 24, 40, 1), 0)


def test_an_overlay_moves_the_frame_in_and_out():
    logits, axes, mask = cuda.Tensor(1, (11, 8, 16), "fp16"), cuda.Axes(2, 3), cuda.Pixels(4, 32, 64)
    alone = cuda.upsample_argmax(logits, 1, 5, axes, mask)
    blended = cuda.upsample_argmax(logits, 1, 5, axes, mask, cuda.Blend(6, 7, 128, 8))
    assert (alone.nbytes, blended.nbytes) == (8 * 16 + 32 * 64, 8 * 16 + 32 * 64 * 7)


def test_launches_take_the_strips_of_the_source():
    assert f"constexpr int PIXELS = {cuda.PIXELS};" in cuda_on_cpu.source()


NVCC = ("nvcc", *(flag for flag in cuda.FLAGS if flag != "-cubin"), "-Werror", "all-warnings", cuda.SOURCE)


@pytest.mark.slow
@needs_nvcc
def test_nvcc_compiles_the_kernels_for_every_architecture(tmp_path):
    codes = ",".join(f"sm_{number}" for number in ARCHITECTURES)
    fatbin = ["-fatbin", "-gencode", f"arch=compute_75,code=[{codes}]", "-o", tmp_path / "segment.fatbin"]
    subprocess.run([*NVCC, "--threads", "0", *fatbin], check=True)


@needs_nvcc
def test_no_multiply_add_is_fused(tmp_path):
    subprocess.run([*NVCC, "-ptx", "-o", tmp_path / "segment.ptx"], check=True)
    assert "fma." not in (tmp_path / "segment.ptx").read_text()


@needs_nvcc
def test_a_cubin_is_compiled_once(tmp_path, monkeypatch):
    first = cuda.compiled("9.0", cache=tmp_path)
    monkeypatch.setattr(cuda, "_compile", lambda command: pytest.fail("compiled again"))
    assert cuda.compiled("9.0", cache=tmp_path) == first
    assert first[:4] == b"\x7fELF"


@pytest.fixture
def nvcc(tmp_path, monkeypatch):
    """An nvcc that answers its version, and code that is counted instead of compiled."""
    program, made = tmp_path / "nvcc", []
    program.write_text("#!/bin/sh\necho 13.0\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    monkeypatch.setattr(cuda, "_compile", lambda command: made.append(command) or b"code" * 99)
    return made


def test_a_cubin_that_is_damaged_is_compiled_anew(tmp_path, nvcc):
    cuda.compiled("9.0", cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.cubin")
    for damaged in (b"", b"code" * 98, b"codf" + b"code" * 98):
        path.write_bytes(damaged)
        assert cuda.compiled("9.0", cache=tmp_path / "cache") == b"code" * 99 == path.read_bytes()
    assert cuda.compiled("9.0", cache=tmp_path / "cache") == b"code" * 99
    assert len(nvcc) == 4


@pytest.mark.parametrize("name", ["SOURCE", "HEADER"])
def test_another_source_or_header_is_compiled_anew(tmp_path, nvcc, monkeypatch, name):
    cuda.compiled("9.0", cache=tmp_path)
    changed = tmp_path / "changed"
    changed.write_text(f"{getattr(cuda, name).read_text()}\n")
    monkeypatch.setattr(cuda, name, changed)
    cuda.compiled("9.0", cache=tmp_path)
    assert len(nvcc) == 2


def test_where_a_cubin_cannot_be_kept_it_is_said_and_done_without(tmp_path, nvcc, capsys):
    (tmp_path / "file").write_bytes(b"")
    for _ in range(2):
        assert cuda.compiled("9.0", cache=tmp_path / "file" / "cache") == b"code" * 99
    assert len(nvcc) == 2
    assert capsys.readouterr().err.startswith("segment.cu as compiled is not kept, the next start compiles it again: ")


@needs_nvcc
def test_an_unknown_architecture_is_one_line(tmp_path):
    with pytest.raises(LibraryError, match=r"nvcc cannot compile segment\.cu \(-arch=sm_12345\)") as error:
        cuda.compiled("1234.5", cache=tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@cache
def _inputs():
    checks, base = [], kernel_cases.RAW_BGR
    for size, network in kernel_cases.INPUT_SIZES:
        preprocess = base.__class__(*network, base.scale, base.mean, base.std, base.channel_order)
        for frame in kernel_cases.frames(*size).values():
            expected, run = reference.preprocess(frame, preprocess), partial(kernel_runs.preprocess, frame=frame)
            run = partial(run, preprocess=preprocess, dtype="fp32")
            checks += [(run, expected), (partial(run, last=True), kernel_runs.padded_last(expected))]
    return checks


@cache
def _overlays():
    checks, colors = [], palette(CAMVID)
    for coarse, size in kernel_cases.MASK_SIZES:
        logits = kernel_cases.logits(11, 1, *coarse, np.float32)["noise"]
        frame = kernel_cases.frames(*size)["noise"]
        expected = reference.overlay(frame, reference.postprocess(logits, *size), colors, 0.3)
        checks.append((partial(_overlay, frame, logits, colors), expected))
    return checks


def _overlay(frame, logits, colors, place):
    return kernel_runs.overlay(place, frame, logits, colors, 0.3)[1]


@cache
def _masks():
    cases = [(*sizes, 3, 2) for sizes in kernel_cases.MASK_SIZES]
    cases += [((3, 70), (13, 301), 3, 2), ((3, 4), (11, 13), 255, 5), ((5, 7), (5, 7), 3, 1)]
    checks = []
    for coarse, size, classes, block in cases:
        for logits in kernel_cases.logits(classes, block, *coarse, np.float32).values():
            expected = reference.postprocess(logits, *size, block=block)
            own = reference.postprocess(logits, coarse[0] * block, coarse[1] * block, block=block)
            for last in (False, True):
                how = {"logits": logits, "block": block, "last": last}
                upsampled = partial(kernel_runs.postprocess, height=size[0], width=size[1], **how)
                checks += [(upsampled, expected), (partial(kernel_runs.native_mask, **how), own)]
    return checks


# What a place runs, and what must come of it; made once for all that is broken.
CHECKS = {"inputs": _inputs, "masks": _masks, "overlays": _overlays}
