"""An ONNX file of anyone's, as it lies on disk: what it is if it is none, and what of it is not taken."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto

from runtime.artifacts import sha256_of
from runtime.errors import GraphError
from runtime.libraries import refusing

LEAST_OPSET = 11
STANDARD = ("", "ai.onnx")
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger",
             "QLinearMatMul", "MatMulInteger")  # fmt: skip
WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
# What onnxruntime computes no convolution in: there is nothing to hold an adopted graph to.
NOT_COMPUTED = {TensorProto.DOUBLE: "float64", TensorProto.BFLOAT16: "bfloat16"}
# How files begin that are no ONNX, and what to do with them.
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: git lfs pull",
    b"PK\x03\x04": "a ZIP archive, as PyTorch's checkpoints are: export the network to ONNX first",
    b"\x89HDF": "an HDF5 file, as Keras writes it: convert it to ONNX first (tf2onnx)",
    b"\x80\x02": "a Python pickle: export the network to ONNX first",
    b"<": "a page of HTML or XML: the download failed, or it is OpenVINO's",
}


class Source(NamedTuple):
    """A file as it was read, whole."""

    path: Path
    model: onnx.ModelProto  # with the data that it keeps in other files
    sha256: str  # of all that was read
    opset: int
    is_half: bool  # it computes in float16


def read_source(path: Path) -> Source:
    """Read an ONNX file and what it keeps in files beside it.

    Raises:
        GraphError: it is missing, is no ONNX, or holds what is not taken; it says what to do.
    """
    if not path.is_file():
        raise GraphError(f"ONNX file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    _refuse_other_files(path)
    with refusing(GraphError, f"{path} is not an ONNX file"):
        model = onnx.load(str(path), load_external_data=False)
    if not model.ir_version or not model.opset_import or not model.graph.node:
        raise GraphError(f"{path} is not an ONNX file: it holds no graph")
    beside = _data_files(path, model)
    opset = _refuse_content(path, model)
    with refusing(GraphError, f"the data of {path} cannot be read"):
        onnx.load_external_data_for_model(model, str(path.parent))
    digest = hashlib.sha256("".join(map(sha256_of, (path, *beside))).encode()).hexdigest()
    return Source(path, model, sha256_of(path) if not beside else digest, opset, _is_half(model))


def _refuse_other_files(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(512)
    for beginning, told in BEGINNINGS.items():
        if head.lstrip().startswith(beginning):
            raise GraphError(f"{path} is not an ONNX file but {told}")
    if head[4:8] == b"TFL3":
        raise GraphError(f"{path} is not an ONNX file but TensorFlow Lite's: convert it to ONNX first (tf2onnx)")
    if not head or all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        raise GraphError(f"{path} is not an ONNX file but {'text' if head else 'empty'}")


def _data_files(path: Path, model: onnx.ModelProto) -> list[Path]:
    # A file may name any place as its data's: none outside its own folder is opened.
    folder, found = path.parent.resolve(), []
    for tensor in _tensors(model.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        named = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        place = (folder / named).resolve()
        if not named or not place.is_relative_to(folder):
            raise GraphError(f"{path} keeps data at {named!r}, outside its own folder: that is not read")
        if not place.is_file():
            raise GraphError(f"{path} keeps its data in {named!r}, which is not beside it: copy it there, too")
        found.append(place)
    return sorted(set(found))


def _tensors(graph: onnx.GraphProto) -> list[TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for each in node.attribute:
            found += [each.t, *each.tensors] if each.HasField("t") else [*each.tensors]
            for inner in (each.g, *each.graphs) if each.HasField("g") else each.graphs:
                found += _tensors(inner)
    return found


def _is_half(model: onnx.ModelProto) -> bool:
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in _tensors(model.graph))


def _refuse_content(path: Path, model: onnx.ModelProto) -> int:
    opset = max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=0)
    if opset < LEAST_OPSET:
        raise GraphError(f"{path} is of opset {opset or 'none'}, taken is {LEAST_OPSET} or newer: export it anew")
    if any(entry.key == "model_spec" for entry in model.metadata_props):
        raise GraphError(f"{path} is a graph of ours already: build its engine as it is (streetseg engine {path.name})")
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [node for nodes in (model.graph.node, *(each.node for each in model.functions)) for node in _nodes(nodes)]
    custom = {
        f"{node.domain}.{node.op_type}".lstrip(".")
        for node in nodes
        if (node.domain, node.op_type) not in own and not _is_standard(node, opset)
    }
    if custom:
        raise GraphError(
            f"{path} holds operators that are not ONNX's own: {', '.join(sorted(custom))}. Export it without "
            "plugins, custom symbols and onnxruntime's optimizer"
        )
    if any(node.op_type in QUANTIZED for node in nodes):
        raise GraphError(f"{path} is quantized already: give the float file, INT8 is made from it here")
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in nodes:
        if node.op_type in WEIGHTED and (kind := NOT_COMPUTED.get(kinds.get(node.input[1], 0))):
            raise GraphError(f"{path} computes in {kind}, as onnxruntime does not: export it in float32 or float16")
    return opset


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    # Those inside of branches and loops, too.
    for node in nodes:
        yield node
        for each in node.attribute:
            for graph in (each.g, *each.graphs):
                yield from _nodes(graph.node)


def _is_standard(node: onnx.NodeProto, opset: int) -> bool:
    known: bool = node.domain in STANDARD and onnx.defs.has(node.op_type, max_inclusive_version=opset, domain="")
    return known
