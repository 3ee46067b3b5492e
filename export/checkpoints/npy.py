"""Dictionaries of arrays that numpy.save wrote, read without running the code of the pickle that they are."""

import pickle
from collections import OrderedDict
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import torch


def _bytes_from_text(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes so into pickles that Python 2 can read.
    return text.encode("latin1")


# What pickles of arrays, dtypes and NumPy's numbers name, before NumPy 2 and since. None of them runs code of the file.
_NUMPY = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
}
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _bytes_from_text,
    **{
        (module, name): value
        for name, value in _NUMPY.items()
        for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    },
}
# The same for torch.load: a checkpoint may note its accuracy as one of NumPy's numbers.
SCALARS: list[Any] = [
    *((_NUMPY["scalar"], f"{module}.scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
]


class ArraysOnly(pickle.Unpickler):
    """Loads arrays, numbers, texts and the containers built into Python; refuses every other name before it is used."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of that name.

        Raises:
            pickle.UnpicklingError: it is none of `ALLOWED`.
        """
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not an array")
        return ALLOWED[module, name]


def read_npy(path: Path) -> dict[str, torch.Tensor]:
    """`{layer: {parameter: array}}` as float32 tensors by `layer.parameter`.

    Raises:
        pickle.UnpicklingError: it holds more than arrays.
        ValueError: it is no such dictionary; other exceptions of a damaged file are pickle's and NumPy's own.
    """
    with path.open("rb") as file:
        _skip_header(file)
        # Files of Python 2 hold their texts as bytes.
        content = ArraysOnly(file, encoding="latin1").load()
    # An array of one object, as numpy.save makes of a dictionary.
    layers = content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    if not isinstance(layers, dict) or not all(isinstance(parameters, dict) for parameters in layers.values()):
        raise ValueError("no dictionary of layers")
    return {
        f"{layer}.{name}": torch.from_numpy(np.array(array, np.float32))
        for layer, parameters in layers.items()
        for name, array in parameters.items()
    }


def _skip_header(file: BinaryIO) -> None:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        _, _, dtype = read(file)
    except (SyntaxError, TokenError) as error:  # the header is a dictionary in Python's own syntax
        raise ValueError(f"no header: {error}") from None
    if not dtype.hasobject:
        raise ValueError("an array, no dictionary")
