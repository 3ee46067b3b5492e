"""Leads our builder and our engine through the real bindings of one TensorRT; see `tensorrt_proxy`.

`python -m tests.helpers.tensorrt_drive BACKEND MODULE` prints JSON: `used`, the names of the library that our code
touched on its way, and `known`, all that the library has.
"""

import dataclasses
import importlib
import inspect
import json
import sys
import threading

import numpy as np

from engines import tensorrt_build, tensorrt_precision
from engines.tensorrt_timings import TimingCache
from runtime.artifacts import write_sealed
from runtime.backends import tensorrt_engine, tensorrt_library
from runtime.errors import EngineError
from runtime.kernels import nvidia
from runtime.kernels.cuda import Tensor
from runtime.labels import CAMVID
from runtime.spec import EngineManifest, ModelSpec, Preprocess, Target
from tests.helpers.graphs import tiny_graph
from tests.helpers.tensorrt_proxy import ProxyModule

SPEC = ModelSpec("icnet", Preprocess(16, 32, 1.0, (0.0,) * 3, (1.0,) * 3, "RGB"), CAMVID, 4, 1, 1, "0" * 64, "a test")
SHAPES = {"frame": (1, 3, 16, 32), "logits": (1, 11, 4, 8)}
INSPECTED = {"Layers": [{"Name": "conv", "LayerType": "CaskConvolution", "Weights": {"Type": "Half"}}]}


def answers(real):
    """What the library would say of a small FP16 network."""
    return {
        "INetworkDefinition.num_layers": 1,
        "ILayer.type": real.LayerType.CONVOLUTION,
        "ILayer.num_inputs": 1,
        "IConvolutionLayer.kernel": np.zeros(1, np.float16),
        "ITensor.dtype": real.DataType.HALF,
        "ITensor.shape": (-1, *SHAPES["frame"][1:]),
        "ITensor.name": "frame",
        "EngineInspector.get_engine_information": json.dumps(INSPECTED),
        "ICudaEngine.num_io_tensors": 2,
        "ICudaEngine.get_tensor_name": lambda index: list(SHAPES)[index],
        "ICudaEngine.get_tensor_mode": lambda name: (
            real.TensorIOMode.INPUT if name == "frame" else real.TensorIOMode.OUTPUT
        ),
        "ICudaEngine.get_tensor_dtype": real.DataType.HALF,
        "ICudaEngine.get_tensor_shape": SHAPES.get,
        "ICudaEngine.get_tensor_format": real.TensorFormat.LINEAR,
    }


def build(trt, backend, folder):
    """All of the builder, and what it does where the library fails."""
    graph = tiny_graph(SPEC, "fp16")
    timings = folder / "timings" if backend == "tensorrt" else None
    built = tensorrt_build.build(graph, SPEC, "fp16", backend, timings)
    if timings:
        keep_beside(timings, trt)
    assert built.executed == {"fp16": 1}, built
    trt.answers |= {
        "IConvolutionLayer.kernel": np.zeros(1, np.float32),
        "ITensor.dtype": trt.real.DataType.FLOAT,
        "EngineInspector.get_engine_information": json.dumps(INSPECTED).replace("Half", "Float"),
    }
    tensorrt_build.build(graph, SPEC, "fp32", backend)
    trt.answers |= {"ILayer.type": trt.real.LayerType.DEQUANTIZE}
    network = trt.Builder(tensorrt_library.log_of(trt)).create_network(0)
    assert tensorrt_build.network_types(trt, network) == {}
    layer = network.get_layer(0)
    assert tensorrt_precision._dequantized(trt, layer) == trt.real.DataType.FLOAT
    trt.answers |= {"OnnxParser.parse": False}
    must_fail(lambda: tensorrt_build.build(graph, SPEC, "fp16", backend))
    progress(trt)
    logger(trt)


def keep_beside(timings, trt):
    """Timings that another build wrote meanwhile."""
    config = trt.Builder(tensorrt_library.log_of(trt)).create_builder_config()
    cache = TimingCache(config, timings)
    write_sealed(timings, b"of another build")
    cache.keep()


def progress(trt):
    """Every method of ours is one that the library calls, with the names of its arguments."""
    ours, base = type(tensorrt_build._progress(trt, threading.Event())), trt.real.IProgressMonitor
    for name in ("phase_start", "step_complete", "phase_finish"):
        trt.used.add(name)
        code = getattr(ours, name).__code__
        doc = getattr(base, name).__doc__
        for argument in code.co_varnames[1 : code.co_argcount]:
            assert f"{argument}: " in doc, f"IProgressMonitor.{name} has no {argument}: {doc}"
    assert {name for name in vars(ours) if hasattr(base, name) and not name.startswith("_")} == {
        "phase_start", "step_complete", "phase_finish",
    }  # fmt: skip


def logger(trt):
    """The same of our logger; and that it keeps errors, the first of them."""
    log, severity = tensorrt_library.log_of(trt), trt.real.ILogger.Severity
    assert "severity: " in trt.real.ILogger.log.__doc__
    log.clear()
    for level, message in ((severity.WARNING, "a"), (severity.ERROR, "b"), (severity.INTERNAL_ERROR, "c")):
        log.log(level, message)
    assert log.first_error() == "b"
    trt.used |= {"log", "Severity", "ERROR", "INTERNAL_ERROR"}


def run(trt, backend, folder):
    """All of the engine, and what it does where the library fails."""
    target = Target(backend, "1.0", "any", "portable", "here")
    manifest = EngineManifest(SPEC, "fp16", {"fp16": 1}, backend, target, "0" * 64, "1" * 64, "2026-01-01")
    tensors = Tensor(256, (3, 16, 32), "fp16"), Tensor(512, (11, 4, 8), "fp16")
    (folder / "kept").write_bytes(b"compiled")
    for path in (folder / "kept", folder / "new"):
        engine = tensorrt_engine.Engine(b"engine", manifest, path)
        engine.bind(*tensors)
        assert engine.capturable(1)
        engine.enqueue(1)
        engine.beside().close()
        engine.close()
    spec = dataclasses.replace(SPEC, batch=4, batch_free=True)
    trt.answers |= {"ICudaEngine.get_tensor_shape": lambda name: (-1, *SHAPES[name][1:])}
    open_batch = tensorrt_engine.Engine(b"engine", dataclasses.replace(manifest, spec=spec), folder / "kept")
    assert open_batch.take(3, 1) and not open_batch.take(3, 1)
    trt.answers |= {"IExecutionContext.set_input_shape": False}
    must_fail(lambda: open_batch.take(2, 1))
    trt.answers |= {"ICudaEngine.get_tensor_shape": SHAPES.get}
    assert (folder / "new").is_file() == (backend == "tensorrt-rtx")
    trt.answers |= {"IExecutionContext.set_tensor_address": False}
    must_fail(lambda: tensorrt_engine.Engine(b"engine", manifest, folder / "kept").bind(*tensors))
    trt.answers |= {"IExecutionContext.execute_async_v3": False}
    must_fail(lambda: tensorrt_engine.Engine(b"engine", manifest, folder / "kept").enqueue(1))


def must_fail(action):
    try:
        action()
    except EngineError:
        return
    raise AssertionError("no EngineError")


def main(backend, module_name, folder):
    real = importlib.import_module(module_name)
    trt = ProxyModule(real, tensorrt_library.MODULES[backend], answers(real))
    sys.modules[trt.__name__] = trt
    nvidia.gpu = lambda: nvidia.Gpu("NVIDIA Abacus", "8.9", "13.0")
    tensorrt_library.installed_version = lambda *names: "1.0"
    assert threading.current_thread() is threading.main_thread()
    run(trt, backend, folder)
    trt.answers = answers(real)
    build(trt, backend, folder)
    classes = [value for value in vars(real).values() if inspect.isclass(value)]
    known = set(dir(real)).union(*map(dir, classes))
    print(json.dumps({"used": sorted(trt.used), "known": sorted(name for name in known if name[0] != "_")}))


if __name__ == "__main__":
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1], sys.argv[2], Path(temporary))
