import numpy as np
import pytest

from runtime.errors import EngineError
from runtime.triton.golden import Golden, bytes_from_golden, golden_path, read_golden, refuse_other_mask
from tests.helpers.pictures import gradient

FRAME = gradient()
GOLDEN = Golden(FRAME, FRAME[..., 0] % 11)


def test_a_golden_frame_and_its_mask_come_back_as_they_were(tmp_path):
    engine = tmp_path / "model.engine"
    golden_path(engine).write_bytes(bytes_from_golden(GOLDEN))
    found = read_golden(engine)
    assert np.array_equal(found.frame, GOLDEN.frame) and np.array_equal(found.mask, GOLDEN.mask)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\3\4 no archive", bytes_from_golden(GOLDEN)[:-40], bytes_from_golden(Golden(FRAME, FRAME[..., :1]))],
)
def test_a_damaged_one_is_one_line_that_names_it(tmp_path, data):
    golden_path(tmp_path / "model.engine").write_bytes(data)
    with pytest.raises(EngineError, match=r"model\.golden\.npz.*again") as caught:
        read_golden(tmp_path / "model.engine")
    assert "\n" not in str(caught.value)


def test_one_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"model\.golden\.npz is missing"):
        read_golden(tmp_path / "model.engine")


def test_one_pixel_of_another_class_or_another_shape_is_refused():
    refuse_other_mask(GOLDEN.mask, GOLDEN, "it")
    other = GOLDEN.mask.copy()
    other[3, 5] ^= 1
    with pytest.raises(EngineError, match=f"1 of {other.size} pixels differ"):
        refuse_other_mask(other, GOLDEN, "it")
    with pytest.raises(EngineError, match="shape"):
        refuse_other_mask(GOLDEN.mask[:-1], GOLDEN, "it")
