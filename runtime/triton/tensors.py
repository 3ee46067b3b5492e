"""Arrays out of Triton's tensors and into them: by DLPack alone, and tried before a model is served.

Under NumPy 2 the python backend of Triton 2.51 gives wrong data without an error: `as_numpy()` of a tensor repeats its
first byte, and `Tensor(name, array)` holds none. It was compiled for NumPy 1.
"""

from typing import Any

import numpy as np

from runtime.dlpack import capsule_of
from runtime.errors import EngineError
from runtime.libraries import refusing

HOST = (1, 0)  # DLDeviceType kDLCPU, and which


def array_from_tensor(tensor: Any) -> np.ndarray:
    """What a tensor on the host holds: a view, valid as long as its request."""
    return np.from_dlpack(tensor)


def tensor_from_array(pb: Any, name: str, array: np.ndarray) -> Any:
    """A tensor of that name, without a copy: the array lives until the tensor is gone.

    Args:
        pb: the module triton_python_backend_utils.
        name: of the tensor.
        array: uint8, any number of dimensions.
    """
    # Not the array itself: the backend gives a capsule that it has taken another name than DLPack says, of which
    # NumPy's own complains in the log, with every tensor.
    whole = np.ascontiguousarray(array)
    return pb.Tensor.from_dlpack(name, capsule_of(whole, whole.ctypes.data, whole.shape, HOST))


def refuse_wrong_way(pb: Any, array: np.ndarray) -> None:
    """Send an array into a tensor and out of it again, as frames and masks go.

    Args:
        pb: the module triton_python_backend_utils.
        array: uint8, of values that differ.

    Raises:
        EngineError: it came back as something else.
    """
    wrong = f"this Triton and NumPy {np.__version__} do not understand each other"
    with refusing(EngineError, wrong, ""):
        back = array_from_tensor(tensor_from_array(pb, "golden", array))
    if back.dtype != array.dtype or not np.array_equal(back, array):
        raise EngineError(f"{wrong}: a tensor comes back as {back.dtype} {back.shape} of other values")
