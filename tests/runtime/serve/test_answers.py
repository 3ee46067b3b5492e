import json

import cv2
import numpy as np
import pytest

from runtime.labels import CAMVID, palette
from runtime.media.jpeg import MOST_SIDE_PX, jpeg_from_pixels
from runtime.media.outputs import Look, Seen
from runtime.media.pictures import Segmented
from runtime.serve.answers import answer_of, class_values, runs_of, shown_classes
from runtime.serve.asked import Asked
from runtime.serve.replies import Refusal
from tests.helpers.fake_backend import SPEC

rng = np.random.default_rng(0)
FRAME = rng.integers(0, 256, (20, 30, 3), np.uint8)
MASK = rng.integers(0, len(CAMVID), (20, 30), np.uint8)
CONFIDENCE = rng.integers(0, 256, (20, 30), np.uint8)
SEGMENTED = Segmented(FRAME, Seen(MASK, CONFIDENCE), {})


def decoded(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image[..., ::-1] if image.ndim == 3 else image


def mask_of(runs):
    return np.repeat(np.array(runs["ids"], np.uint8), runs["lengths"]).reshape(runs["height"], runs["width"])


def test_ids_as_png_and_raw_are_the_mask_bit_for_bit():
    reply = answer_of(SEGMENTED, Asked(form="ids"), SPEC)
    assert np.array_equal(decoded(reply.body), MASK) and reply.headers["X-Frame-Size"] == "20x30"
    assert answer_of(SEGMENTED, Asked(form="raw"), SPEC).body == MASK.tobytes()


def test_a_confidence_is_a_second_plane_or_a_png():
    both = answer_of(SEGMENTED, Asked(form="raw", confidence=True, void_below=0), SPEC)
    assert both.body == MASK.tobytes() + CONFIDENCE.tobytes() and both.headers["X-Planes"] == "ids, confidence"
    assert np.array_equal(decoded(answer_of(SEGMENTED, Asked(form="confidence", void_below=0), SPEC).body), CONFIDENCE)


@pytest.mark.parametrize("colors", ["own", "cityscapes"])
@pytest.mark.parametrize("form", ["color", "overlay"])
def test_colours_and_overlay_are_what_infer_writes(form, colors):
    asked = Asked(form=form, alpha=0.25, colors=colors)
    look = Look(palette(shown_classes(SPEC, asked)), 0.25)
    assert np.array_equal(decoded(answer_of(SEGMENTED, asked, SPEC).body), look.pixels(form, FRAME, SEGMENTED.seen))


def test_an_overlay_as_a_jpeg_is_what_infer_writes_and_one_that_is_too_long_is_refused():
    asked = Asked(form="jpeg", alpha=0.25, quality=70)
    pixels = Look(palette(SPEC.classes), 0.25).pixels("overlay", FRAME, SEGMENTED.seen)
    reply = answer_of(SEGMENTED, asked, SPEC)
    assert reply.body == jpeg_from_pixels(pixels, 70) and reply.kind == "image/jpeg"
    long = np.zeros((1, MOST_SIDE_PX + 1), np.uint8)
    with pytest.raises(Refusal, match="as=overlay") as caught:
        answer_of(Segmented(np.zeros((*long.shape, 3), np.uint8), Seen(long), {}), asked, SPEC)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "mask",
    [MASK, np.zeros((1, 1), np.uint8), np.full((3, 5), 255, np.uint8), np.array([[0, 1], [1, 0]], np.uint8), MASK.T],
    ids=["any", "one pixel", "void", "over the edge of a row", "not contiguous"],
)
def test_runs_are_the_mask(mask):
    runs = runs_of(mask, SPEC)
    assert np.array_equal(mask_of(runs), mask)
    assert all(a != b for a, b in zip(runs["ids"], runs["ids"][1:], strict=False))
    assert sum(each["share"] for each in runs["classes"]) == pytest.approx(1)
    json.dumps(runs)


def test_the_classes_of_runs_are_those_that_are_seen_by_name():
    runs = runs_of(np.array([[0, 0, 3, 255]], np.uint8), SPEC)
    assert [(each["id"], each["name"], each["share"]) for each in runs["classes"]] == [
        (0, CAMVID[0].name, 0.5), (3, CAMVID[3].name, 0.25), (255, "(void)", 0.25),
    ]  # fmt: skip


def test_classes_are_listed_with_both_of_their_colours():
    values = class_values(SPEC)
    assert [each["id"] for each in values] == list(range(len(CAMVID)))
    assert values[9] == {"id": 9, "name": "pedestrian", "color": [64, 64, 0], "cityscapes": [220, 20, 60]}
