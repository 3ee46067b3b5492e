"""Arrays of ours that other libraries take by DLPack, tried on the host with those that are here."""

import weakref

import numpy as np
import pytest

from runtime import dlpack

HOST = (1, 0)


class Handed:
    """uint8, as `GpuMask` is, on the host."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return HOST

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        dlpack.check_request(stream, dl_device, copy, HOST)
        return dlpack.capsule_of(self, self.array.ctypes.data, self.array.shape, HOST)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (7,), (2, 3, 4)])
def test_what_is_handed_out_is_read_in_place_and_lives_as_long_as_it_is_used(library, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    handed = Handed(array)
    there, taken = weakref.ref(handed), pytest.importorskip(library).from_dlpack(handed)
    del handed
    array.reshape(-1)[0] = 9
    np.testing.assert_array_equal(np.asarray(taken), array)
    assert there() is not None
    del taken
    assert there() is None and not dlpack._handed_out


def test_a_capsule_that_nobody_takes_gives_back_what_it_holds():
    handed = Handed(np.zeros(3, np.uint8))
    there, capsule = weakref.ref(handed), handed.__dlpack__()
    del handed
    assert dlpack.tensor_of(capsule).shape[0] == 3 and there() is not None
    del capsule
    assert there() is None


def test_what_is_no_capsule_is_refused():
    with pytest.raises(ValueError, match="PyCapsule"):
        dlpack.tensor_of(3)
