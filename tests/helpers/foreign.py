"""ONNX files as others write them, a few operators each."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH, CLASSES = 32, 64, 5
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
IR = 8


class Foreign:
    """A graph that is written one operator after another: `at` is what the next one reads."""

    def __init__(self, shape: tuple = (1, 3, HEIGHT, WIDTH), kind: int = TensorProto.FLOAT, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.inputs = [helper.make_tensor_value_info("image", kind, shape)]
        self.outputs: list[onnx.ValueInfoProto] = []
        self.random = np.random.default_rng(seed)
        self.at = "image"

    def add(self, kind: str, *constants: np.ndarray, domain: str = "", after: str | None = None, **attributes) -> str:
        """One operator more, of what `at` is and these constants."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        names = [after or self.at]
        for i, values in enumerate(constants):
            names.append(f"{output}.{i}" if values is not None else "")
            if values is not None:
                self.tensors[names[-1]] = values
        self.nodes.append(helper.make_node(kind, names, [output], name=output, domain=domain, **attributes))
        self.at = output
        return output

    def conv(self, before: int, after: int, stride: int = 1, group: int = 1, kernel: int = 3) -> "Foreign":
        """A convolution with a bias."""
        weight = self.random.normal(0, 0.4, (after, before // group, kernel, kernel)).astype(np.float32)
        bias = self.random.normal(0, 0.3, after).astype(np.float32)
        pad = kernel // 2
        self.add("Conv", weight, bias, strides=[stride, stride], pads=[pad] * 4, group=group)
        return self

    def body(self, classes: int = CLASSES) -> "Foreign":
        """Logits at 1/4."""
        self.conv(3, 8, 2).add("Relu")
        self.conv(8, 8, 2).add("Relu")
        return self.conv(8, classes)

    def resize(self, mode: str = "linear", how: str = "half_pixel", by: int = 4) -> "Foreign":
        """Larger on both axes."""
        scales = np.array([1, 1, by, by], np.float32)
        nearest = {"nearest_mode": "floor"} if mode == "nearest" else {}
        self.add("Resize", None, scales, mode=mode, coordinate_transformation_mode=how, **nearest)
        return self

    def give(self, kind: int = TensorProto.FLOAT, name: str | None = None) -> "Foreign":
        """What `at` is becomes an output."""
        if name:
            self.nodes.append(helper.make_node("Identity", [self.at], [name]))
        self.outputs.append(helper.make_tensor_value_info(name or self.at, kind, None))
        return self

    def model(self, opset: int = 17, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
        """The whole."""
        tensors = [numpy_helper.from_array(values, name) for name, values in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "theirs", self.inputs, self.outputs, tensors)
        domains = {node.domain for node in self.nodes} - {""}
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="pytorch")
        helper.set_model_props(model, metadata or {})
        return model

    def save(self, path: Path, **settings) -> Path:
        """The whole in a file."""
        onnx.save(self.model(**settings), str(path))
        return path


def nhwc_bytes(flip: bool = True) -> Foreign:
    """A file that takes the frame's bytes, channels last, and normalises them itself."""
    made = Foreign((1, HEIGHT, WIDTH, 3), TensorProto.UINT8)
    made.add("Transpose", perm=[0, 3, 1, 2])
    made.add("Cast", to=TensorProto.FLOAT)
    if flip:
        values = [np.array([value], np.int64) for value in (-1, -4, 1, -1)]
        made.add("Slice", *values)
    made.add("Sub", np.array(MEAN, np.float32).reshape(1, 3, 1, 1))
    made.add("Div", np.array(STD, np.float32).reshape(1, 3, 1, 1))
    return made
