import numpy as np
import pytest

from runtime.kernels import copies

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 20, 4), np.uint8)
FRAME = np.ascontiguousarray(PICTURE[..., :3])
VIEWS = {
    "itself": FRAME,
    "reversed channels": FRAME[..., ::-1],
    "reversed channels of a part": FRAME[2:9, 3:17, ::-1],
    "mirrored": FRAME[:, ::-1],
    "a part, mirrored": FRAME[1:5, 4:8][:, ::-1],
    "upside down": FRAME[::-1],
    "turned by half": FRAME[::-1, ::-1],
    "all three": FRAME[::-1, ::-1, ::-1],
    "each other pixel": FRAME[::2, ::2],
    "each other row, reversed channels": FRAME[::2, :, ::-1],
    "turned": np.rot90(FRAME),
    "of four channels": PICTURE[..., :3],
    "of four, reversed": PICTURE[..., 2::-1],
    "of planes": np.ascontiguousarray(FRAME.transpose(2, 0, 1)).transpose(1, 2, 0),
    "one value": np.broadcast_to(np.uint8(7), (3, 5, 3)),
    "one column, reversed": FRAME[:, :1, ::-1],
    "one column, mirrored": FRAME[:, :1][:, ::-1],
    "one pixel": FRAME[3:4, 3:4, ::-1],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("writeable", [True, False], ids=["", "read-only"])
def test_every_view_is_copied_value_for_value(view, writeable):
    view = view[...]
    view.flags.writeable = view.flags.writeable and writeable
    out = np.full(view.shape, 99, np.uint8)
    copies.copy_frame(view, out)
    np.testing.assert_array_equal(out, np.array(view))
    np.testing.assert_array_equal(copies.contiguous(view), np.array(view))
    assert copies.contiguous(view).flags.c_contiguous


def test_what_is_contiguous_is_not_copied():
    assert copies.contiguous(FRAME) is FRAME and not np.shares_memory(copies.contiguous(FRAME[::2]), FRAME)


def test_the_same_place_is_the_same_memory_in_the_same_order():
    assert copies.same_place(FRAME, FRAME[:])
    for other in (
        FRAME.copy(),
        FRAME[::-1],
        FRAME[..., ::-1],
        FRAME[1:],
        FRAME.view(np.int8),
        FRAME.reshape(20, 12, 3),
    ):
        assert not copies.same_place(FRAME, other)
