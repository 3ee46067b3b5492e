"""`tensorrt` and `tensorrt_rtx` over the imitated driver: onnxruntime computes, where the stream comes to it.

The names, arguments and refusals are those of the real bindings, as far as our code goes; `tests/engines` leads the
same code through the real ones. An engine is its ONNX graph behind a word. A context has memory on the device.
"""

import enum
import json
import sys

from tests.helpers.cuda_driver.imitated_context import IExecutionContext

__version__ = "11.4.0.106"
MAGIC = b"imitated"  # then a byte for each tensor, whether its channels are last, the most frames, then the graph
TENSORS = 2  # of every engine: a frame in, logits out

TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
LayerType = enum.Enum("LayerType", "CONVOLUTION DECONVOLUTION MATRIX_MULTIPLY DEQUANTIZE ELEMENTWISE")
BuilderFlag = enum.Enum("BuilderFlag", "TF32 REFIT")
DynamicShapesKernelSpecializationStrategy = enum.Enum("DynamicShapesKernelSpecializationStrategy", "LAZY EAGER NONE")
ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM80 SM86 SM89 SM100 SM120")


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16 = range(8)


class TensorFormat(enum.IntEnum):
    LINEAR, HWC = 0, 8


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class ILogger:
    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def __init__(self):
        pass


class IProgressMonitor:
    def __init__(self):
        pass


class ITensor:
    allowed_formats = 1 << TensorFormat.LINEAR

    def __init__(self, name, dtype, shape=()):
        self.name, self.dtype, self.shape = name, dtype, shape


KINDS = {
    "Conv": LayerType.CONVOLUTION,
    "ConvTranspose": LayerType.DECONVOLUTION,
    "MatMul": LayerType.MATRIX_MULTIPLY,
    "Gemm": LayerType.MATRIX_MULTIPLY,
    "DequantizeLinear": LayerType.DEQUANTIZE,
}


class ILayer:
    def __init__(self, node, dtype, weights):
        self.name, self.type = node.name or node.output[0], KINDS.get(node.op_type, LayerType.ELEMENTWISE)
        inside = DataType.INT8 if self.type == LayerType.DEQUANTIZE else dtype
        self._inputs = [ITensor(name, inside) for name in node.input if name not in weights]
        self._outputs = [ITensor(name, dtype) for name in node.output]
        self.kernel = next((weights[name] for name in node.input[1:] if name in weights), None)
        self.num_inputs, self.num_outputs = len(self._inputs), len(self._outputs)

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


class IConvolutionLayer(ILayer):
    pass


class IDeconvolutionLayer(ILayer):
    pass


class INetworkDefinition:
    def __init__(self):
        self._layers, self._onnx, self._puts = [], b"", []

    @property
    def num_layers(self):
        return len(self._layers)

    def get_layer(self, index):
        return self._layers[index]

    def get_input(self, index):
        return self._puts[index]

    def get_output(self, index):
        return self._puts[1 + index]


class OnnxParser:
    def __init__(self, network, logger):
        self._network = network

    def parse(self, model):
        import onnx

        graph = onnx.load_from_string(model).graph
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        dtype = {1: DataType.FLOAT, 10: DataType.HALF}[graph.input[0].type.tensor_type.elem_type]
        self._network._layers = [ILayer(node, dtype, weights) for node in graph.node]
        self._network._onnx = model
        shapes = [
            [side.dim_value or -1 for side in put.type.tensor_type.shape.dim] for put in (*graph.input, *graph.output)
        ]
        names = [put.name for put in (*graph.input, *graph.output)]
        self._network._puts = [ITensor(name, dtype, shape) for name, shape in zip(names, shapes, strict=True)]
        return True


class ITimingCache:
    def __init__(self, blob):
        self._blob = bytes(blob)

    def combine(self, input_cache, ignore_mismatch):
        return True

    def serialize(self):
        return memoryview(self._blob or b"measured")


class IOptimizationProfile:
    most = None

    def set_shape(self, input, min, opt, max):
        if not min[0] <= opt[0] <= max[0] or not min[1:] == opt[1:] == max[1:]:
            raise ValueError("a profile's shapes grow")
        self.most = max[0]


class IBuilderConfig:
    progress_monitor = profiling_verbosity = None

    def __init__(self):
        self.profiles = []

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache):
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache, ignore_mismatch):
        return isinstance(cache, ITimingCache)

    def set_memory_pool_limit(self, pool, pool_size):
        pass

    def set_flag(self, flag):
        assert flag in BuilderFlag

    def clear_flag(self, flag):
        assert flag in BuilderFlag


class Builder:
    def __init__(self, logger):
        self._logger = logger

    def create_network(self, flags=0):
        return INetworkDefinition()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        if (network._puts[0].shape[0] == -1) != bool(config.profiles):
            self._logger.log(ILogger.Severity.ERROR, "an open shape has one profile, another none")
            return None
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 1)
        going_on = monitor.step_complete("Building", 0)
        monitor.phase_finish("Building")
        last = bytes(put.allowed_formats == 1 << TensorFormat.HWC for put in network._puts)
        most = bytes([config.profiles[0].most if config.profiles else 0])
        return MAGIC + last + most + network._onnx if going_on else None


class Runtime:
    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        if not serialized_engine.startswith(MAGIC):
            self._logger.log(ILogger.Severity.WARNING, "not the cause")
            for message in ("the plan file\nis corrupt", "a consequence"):
                self._logger.log(ILogger.Severity.ERROR, message)
            return None
        rest = serialized_engine[len(MAGIC) :]
        last, most = tuple(map(bool, rest[:TENSORS])), rest[TENSORS]
        return ICudaEngine(rest[TENSORS + 1 :], last, most, self._logger)


def session(model):
    """The graph on onnxruntime, as it stands: a network runs seldom here."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class ICudaEngine:
    num_io_tensors = TENSORS

    def __init__(self, model, channels_last, most, logger):
        self._model, self._most, self._logger = model, most, logger
        self._session = session(model)
        self._tensors = {one.name: one for one in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._last = dict(zip(self._tensors, channels_last, strict=True))
        self._inputs = {one.name for one in self._session.get_inputs()}

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return {"tensor(float16)": DataType.HALF, "tensor(float)": DataType.FLOAT}[self._tensors[name].type]

    def get_tensor_shape(self, name):
        return tuple(side if isinstance(side, int) else -1 for side in self._tensors[name].shape)

    def get_tensor_format(self, name):
        return TensorFormat.HWC if self._last[name] else TensorFormat.LINEAR

    def create_engine_inspector(self):
        return EngineInspector(self)

    def create_runtime_config(self):
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config=None):
        return IExecutionContext(self, ILogger.Severity.ERROR)


class EngineInspector:
    def __init__(self, engine):
        self._engine = engine

    def get_engine_information(self, format):
        network = INetworkDefinition()
        OnnxParser(network, None).parse(self._engine._model)
        layers = [layer for layer in network._layers if layer.type == LayerType.CONVOLUTION]
        spelled = {DataType.HALF: "Half", DataType.FLOAT: "Float", DataType.INT8: "Int8"}
        return json.dumps(
            {
                "Layers": [
                    {"Name": one.name, "LayerType": "CaskConvolution", "Weights": {"Type": spelled[_weights(one)]}}
                    for one in layers
                ]
            }
        )


def _weights(layer):
    return {"float16": DataType.HALF, "float32": DataType.FLOAT}[str(layer.kernel.dtype)]


class IRuntimeCache:
    def __init__(self):
        self._blob = b""

    def deserialize(self, serialized_cache):
        self._blob = serialized_cache
        return True

    def serialize(self):
        return memoryview(b"compiled")


class IRuntimeConfig:
    def create_runtime_cache(self):
        return IRuntimeCache()

    def set_runtime_cache(self, cache):
        return isinstance(cache, IRuntimeCache)


def install(name):
    """Make this module the one of that name, as the files of `site` do."""
    sys.modules[name] = sys.modules[__name__]
