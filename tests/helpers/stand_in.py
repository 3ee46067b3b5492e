"""A network of plain convolutions behind `Engine`, as a module in the place of `tensorrt`: it needs a GPU and nvcc.

Copies, captures, lanes, clocks and destruction are tried with it where TensorRT is missing or refuses the GPU. It takes
the graphs of `tests.helpers.graphs.tiny_graph`: convolutions of 3x3 with a border, and what is not negative of them.
"""

import ctypes
import functools
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from runtime.errors import EngineError
from runtime.kernels import cuda, nvidia
from runtime.kernels.graph import Handle, call
from tests.helpers.cuda_driver import imitated_tensorrt

SOURCE = Path(__file__).with_name("convolution.cu")
BLOCK = (32, 8)
Address = ctypes.c_uint64


@functools.cache
def image() -> bytes:
    """convolution.cu for this GPU, compiled as segment.cu is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "SOURCE", SOURCE)
        return cuda.compiled(nvidia.gpu().capability)


def module() -> ModuleType:
    """What is to stand in `sys.modules` under the name of the library."""
    image()
    made = ModuleType("tensorrt")
    vars(made).update({name: value for name, value in vars(imitated_tensorrt).items() if not name.startswith("_")})
    made.Runtime = Runtime
    return made


class Runtime(imitated_tensorrt.Runtime):
    """Whose engines run on the GPU."""

    def deserialize_cuda_engine(self, serialized_engine):
        engine = super().deserialize_cuda_engine(serialized_engine)
        if engine is not None:
            engine.__class__ = Engine
        return engine


class Engine(imitated_tensorrt.ICudaEngine):
    """Whose contexts launch kernels."""

    def create_execution_context(self, runtime_config=None):
        return Context(self)


class Convolution:
    """One node of the graph, and its launch."""

    def __init__(self, context, node, weights, shape, relu, last):
        self.stride = next(one.ints[0] for one in node.attribute if one.name == "strides")
        self.relu, self.shape, self.last = relu, shape, last
        self.out_shape = (weights.shape[0], *(-(-side // self.stride) for side in shape[1:]))
        self.weights = context.upload(weights.astype(np.float32))

    def launch(self, function, stream, given, made):
        outputs, height, width = self.out_shape
        numbers = (*self.shape, self.stride, outputs, int(self.relu), *map(int, self.last))
        values = [Address(given), Address(self.weights), *map(ctypes.c_int, numbers), Address(made)]
        places = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        grid = (-(-width // BLOCK[0]), -(-height * outputs // BLOCK[1]), 1)
        shape = map(ctypes.c_uint, (*grid, *BLOCK, 1, 0))
        call("cuLaunchKernel", function, *shape, Handle(stream), places, None)


class Context:
    """Owns a module and memory on the device, which go with its last name, as a library's do."""

    def __init__(self, engine):
        self._engine, self._addresses, self._owned = engine, {}, []
        self._module, self._function = Handle(), Handle()
        call("cuModuleLoadDataEx", ctypes.byref(self._module), image(), ctypes.c_uint(0), None, None)
        tensor = engine._session.get_inputs()[0]
        kind = {"tensor(float16)": b"convolution_fp16", "tensor(float)": b"convolution_fp32"}[tensor.type]
        call("cuModuleGetFunction", ctypes.byref(self._function), self._module, kind)
        self._layers = self._convolutions(tuple(tensor.shape[1:]))
        sizes = [int(np.prod(layer.out_shape)) * 4 for layer in self._layers[:-1]]
        self._between = [self._allocate(nbytes) for nbytes in sizes]

    def __del__(self):
        with suppress(EngineError):
            for address in self._owned:
                call("cuMemFree_v2", Address(address))
            call("cuModuleUnload", self._module)

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return name in self._engine._tensors

    def execute_async_v3(self, stream_handle):
        first, last = (self._addresses[name] for name in self._engine._tensors)
        places = [first, *self._between, last]
        for layer, given, made in zip(self._layers, places, places[1:], strict=False):
            layer.launch(self._function, stream_handle, given, made)
        return True

    def upload(self, array):
        address = self._allocate(array.nbytes)
        call("cuMemcpyHtoD_v2", Address(address), ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))
        return address

    def _allocate(self, nbytes):
        address = Address()
        call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        self._owned.append(address.value)
        return address.value

    def _convolutions(self, shape):
        import onnx

        graph = onnx.load_from_string(self._engine._model).graph
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        rectified = {node.input[0] for node in graph.node if node.op_type == "Relu"}
        made = []
        for node in graph.node:
            if node.op_type == "Conv":
                # Channels last in memory: what the engine takes and gives may have them so, what is between has not.
                last = [self._engine._last.get(name, False) for name in (node.input[0], node.output[0])]
                made.append(Convolution(self, node, weights[node.input[1]], shape, node.output[0] in rectified, last))
                shape = made[-1].out_shape
        return made
