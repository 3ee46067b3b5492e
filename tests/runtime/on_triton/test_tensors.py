import gc

import numpy as np
import pytest

from runtime import dlpack
from runtime.errors import EngineError
from runtime.triton.tensors import array_from_tensor, refuse_wrong_way, tensor_from_array
from tests.helpers.pictures import gradient


@pytest.mark.parametrize("array", [gradient(), gradient()[..., 0], gradient()[::2, ::-1], np.zeros((0, 4), np.uint8)])
def test_an_array_comes_back_from_a_tensor_as_it_was(pb, array):
    assert np.array_equal(array_from_tensor(tensor_from_array(pb, "x", array)), array)


def test_a_read_only_array_is_sent_too(pb):
    array = gradient()
    array.flags.writeable = False
    assert np.array_equal(array_from_tensor(tensor_from_array(pb, "x", array)), array)


def test_an_array_is_given_back_when_its_tensor_is_gone(pb):
    before = len(dlpack._handed_out)
    tensor = tensor_from_array(pb, "x", gradient())
    assert len(dlpack._handed_out) == before + 1
    del tensor
    gc.collect()
    assert len(dlpack._handed_out) == before


@pytest.mark.parametrize("broken", ["repeats", "nothing"])
def test_a_way_that_changes_what_is_sent_is_refused_as_numpy_2_has_it(pb, broken):
    refuse_wrong_way(pb, gradient())
    pb.SENT["broken"] = broken
    with pytest.raises(EngineError, match=rf"NumPy {np.__version__} do not understand each other"):
        refuse_wrong_way(pb, gradient())
