import importlib
import threading
import time
from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.helpers.pictures import gradient
from tests.helpers.ros_stand_in import header

FRAME = gradient(6, 10)


@pytest.fixture
def images(ros_package):
    return importlib.import_module("street_segmentation_ros.images")


@pytest.fixture
def newest(ros_package):
    return importlib.import_module("street_segmentation_ros.newest")


def image(pixels, encoding, *, padding=0, stamp=1):
    """A sensor_msgs/Image of uint8 (H, W) or (H, W, C), with rows that are padded with 99."""
    rows = pixels.reshape(len(pixels), -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(
        header=header(stamp, "camera"), height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        is_bigendian=0, step=data.shape[1], data=array("B", data.tobytes()),
    )  # fmt: skip


def yuv(frame, first):
    """uint8 (H, W, 2) of an RGB frame, in pairs of pixels that share their colour; `first` is where Y stands."""
    whole = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV)
    packed = np.empty((*frame.shape[:2], 2), np.uint8)
    packed[..., first] = whole[..., 0]
    packed[:, ::2, 1 - first], packed[:, 1::2, 1 - first] = whole[:, ::2, 1], whole[:, ::2, 2]
    return packed


ALPHA = np.full((6, 10, 1), 7, np.uint8)
COLOURS = {
    "rgb8": FRAME,
    "bgr8": FRAME[..., ::-1],
    "rgba8": np.concatenate([FRAME, ALPHA], 2),
    "bgra8": np.concatenate([FRAME[..., ::-1], ALPHA], 2),
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", COLOURS)
def test_every_order_of_colours_is_the_same_frame_with_and_without_padded_rows(images, encoding, padding):
    message = image(np.ascontiguousarray(COLOURS[encoding]), encoding, padding=padding)
    assert np.array_equal(images.frame_from_image(message), FRAME)


@pytest.mark.parametrize("padding", [0, 3])
def test_a_grey_image_is_three_equal_channels(images, padding):
    frame = images.frame_from_image(image(FRAME[..., 0], "mono8", padding=padding))
    assert frame.shape == FRAME.shape and all(np.array_equal(frame[..., c], FRAME[..., 0]) for c in range(3))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(("encoding", "first"), [("uyvy", 1), ("yuv422", 1), ("yuyv", 0), ("yuv422_yuy2", 0)])
def test_yuv_of_both_orders_has_its_own_colours(images, encoding, first, padding):
    colours = np.repeat(np.uint8([[[200, 30, 40], [10, 180, 60], [20, 40, 220]]]), 2, axis=1)  # pairs of one colour
    frame = images.frame_from_image(image(yuv(colours, first), encoding, padding=padding))
    assert frame.shape == colours.shape and np.array_equal(frame.argmax(2), colours.argmax(2))


def test_data_as_bytes_and_as_an_array_are_the_same_frame(images):
    message = image(FRAME, "rgb8")
    message.data = bytes(message.data)
    assert np.array_equal(images.frame_from_image(message), FRAME)


WRONG = {
    "another encoding": ({"encoding": "16UC1"}, "got '16UC1'"),
    "no encoding": ({"encoding": ""}, "got ''"),
    "big endian": ({"is_bigendian": 1}, "big endian"),
    "a step that is too short": ({"step": 29}, "a step of 29"),
    "too few bytes": ({"data": bytes(179)}, "179 bytes"),
    "too many bytes": ({"data": bytes(181)}, "181 bytes"),
    "no rows": ({"height": 0, "data": b""}, "0x10"),
    "a width of another encoding": ({"encoding": "rgba8"}, "a step of 30"),
    "an odd width of pairs": ({"encoding": "yuyv", "width": 9}, "even width"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_image_that_is_none_is_refused_in_one_line(images, name):
    fields, said = WRONG[name]
    message = image(FRAME, "rgb8")
    vars(message).update(fields)
    with pytest.raises(images.ImageError) as refused:
        images.frame_from_image(message)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_mask_goes_out_under_the_header_of_its_image(images):
    own, mask = header("a stamp", "camera_optical"), FRAME[..., 0]
    made = images.image_from_mask(mask, own, SimpleNamespace())
    assert made.header is own and (made.height, made.width, made.step) == (6, 10, 10)
    assert made.encoding == "mono8" and made.is_bigendian == 0
    assert type(made.data) is array and made.data.tobytes() == mask.tobytes()


class Held:
    """A segmenter that waits until the test lets it go on."""

    def __init__(self):
        self.go, self.begun, self.frames = threading.Semaphore(0), threading.Semaphore(0), []

    def segment(self, frame):
        self.frames.append(frame.copy())
        self.begun.release()
        assert self.go.acquire(timeout=10)
        return frame[..., 0]


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def stream(newest):
    segmenter, published, told = Held(), [], []
    made = newest.Stream(segmenter, lambda mask, own: published.append((mask, own)), told.append)
    yield SimpleNamespace(stream=made, segmenter=segmenter, published=published, told=told)
    segmenter.go.release(100)
    made.close()


def test_of_images_that_come_while_one_is_segmented_only_the_newest_is(stream):
    stream.stream.put(image(FRAME, "rgb8", stamp=0))
    assert stream.segmenter.begun.acquire(timeout=10)
    for stamp in (1, 2, 3):
        stream.stream.put(image(FRAME, "rgb8", stamp=stamp))
    stream.segmenter.go.release(2)
    until(lambda: stream.stream.counts().segmented == 2)
    assert [own.stamp for _, own in stream.published] == [0, 3]
    assert {own.frame_id for _, own in stream.published} == {"camera"}
    counts = stream.stream.counts()
    assert (counts.received, counts.dropped, counts.refused) == (4, 2, 0) and counts.last_ms > 0


def test_an_image_that_is_refused_is_told_and_the_next_is_segmented(stream):
    stream.stream.put(image(FRAME, "rgb8", stamp=0))
    assert stream.segmenter.begun.acquire(timeout=10)
    stream.stream.put(image(FRAME[..., 0], "8UC1"))
    stream.segmenter.go.release()
    until(lambda: stream.stream.counts().refused == 1)
    stream.stream.put(image(FRAME, "rgb8", stamp=2))
    stream.segmenter.go.release()
    until(lambda: stream.stream.counts().segmented == 2)
    assert len(stream.told) == 1 and "8UC1" in stream.told[0] and stream.stream.failure is None


def test_what_fails_beyond_an_image_ends_the_stream_and_is_kept(newest):
    def fail(frame):
        raise RuntimeError("the engine is gone")

    stream = newest.Stream(SimpleNamespace(segment=fail), lambda mask, own: None, print)
    assert stream.failure is None
    stream.put(image(FRAME, "rgb8"))
    until(lambda: stream.failure is not None)
    assert "the engine is gone" in str(stream.failure)
    stream.put(image(FRAME, "rgb8"))
    stream.close()


def test_a_stream_that_waits_for_an_image_is_closed_at_once(newest):
    stream = newest.Stream(Held(), lambda mask, own: None, print)
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < 5 and stream.failure is None
