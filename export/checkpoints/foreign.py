"""What a file is that was given for a checkpoint and is none: told by its first bytes, with what to do."""

import json
import re
from pathlib import Path

from export.checkpoints.archive import Archive

FIRST = 4096  # bytes looked at
KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.S | re.I), said)
    for pattern, said in (
        (rb"version https://git-lfs", "are a Git LFS pointer and not the file itself; fetch it: git lfs pull"),
        (rb"\s*(<!doctype html|<html|<head)", "are an HTML page, as a download leaves that wanted a login or a click"),
        (rb"\s*<\?xml", "are an XML document, as a download leaves that failed"),
        (rb"\x89HDF", "are an HDF5 file, as Keras writes; save the network's tensors with torch.save or safetensors"),
        (rb"\x1f\x8b|BZh|\xfd7zXZ|(?-i:\x28\xb5\x2f\xfd)|7z\xbc\xaf", "are a compressed archive; unpack it first"),
        (
            rb".{4}TFL3",
            "are a TensorFlow Lite model and no checkpoint; export the network itself to ONNX, and give that",
        ),
        (rb".{257}ustar", "are a tar archive; unpack it first"),
        # ModelProto: field 1 (ir_version), then producer, domain, opset or graph. Source: onnx/onnx.proto.
        (rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]", "are an ONNX graph and no checkpoint; give it as one"),
    )
)
PART = re.compile(r"-\d{5}-of-(?!00001)\d{5}$")  # as transformers names them
TENSORFLOW = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")  # what tf.train.Saver writes beside one another
ARRAYS = (
    "are a part of TensorFlow's checkpoint; give the frozen graph beside it (.pb), or its arrays, saved by TensorFlow: "
    "r = tf.train.load_checkpoint(PREFIX); "
    "numpy.savez(FILE, **{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()})"
)
PARTS_JOINED = "join them: load the network with its own program, then torch.save(network.state_dict(), FILE)"


def foreign_kind(path: Path) -> str:
    """What a file is by its first bytes, as the rest of a sentence; empty where it may be a checkpoint.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        first = file.read(FIRST)
    if not first:
        return "are empty: 0 bytes"
    if path.name == "saved_model.pb":
        return "are a TensorFlow graph without its variables; convert the SavedModel to ONNX (tf2onnx), and give that"
    if TENSORFLOW.search(path.name):
        return ARRAYS
    if path.suffix == ".pb":
        return ""  # a frozen graph begins like others
    if path.name.endswith(".index.json") or PART.search(path.stem):
        return f"are one of the parts of a checkpoint, or list them; {PARTS_JOINED}"
    return next((said for pattern, said in KINDS if pattern.match(first)), "") or _other_zip(path, first)


def folder_kind(path: Path) -> str:
    """What a folder is that was given for a checkpoint, and what makes a file of it; empty: nothing known."""
    names = {each.name for each in path.iterdir()}
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        join = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE"
        return f"is a distributed checkpoint (FSDP); join it: {join}"
    if "zero_to_fp32.py" in names or any(name.startswith("global_step") for name in names):
        return "is a checkpoint of DeepSpeed; join it: python DIR/zero_to_fp32.py DIR FILE"
    if any(name.endswith(".index.json") for name in names):
        return f"is a checkpoint in parts; {PARTS_JOINED}"
    if any(map(TENSORFLOW.search, names)):
        return ARRAYS.replace("are a part of", "has")
    if "saved_model.pb" in names:
        return "is a SavedModel of TensorFlow; convert it to ONNX (tf2onnx), and give that"
    return ""


def is_safetensors(path: Path) -> bool:
    """Whether it is safetensors by its content: eight bytes of a length, then so much JSON."""
    with path.open("rb") as file:
        first = file.read(9)
    length = int.from_bytes(first[:8], "little")
    return len(first) == 9 and first[8:] == b"{" and 2 <= length <= path.stat().st_size - 8


def is_torch(path: Path) -> bool:
    """Whether it is what torch.save or pickle wrote, by its first bytes."""
    with path.open("rb") as file:
        first = file.read(4)
    return first == b"PK\3\4" or first[:1] == b"\x80"


def _other_zip(path: Path, first: bytes) -> str:
    if not first.startswith(b"PK\3\4"):
        return ""
    try:
        with path.open("rb") as file, Archive(file) as archive:
            names = archive.names()
    except ValueError:
        return ""  # its reader says how it is damaged
    if any(name.endswith("/constants.pkl") for name in names):
        return "are a TorchScript program; keep its tensors: torch.save(torch.jit.load(path).state_dict(), path)"
    if any(name.endswith("/archive_format") for name in names):
        return "are a program of torch.export; keep its tensors: torch.save(torch.export.load(path).state_dict, path)"
    if any(name.endswith("data.pkl") for name in names) or not names:
        return ""
    if all(name.endswith(".npy") for name in names):
        return "" if path.suffix == ".npz" else "are arrays of NumPy; name the file .npz"
    return f"are a ZIP archive of other files ({json.dumps(names[0][:60])}); unpack the checkpoint that is in it"
