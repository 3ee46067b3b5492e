"""What numpy.save and numpy.savez wrote: dictionaries of arrays, read without running the pickle that they are."""

import io
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from export.checkpoints.archive import Archive
from export.checkpoints.arrays import Budget, array_from, dtype_named, is_numpy, shape_size
from export.checkpoints.pickles import ForeignError, Machine, Made, mapping_of

MAGIC = b"\x93NUMPY"
ARRAYS = ("_reconstruct", "scalar", "_frombuffer")
# numpy.lib.format: the header is a dictionary in Python's own syntax, its keys sorted. Anything else is not evaluated.
HEADER = re.compile(
    r"\{'descr': '([<>|=]?)([a-zA-Z]\d*)', 'fortran_order': (True|False), 'shape': \(([\d, L]*)\), ?\} *\n?"
)
LONGEST_HEADER = 10_000


def read_npy(path: Path) -> dict[str, torch.Tensor]:
    """`{layer: {parameter: array}}` as float32 tensors by `layer.parameter`.

    Raises:
        ForeignError: it holds more than arrays.
        ValueError: it is no such dictionary, or damaged.
    """
    budget = Budget(path.stat().st_size)
    with path.open("rb") as file:
        if _header(file)[1] != "O":
            raise ValueError("an array, no dictionary")
        content = Machine().read(io.BytesIO(file.read()))
    layers = mapping_of(_only(content))
    found = {name: mapping_of(parameters) for name, parameters in (layers or {}).items()}
    if layers is None or None in found.values():
        raise _no_dictionary(content)
    return {
        f"{layer}.{name}": torch.from_numpy(array_from(array, budget))
        for layer, parameters in found.items()
        for name, array in (parameters or {}).items()
    }


def read_npz(path: Path) -> dict[str, torch.Tensor]:
    """The arrays of a .npz, as float32 tensors by their names.

    Raises:
        ValueError: it is damaged, compressed, or holds objects.
    """
    budget = Budget(path.stat().st_size)
    with path.open("rb") as file, Archive(file) as archive:
        return {
            name.removesuffix(".npy"): torch.from_numpy(_plain_array(archive.open(name), budget))
            for name in archive.names()
        }


def _plain_array(file: BinaryIO, budget: Budget) -> np.ndarray:
    order, code, fortran, shape = _header(file)
    dtype, data = dtype_named(code, order or "|"), file.read()
    if len(data) != shape_size(shape) * dtype.itemsize:
        raise ValueError(f"an array of {len(data)} bytes and of shape {shape}")
    budget.take(len(data))
    with np.errstate(all="ignore"):
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").astype(np.float32)


def _header(file: BinaryIO) -> tuple[str, str, bool, tuple[int, ...]]:
    # order of bytes, code of the type, whether its first axis is the quickest, shape
    magic, form = file.read(len(MAGIC) + 2), "<H"
    if magic[:-2] != MAGIC or magic[-2] not in (1, 2, 3):
        raise ValueError("no file of numpy.save")
    if magic[-2] > 1:
        form = "<I"
    length = file.read(struct.calcsize(form))
    if len(length) < struct.calcsize(form) or struct.unpack(form, length)[0] > LONGEST_HEADER:
        raise ValueError("a header that is cut or too long")
    found = HEADER.fullmatch(file.read(struct.unpack(form, length)[0]).decode("latin1"))
    if found is None:
        raise ValueError("a header that is not read")
    shape = tuple(int(each) for each in re.findall(r"\d+", found[4]))
    return found[1], found[2], found[3] == "True", shape


def _only(content: Any) -> Any:
    # An array of one object, as numpy.save makes of a dictionary: its state is (version, (), type, order, [object]).
    if not is_numpy(content, "_reconstruct") or not isinstance(content.state, tuple) or len(content.state) != 5:
        return content
    _, shape, _, _, objects = content.state
    return objects[0] if shape == () and isinstance(objects, list) and len(objects) == 1 else content


def _no_dictionary(content: Any) -> ValueError:
    for each in (_only(content), *(mapping_of(_only(content)) or {}).values()):
        if isinstance(each, Made) and mapping_of(each) is None and not is_numpy(each, *ARRAYS):
            return ForeignError(each.by)
    return ValueError("no dictionary of layers")
