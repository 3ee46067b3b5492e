"""Arrays of NumPy from the records of a pickle: of (shape, a type out of a short list, bytes), after all checks."""

import math
from typing import Any

import numpy as np

from export.checkpoints.pickles import ForeignError, Made, Name

# What NumPy's types of numbers are called in files. It builds no type from a file's own words.
CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
DTYPES = {f"{order}{code}": np.dtype(f"{order}{code}") for code in CODES for order in "<>|="}
MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
MOST_DIMENSIONS = 32
SHARED = 2  # a file's bytes at most so often: tensors that are tied stand in it once


class Budget:
    """What the tensors of a file may occupy, summed before any is made: nothing that a file does not itself weigh."""

    def __init__(self, file_bytes: int) -> None:
        self._left = SHARED * file_bytes
        self._file_bytes = file_bytes

    def take(self, count: int) -> None:
        """So many bytes of it.

        Raises:
            ValueError: they are not left.
        """
        self._left -= count
        if self._left < 0:
            raise ValueError(
                f"its tensors would take more than {SHARED} times the file's {self._file_bytes} bytes: many are views "
                "of one memory, keep them as tensors of their own"
            )


def is_numpy(value: Any, *names: str) -> bool:
    """Whether a value is a record of one of these classes or functions of NumPy, before NumPy 2 or since."""
    by = value.by if isinstance(value, Made) else None
    return isinstance(by, Name) and by.module in MODULES and by.name in names


def is_array(value: Any) -> bool:
    """Whether a value is the record of an array, of which NumPy's own numbers are none."""
    return is_numpy(value, "_frombuffer", "_reconstruct")


def array_from(value: Any, budget: Budget) -> np.ndarray:
    """A number, or the record of an array or of one of NumPy's numbers, as float32.

    Raises:
        ForeignError: it is something else.
        ValueError: it is of another type, or its bytes are not those of its shape.
    """
    if isinstance(value, (int, float)):
        return np.array(_number(value), np.float32)
    shape, dtype, order, data = _parts(value)
    stored, size = _bytes(data), shape_size(shape)
    if len(stored) != size * dtype.itemsize:
        raise ValueError(f"an array of {len(stored)} bytes and of shape {shape}")
    budget.take(len(stored))
    with np.errstate(all="ignore"):  # a double may be beyond float32
        return np.frombuffer(stored, dtype).reshape(shape, order=order).astype(np.float32)


def dtype_named(code: Any, order: Any = "|") -> np.dtype:
    """The type of that code, such as f4, in that order of bytes.

    Raises:
        ValueError: it is none of `CODES`.
    """
    found = DTYPES.get(f"{order}{code}") if isinstance(code, str) and isinstance(order, str) else None
    if found is None:
        raise ValueError(f"an array of another type than {', '.join(CODES)}")
    return found


def shape_size(shape: Any) -> int:
    """How many values an array of that shape has.

    Raises:
        ValueError: it is no shape.
    """
    good = isinstance(shape, tuple) and len(shape) <= MOST_DIMENSIONS
    if not good or not all(type(each) is int and 0 <= each < 1 << 40 for each in shape):
        raise ValueError("a shape that is none")
    return math.prod(shape)


def _parts(value: Any) -> tuple[Any, np.dtype, Any, Any]:
    # shape, type, order of the axes, bytes; as numpy.ndarray.__reduce__, __reduce_ex__(5) and numpy.generic's leave it
    args = value.args if isinstance(value, Made) and isinstance(value.args, tuple) else ()
    if is_numpy(value, "scalar") and len(args) == 2:
        return (), _dtype(args[0]), "C", args[1]
    if is_numpy(value, "_frombuffer") and len(args) == 4:
        return args[2], _dtype(args[1]), "F" if args[3] == "F" else "C", args[0]
    if is_numpy(value, "_reconstruct") and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, fortran, data = value.state
        if isinstance(data, list):  # an array of objects
            raise ForeignError(next((each.by for each in data if isinstance(each, Made)), Name("numpy", "object_")))
        return shape, _dtype(dtype), "F" if fortran in (True, 1) else "C", data
    raise ForeignError(value.by if isinstance(value, Made) else value)


def _dtype(record: Any) -> np.dtype:
    if not (is_numpy(record, "dtype") and isinstance(record.args, tuple) and record.args):
        raise ValueError("an array without a type")
    state = record.state if isinstance(record.state, tuple) else ()
    return dtype_named(record.args[0], state[1] if len(state) > 1 else "=")


def _bytes(data: Any) -> bytes:
    if isinstance(data, Made) and data.by == Name("_codecs", "encode") and isinstance(data.args, tuple):
        data = data.args[0] if data.args[1:] == ("latin1",) else None  # Python 3's bytes in Python 2's pickles
    if isinstance(data, str):  # Python 2's own
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError("an array without bytes")
    return bytes(data)


def _number(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
