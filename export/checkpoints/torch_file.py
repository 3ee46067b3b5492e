"""What torch.save wrote, read without torch.load: the pickle by our own machine, tensors from bytes after all checks.

Both of its forms: the ZIP archive since PyTorch 1.6, and the pickles that follow each other of before.

Source: PyTorch 2.13, torch/serialization.py (`_save`, `_legacy_save`) and torch/_utils.py (`_rebuild_*`).
"""

import dataclasses
import io
import struct
import sys
from typing import Any, BinaryIO

import torch

from export.checkpoints.archive import Archive
from export.checkpoints.arrays import MODULES, Budget, shape_size
from export.checkpoints.pickles import MOST_OPCODES, ForeignError, Machine, Made, Name, Stored, mapping_of

ZIP, LEGACY_MAGIC, LEGACY_VERSION = b"PK\3\4", 0x1950A86A20F9469CFC6C, 1001
UTILS = "torch._utils"
REBUILT = {"_rebuild_tensor": 4, "_rebuild_tensor_v2": 6, "_rebuild_tensor_v3": 7}  # and how many arguments they take
PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
SUBCLASS = Name("torch._tensor", "_rebuild_from_type_v2")
DENSE = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
         torch.int8, torch.uint8, torch.bool)  # fmt: skip
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in DENSE}
STORAGES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool,
}  # fmt: skip
DEEPEST = 40  # lists in lists and dictionaries in dictionaries of a training's checkpoint


class NotDenseError(ValueError):
    """A tensor of a kind that no network of ours holds: sparse, complex, quantized."""


@dataclasses.dataclass(slots=True)
class TorchFile:
    """A file's content as records, and the bytes of its tensors by the key of their storage."""

    content: Any
    names: list[Name]
    _raw: dict[str, bytearray]
    _archive: Archive | None
    _folder: str
    _budget: Budget
    _swapped: bool = False
    _steps: int = 0

    def is_tensor(self, value: Any) -> bool:
        """Whether a record is one of a tensor, of any kind."""
        by = value.by if isinstance(value, Made) else None
        return isinstance(by, Name) and (by == SUBCLASS or (by.module == UTILS and by.name.startswith("_rebuild_")))

    def tensor(self, value: Any) -> torch.Tensor:
        """The tensor of a record, contiguous; one that is all of its storage shares that with others that are.

        Raises:
            ForeignError: it is no tensor's.
            NotDenseError: it is sparse, complex or quantized.
            ValueError: it is damaged or forged.
        """
        made = _plainest(value)
        storage, offset, size, stride = made.args[:4]
        data, dtype = self._stored(storage, made.args[6] if made.by.name.endswith("v3") else None)
        count, length = shape_size(size), len(data) // dtype.itemsize
        _refuse_outside(offset, size, stride, length)
        self._budget.take(count * dtype.itemsize)
        if not count:
            return torch.empty(size, dtype=dtype)
        view = torch.frombuffer(data, dtype=dtype).as_strided(size, stride, offset)
        whole = count == length and view.is_contiguous()
        return view if whole else view.clone(memory_format=torch.contiguous_format)

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Numbers, texts, lists, tuples, dictionaries and tensors of a record, and of all that is in it.

        Raises:
            ForeignError: something else is in it.
            ValueError: it is nested too deep, damaged or forged.
        """
        self._steps += 1
        if depth > DEEPEST or self._steps > MOST_OPCODES:
            raise ValueError(f"nested deeper than {DEEPEST}, or what stands in it once is there too often")
        if isinstance(value, (list, tuple)):
            return type(value)(self.plain(each, depth + 1) for each in value)
        mapping = mapping_of(value)
        if mapping is not None:
            return {key: self.plain(each, depth + 1) for key, each in mapping.items()}
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        return self.tensor(value)

    def _stored(self, storage: Any, dtype: Any) -> tuple[bytearray, torch.dtype]:
        identity = storage.identity if isinstance(storage, Stored) else None
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ValueError("a tensor without a storage")
        kind = _storage_dtype(identity[1]) if dtype is None else _dtype(dtype)
        key, count = identity[2], identity[4]
        if not isinstance(key, str) or type(count) is not int or any(identity[5:]):
            raise ValueError("a storage that is none, or a view of another")
        if key not in self._raw:
            self._raw[key] = bytearray(self._archive.read(f"{self._folder}/data/{key}") if self._archive else b"")
        data = self._raw[key]
        # Of a tensor that names its type itself the count is of bytes.
        if len(data) != count * (kind.itemsize if dtype is None else 1):
            raise ValueError(f"a storage of {len(data)} bytes that says it has {count} values")
        return (_swapped(data, kind.itemsize) if self._swapped else data), kind


def read_torch(file: BinaryIO) -> TorchFile:
    """The content of an open file that torch.save wrote, at whose start it stands; it stays open for `tensor`.

    Raises:
        ValueError: it is damaged, or none.
    """
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(len(ZIP))
    file.seek(0)
    return _of_archive(file, length) if start == ZIP else _legacy(file, length)


def _of_archive(file: BinaryIO, length: int) -> TorchFile:
    archive, machine = Archive(file), Machine()
    pickles = [name for name in archive.names() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("an archive, but none of torch.save")
    folder = pickles[0].removesuffix("/data.pkl")
    content = machine.read(archive.open(pickles[0]))
    order = archive.read(f"{folder}/byteorder") if f"{folder}/byteorder" in archive.names() else b"little"
    if order not in (b"little", b"big"):
        raise ValueError("bytes in no order")
    swapped = order.decode() != sys.byteorder
    return TorchFile(content, list(machine.names), {}, archive, folder, Budget(length), swapped)


def _legacy(file: BinaryIO, length: int) -> TorchFile:
    stream, machine = io.BytesIO(file.read()), Machine()
    magic = machine.read(stream)
    if magic != LEGACY_MAGIC or Machine().read(stream) != LEGACY_VERSION:
        by = next(iter(machine.names), None)
        raise ForeignError(by) if by else ValueError("no file of torch.save")
    system = mapping_of(Machine().read(stream)) or {}
    content, keys = machine.read(stream), Machine().read(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("a list of storages that is none")
    kinds = _legacy_kinds(content)
    raw = {key: bytearray(_legacy_storage(stream, kinds.get(key, 1))) for key in keys}
    swapped = (system.get("little_endian") is True) != (sys.byteorder == "little")
    return TorchFile(content, list(machine.names), raw, None, "", Budget(length), swapped)


def _legacy_kinds(content: Any) -> dict[str, int]:
    # key -> bytes of a value, of every storage that a tensor names; a stack, since a forged file may nest for ever
    kinds, seen, left = {}, set(), [content]
    while left:
        value = left.pop()
        if isinstance(value, Stored):
            identity = value.identity
            if isinstance(identity, tuple) and len(identity) > 2 and isinstance(identity[2], str):
                kinds[identity[2]] = _storage_dtype(identity[1]).itemsize
        elif isinstance(value, (list, tuple, dict, Made)) and id(value) not in seen:
            seen.add(id(value))
            made = [value.args, value.state, value.items, value.pairs] if isinstance(value, Made) else value
            left.extend(made.values() if isinstance(made, dict) else made)
    return kinds


def _legacy_storage(stream: BinaryIO, itemsize: int) -> bytes:
    header = stream.read(8)
    count = struct.unpack("<q", header)[0] if len(header) == 8 else -1
    data = stream.read(count * itemsize) if 0 <= count < 1 << 40 else b""
    if len(data) != count * itemsize:
        raise ValueError("cut before the end of its tensors")
    return data


def _plainest(value: Any) -> Made:
    # A parameter is its tensor, and a tensor with a state is one without.
    for _ in range(3):
        by = value.by if isinstance(value, Made) else None
        args = value.args if isinstance(value, Made) and isinstance(value.args, tuple) else ()
        if by == SUBCLASS and len(args) == 4:
            value = Made(args[0], args[2])
        elif isinstance(by, Name) and by.module == UTILS and by.name in PARAMETERS and args:
            value = args[0]
        elif isinstance(by, Name) and by.module == UTILS and len(args) >= REBUILT.get(by.name, 1 << 30):
            if any(args[REBUILT[by.name] :]):
                raise ValueError("a tensor that is conjugate or negative by a note")
            return value
        else:
            break
    if not isinstance(value, Made):
        raise ForeignError(value)
    if isinstance(value.by, Name) and value.by.module == UTILS and value.by.name not in REBUILT:
        raise NotDenseError(str(value.by))
    raise ForeignError(value.by)


def _storage_dtype(kind: Any) -> torch.dtype:
    if not isinstance(kind, Name) or not kind.module.startswith("torch"):
        raise ValueError("a storage of no type")
    if kind == Name("torch.storage", "UntypedStorage"):
        return torch.uint8
    found = STORAGES.get(kind.name.removesuffix("Storage"))
    if found is None:
        raise NotDenseError(str(kind))
    return found


def _dtype(kind: Any) -> torch.dtype:
    if not isinstance(kind, Name) or kind.name not in DTYPES:
        raise NotDenseError(str(kind) if isinstance(kind, Name) else "a type that is none")
    return DTYPES[kind.name]


def _refuse_outside(offset: Any, size: Any, stride: Any, length: int) -> None:
    shape_size(stride)
    if type(offset) is not int or not 0 <= offset <= length or len(size) != len(stride):
        raise ValueError("a tensor that begins outside of its storage")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= length:
        raise ValueError("a tensor that ends outside of its storage")


def _swapped(data: bytearray, itemsize: int) -> bytearray:
    return bytearray().join(data[at : at + itemsize][::-1] for at in range(0, len(data), itemsize))


# What stands in a checkpoint of tensors alone; any other name is passed over, and told.
USUAL = frozenset(
    {
        Name("collections", "OrderedDict"), Name("collections", "defaultdict"), Name("_codecs", "encode"), SUBCLASS,
        *(Name(UTILS, name) for name in (*REBUILT, *PARAMETERS)),
        *(Name("torch", f"{name}Storage") for name in STORAGES),
        *(Name(module, name) for module in MODULES for name in ("ndarray", "dtype", "_reconstruct", "scalar")),
    }
)  # fmt: skip
