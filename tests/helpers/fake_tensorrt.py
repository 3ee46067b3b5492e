"""`tensorrt` and `tensorrt_rtx` without their libraries: an "engine" runs a function of NumPy on the fake device."""

import enum
import gc
from types import ModuleType, SimpleNamespace

import numpy as np

ENGINE, BROKEN = b"engine", b"broken"
TYPES = {"fp16": np.float16, "fp32": np.float32}


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorFormat(enum.Enum):
    LINEAR = 0
    HWC = 8


class ComputeCapability(enum.Enum):
    SM80 = 80
    SM90 = 90  # that of `fake_gpu`


class ILogger:
    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")


class RuntimeCache:
    """Compiled kernels, as TensorRT-RTX keeps them."""

    def __init__(self):
        self.given = None

    def deserialize(self, blob):
        self.given = blob
        return True

    def serialize(self):
        return memoryview(b"compiled")


class FakeTensorRT(ModuleType):
    """The part of the module that the backend uses.

    Its engine computes `network(input) -> logits`; `input_type` and `logits_type` are ("fp16" or "fp32", shape).
    """

    def __init__(self, name, driver, network, input_type, logits_type):
        super().__init__(name)
        self.ILogger, self.DataType, self.TensorIOMode = ILogger, DataType, TensorIOMode
        self.ComputeCapability = ComputeCapability
        self.deserialised, self.contexts, self.refuses_address = 0, 0, False
        self.TensorFormat, self.formats = TensorFormat, {}  # of a tensor's name: where it is not LINEAR
        self.driver, self.network = driver, network
        self.fails, self.fails_captured, self.enqueued = False, False, 0
        self.tensors = {"frame": input_type, "logits": logits_type}
        self.caches = []

    def Runtime(self, log):
        self.driver.need_context()
        self.log = log

        def deserialize(engine):
            if engine == ENGINE:
                self.deserialised += 1
                return Engine(self)
            log.log(ILogger.Severity.WARNING, "not the cause")
            log.log(ILogger.Severity.ERROR, "the plan file\nis corrupt")
            log.log(ILogger.Severity.ERROR, "a consequence")
            return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class Engine:
    num_io_tensors = 2

    def __init__(self, trt):
        self._trt = trt

    def get_tensor_name(self, index):
        return list(self._trt.tensors)[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == "frame" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return {"fp16": DataType.HALF, "fp32": DataType.FLOAT, "int8": DataType.INT8}[self._trt.tensors[name][0]]

    def get_tensor_shape(self, name):
        return self._trt.tensors[name][1]

    def get_tensor_format(self, name):
        return self._trt.formats.get(name, TensorFormat.LINEAR)

    def create_execution_context(self, runtime_config=None):
        return Context(self._trt)

    def create_runtime_config(self):
        def create_runtime_cache():
            self._trt.caches.append(RuntimeCache())
            return self._trt.caches[-1]

        return SimpleNamespace(create_runtime_cache=create_runtime_cache, set_runtime_cache=lambda cache: True)


class Context:
    def __init__(self, trt):
        self._trt, self._addresses = trt, {}
        trt.contexts += 1

    def set_tensor_address(self, name, memory):
        assert memory in self._trt.driver.live
        self._addresses[name] = memory
        return not self._trt.refuses_address

    def execute_async_v3(self, stream_handle):
        stream = self._trt.driver.streams[stream_handle]
        if self._trt.fails:
            return False
        if self._trt.fails_captured and stream.captured is not None:
            self._trt.log.log(ILogger.Severity.ERROR, "the stream is capturing")
            return False
        assert stream.captured is None or not gc.isenabled(), "what is collected may end the capture"
        self._trt.enqueued += 1
        stream.add("network", self._run, *self._addresses.values())
        return True

    def _run(self):
        self._array("logits")[...] = self._trt.network(self._array("frame"))

    def _array(self, name):
        dtype, shape = self._trt.tensors[name]
        nbytes = int(np.prod(shape)) * np.dtype(TYPES[dtype]).itemsize
        return self._trt.driver.at(self._addresses[name], nbytes).view(TYPES[dtype]).reshape(shape)
