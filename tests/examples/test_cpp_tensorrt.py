"""The C++ program over TensorRT: no GPU runs it here, so stand-ins for TensorRT and CUDA do, with segment.cu itself."""

import dataclasses
import subprocess

import cv2
import numpy as np
import pytest

from runtime.labels import CAMVID
from runtime.spec import ModelSpec, Preprocess
from tests.examples.test_cpp import read_mask, write_frame
from tests.helpers import cpp_tensorrt
from tests.helpers.engines import changed

pytestmark = pytest.mark.examples

PREPROCESS = Preprocess(16, 32, 1 / 255, (0.3, 0.4, 0.5), (0.2, 0.3, 0.4), "BGR")
SPEC = ModelSpec("icnet", PREPROCESS, CAMVID, 4, 1, 1, "0" * 64, "a test")
BLOCKS = dataclasses.replace(SPEC, output_stride=1, block=2)
CASES = {
    "planes": (SPEC, "fp16", (0, 0)),
    "FP32": (SPEC, "fp32", (0, 0)),
    "blocks": (BLOCKS, "fp16", (0, 0)),
    "channels last by their format": (BLOCKS, "fp16", (1, 1)),
    "channels last by their dimensions, FP32": (SPEC, "fp32", (2, 2)),
    "a border": (dataclasses.replace(SPEC, preprocess=dataclasses.replace(PREPROCESS, fit="auto")), "fp16", (1, 0)),
    "aligned corners": (dataclasses.replace(SPEC, upsample="align_corners"), "fp32", (0, 2)),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program over the stand-ins."""
    return cpp_tensorrt.build_on_stand_ins(tmp_path_factory.mktemp("tensorrt"))


@pytest.fixture
def segment(program, tmp_path):
    def run(*words):
        done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.splitlines()

    return run


@pytest.mark.parametrize("size", [(16, 32), (31, 77), (9, 200), (1, 1)])
@pytest.mark.parametrize("case", CASES)
def test_the_masks_are_those_of_the_reference(segment, tmp_path, case, size):
    spec, precision, lies = CASES[case]
    frame = write_frame(tmp_path / "a.ppm", *size)
    mask = cpp_tensorrt.write_engine(tmp_path / "x.engine", spec, precision, frame, lies)
    assert segment("x.engine", "a.ppm", "-o", ".") == (0, [])
    assert np.array_equal(read_mask(tmp_path / "a_ppm_ids.pgm"), mask)


def test_a_frame_of_another_size_and_then_the_first_again_give_their_masks(segment, tmp_path):
    spec = dataclasses.replace(SPEC, preprocess=dataclasses.replace(PREPROCESS, fit="stretch"))
    sizes = {"a": (20, 40), "b": (40, 80), "c": (20, 40)}
    for name, size in sizes.items():  # of one colour: all are the same input
        cv2.imwrite(str(tmp_path / f"{name}.ppm"), np.full((*size, 3), 90, np.uint8))
    masks = {}
    for name, size in sizes.items():
        masks[name] = cpp_tensorrt.write_engine(tmp_path / "x.engine", spec, "fp16", np.full((*size, 3), 90, np.uint8))
    assert segment("x.engine", *(f"{name}.ppm" for name in sizes), "-o", ".") == (0, [])
    for name, mask in masks.items():
        assert np.array_equal(read_mask(tmp_path / f"{name}_ppm_ids.pgm"), mask)


DAMAGES = {
    "another GPU": (lambda e: _move(e, device="NVIDIA T4"), "device: built for NVIDIA T4, this machine has NVIDIA A"),
    "another version": (lambda e: _move(e, library_version="11.4.0"), "built for 11.4.0, this machine has 10.7.0.23"),
    "another backend": (lambda e: changed(e, backend="openvino"), "opens engines of tensorrt alone"),
    "several frames": (lambda e: changed(e, spec=dataclasses.replace(SPEC, batch=4)), "4 frames at once"),
    "another network": (lambda e: changed(e, spec=BLOCKS), "logits is of another shape or type"),
    "half an engine": (lambda e: e.write_bytes(e.read_bytes()[:-100]), "is damaged or edited"),
}


def _move(engine, **fields):
    target = cpp_tensorrt.Target("tensorrt", "10.7.0", "NVIDIA Abacus", "9.0", cpp_tensorrt.this_system())
    changed(engine, target=dataclasses.replace(target, **fields))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_engine_that_is_not_what_its_manifest_says_is_refused_in_one_line(segment, tmp_path, damage):
    spoil, said = DAMAGES[damage]
    frame = write_frame(tmp_path / "a.ppm", 16, 32)
    cpp_tensorrt.write_engine(tmp_path / "x.engine", SPEC, "fp16", frame)
    spoil(tmp_path / "x.engine")
    code, errors = segment("x.engine", "a.ppm", "-o", ".")
    assert code == 1 and len(errors) == 1 and said in errors[0]


def test_what_tensorrt_says_of_a_frame_that_fails_is_told_and_threads_are_refused(segment, tmp_path):
    frame = write_frame(tmp_path / "a.ppm", 16, 32)
    cpp_tensorrt.write_engine(tmp_path / "x.engine", SPEC, "fp16", frame[::-1])
    assert segment("x.engine", "a.ppm", "-o", ".") == (
        1, ["error: TensorRT cannot run the engine: the input is another one"]
    )  # fmt: skip
    code, errors = segment("x.engine", "a.ppm", "-o", ".", "--threads", "2")
    assert code == 1 and "runs on the GPU" in errors[0]


def test_it_compiles_against_nvidias_headers(tmp_path):
    root = cpp_tensorrt.headers()
    if root is None:
        pytest.skip("NvInferRuntime.h or nvcc is not here: set TENSORRT_ROOT to the folder over TensorRT's include/")
    cpp_tensorrt.compile_against(root, tmp_path)
