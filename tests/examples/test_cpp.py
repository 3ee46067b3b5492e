import dataclasses
import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest

import runtime
from runtime.manifest import manifest_path, read_manifest
from tests.helpers.engines import built_engine, changed
from tests.helpers.graphs import DOUBLED, tiny_spec

pytestmark = pytest.mark.examples

SIZES = ((32, 64), (8, 16), (31, 77), (64, 20), (9, 200), (1, 1))
CASES = {
    "fp32": ("fp32", tiny_spec()),
    "doubled logits": ("fp32", dataclasses.replace(tiny_spec(), source=DOUBLED)),
    "doubled logits in fp16": ("fp16", dataclasses.replace(tiny_spec(), source=DOUBLED)),
    "blocks of fp16": ("fp16", tiny_spec(block=2)),
    "any batch": ("fp32", tiny_spec(batch=4, batch_free=True)),
    "aligned corners": ("fp32", dataclasses.replace(tiny_spec(), upsample="align_corners")),
    "BGR, padded": (
        "fp32",
        dataclasses.replace(
            tiny_spec(block=2), preprocess=dataclasses.replace(tiny_spec().preprocess, channel_order="BGR", fit="auto")
        ),
    ),
}


@pytest.fixture
def segment(built, tmp_path):
    """Runs the program: (exit code, lines of stdout, lines of stderr)."""

    def run(*words):
        done = subprocess.run([built / "segment", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    return run


def write_frame(path, height, width):
    """A frame of noise as a PPM; the frame, RGB."""
    frame = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), frame[..., ::-1])
    return frame


def read_mask(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("name", CASES)
def test_the_program_writes_the_masks_that_segment_gives(segment, tmp_path, name):
    precision, spec = CASES[name]
    engine = built_engine(tmp_path / "engines", precision=precision, spec=spec)
    frames = {f"f{h}x{w}": write_frame(tmp_path / f"f{h}x{w}.ppm", h, w) for h, w in SIZES}
    code, said, errors = segment(engine, *(f"{name}.ppm" for name in frames), "-o", "masks")
    assert (code, errors) == (0, []) and said == [f"masks/{name}_ppm_ids.pgm" for name in frames]
    with runtime.open_backend(engine) as backend:
        for line, frame in zip(said, frames.values(), strict=True):
            assert np.array_equal(read_mask(tmp_path / line), backend.segment(frame)), line
    assert not list(tmp_path.glob("masks/*.part"))


@pytest.fixture
def engine(tmp_path):
    write_frame(tmp_path / "a.ppm", 8, 8)
    return built_engine(tmp_path / "engines")


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "a flipped bit of the engine": (lambda e: flip(e, -20), "is damaged or edited"),
    "half an engine": (lambda e: e.write_bytes(e.read_bytes()[:-100]), "is damaged or edited"),
    "no engine": (lambda e: e.unlink(), "cannot be read"),
    "no manifest": (lambda e: manifest_path(e).unlink(), "cannot be read"),
    "an edited manifest": (lambda e: _edit(e, "}", "} "), "is edited or of another version"),
    "an edited mean": (lambda e: _edit(e, "10.0", "11.0"), "is edited or of another version"),
    "no JSON": (lambda e: manifest_path(e).write_text("{"), "is not readable"),
    "a list": (lambda e: manifest_path(e).write_text("[]"), "is not readable"),
    "a version to come": (lambda e: _edit(e, '"version": 3', '"version": 5'), "5 is out of bounds"),
    "another backend": (lambda e: changed(e, backend="onnxruntime"), "is of another backend"),
    "other types": (lambda e: changed(e, executed={"int8": 2}), "in other types than its manifest says"),
    "several frames": (lambda e: changed(e, spec=tiny_spec(batch=4)), "4 frames at once"),
    "another machine": (lambda e: _move(e), "device: built for a PDP-11"),
}


def _edit(engine, old, new):
    path = manifest_path(engine)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _move(engine):
    target = dataclasses.replace(read_manifest(engine).target, device="a PDP-11")
    changed(engine, target=target)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_engine_that_is_not_what_its_manifest_says_is_refused_in_one_line(segment, engine, damage):
    spoil, said = DAMAGES[damage]
    spoil(engine)
    code, lines, errors = segment(engine, "a.ppm", "-o", "masks")
    assert code == 1 and lines == [] and len(errors) == 1
    assert errors[0].startswith("error: ") and said in errors[0]


def test_a_picture_that_is_none_is_told_and_the_others_go_on(segment, engine, tmp_path):
    good = (tmp_path / "a.ppm").read_bytes()
    spoilt = {"cut": good[:-1], "empty": b"", "png": b"\x89PNG", "deep": good.replace(b"255", b"65535", 1)}
    spoilt |= {"huge": b"P6\n99999999 99999999\n255\n", "zero": b"P6\n0 8\n255\n", "header": b"P6\n# a comment"}
    for name, data in spoilt.items():
        (tmp_path / f"{name}.ppm").write_bytes(data)
    code, lines, errors = segment(engine, *(f"{name}.ppm" for name in spoilt), "gone.ppm", "a.ppm", "-o", "masks")
    assert code == 1 and lines == ["masks/a_ppm_ids.pgm"] and len(errors) == len(spoilt) + 1
    assert all(line.startswith(f"error: {name}.ppm ") for line, name in zip(errors, [*spoilt, "gone"], strict=True))


def test_a_comment_in_a_pictures_header_is_no_pixel(segment, engine, tmp_path):
    plain = (tmp_path / "a.ppm").read_bytes()
    (tmp_path / "b.ppm").write_bytes(plain.replace(b"P6\n", b"P6 # by a camera\n", 1))
    assert segment(engine, "a.ppm", "b.ppm", "-o", ".")[0] == 0
    assert (tmp_path / "a_ppm_ids.pgm").read_bytes() == (tmp_path / "b_ppm_ids.pgm").read_bytes()


def test_two_pictures_of_one_name_do_not_overwrite_each_other(segment, engine, tmp_path):
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a.ppm", tmp_path / "b")
    code, lines, errors = segment(engine, "a.ppm", "b/a.ppm", "-o", "masks")
    assert code == 1 and lines == [] and len(errors) == 1 and "two pictures" in errors[0]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_number_of_threads_changes_no_mask(segment, engine, tmp_path, threads):
    assert segment(engine, "a.ppm", "-o", "as-it-is")[0] == 0
    code, _, errors = segment(engine, "a.ppm", "-o", "held", "--threads", threads, "--rounds", "3")
    assert code == 0 and len(errors) == 1 and "median of 3" in errors[0]
    assert np.array_equal(read_mask(tmp_path / "as-it-is/a_ppm_ids.pgm"), read_mask(tmp_path / "held/a_ppm_ids.pgm"))


@pytest.mark.parametrize(
    "words", [(), ("x.engine",), ("x.engine", "a.ppm"), ("x", "y", "-o", "z", "--threads", "many")]
)
def test_a_wrong_use_is_told_how_to(segment, words):
    code, lines, errors = segment(*words)
    assert code == 2 and lines == [] and errors[0].startswith("usage: segment ENGINE")


def test_the_manifest_is_checked_as_it_is_written(engine):
    # The program recomputes the checksum from the text alone, without its last line.
    text = manifest_path(engine).read_text()
    assert list(json.loads(text))[-1] == "manifest_sha256" and text.endswith('"\n}')
