"""ONNX -> an engine for OpenVINO's CPU plugin."""

import io
from typing import Any

import numpy as np
import openvino
from openvino import opset13
from openvino.preprocess import PrePostProcessor

from engines.built import Built
from runtime.backends.openvino import DEVICE, TYPE_NAMES, compile_options, executed_types, execution_type
from runtime.cli import log
from runtime.errors import EngineError
from runtime.reference import gain_and_bias
from runtime.spec import BackendName, ModelSpec, Precision

LEVELS = 127  # of INT8 weights on either side of zero
OFF_GRID = 0.1  # of a level: half precision puts a value on the grid off it by a sixteenth at most, but for subnormals

HALF_STEP = float(np.finfo(np.float16).smallest_subnormal)


def build(onnx: bytes, spec: ModelSpec, precision: Precision, backend: BackendName) -> Built:
    """Compile the graph for this CPU, uint8 frames in and logits with the channels last out.

    What it executes is read from the engine as the runtime opens it, not as it was compiled.

    Raises:
        EngineError: OpenVINO refuses the graph, or runs it in another precision than was asked.
    """
    try:
        model = openvino.Core().read_model(onnx, b"")
        if precision == "int8" and not any(gain_and_bias(spec.preprocess)[1]):
            _quantize_frame(model)
    except RuntimeError as error:
        raise _refused(spec, error) from None
    return compiled(model, spec, precision)


def compiled(model: Any, spec: ModelSpec, precision: Precision) -> Built:
    """The engine of an openvino.Model that takes what the spec says and gives logits, both NCHW; it is changed.

    Raises:
        EngineError: OpenVINO refuses it, or runs it in another precision than was asked.
    """
    core = openvino.Core()
    wanted = execution_type(precision, core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    if precision == "fp16" and wanted != "f16":
        log(f"this CPU has no fp16 matrix units: fp16 runs as {TYPE_NAMES[wanted]}")
    try:
        model = _with_frame_input(model, spec, logits_type(spec, wanted))
        _pool_bytes(model)
        engine = core.compile_model(model, DEVICE, compile_options(wanted)).export_model().getvalue()
        executed = executed_types(core.import_model(io.BytesIO(engine), DEVICE, compile_options(wanted)))
    except RuntimeError as error:
        raise _refused(spec, error) from None
    refuse_other_precision(spec.name, executed, "int8" if precision == "int8" else TYPE_NAMES[wanted])
    return Built(engine, executed)


def _refused(spec: ModelSpec, error: RuntimeError) -> EngineError:
    return EngineError(f"OpenVINO refuses the graph of {spec.name}: {str(error).strip().splitlines()[-1]}")


def refuse_other_precision(name: str, executed: dict[str, int], wanted: str) -> None:
    """Refuse an engine whose weighted layers do not run in the type that was asked for.

    An int8 graph leaves layers in 16 bit by its own choice, so there only the absence of int8 is an error.

    Raises:
        EngineError: they run in another type.
    """
    others = {kind: count for kind, count in executed.items() if kind != wanted}
    if wanted not in executed or (others and wanted != "int8"):
        found = ", ".join(f"{count} in {kind}" for kind, count in executed.items())
        raise EngineError(f"the engine of {name} was to run in {wanted}, but of its weighted layers run {found}")


def _quantize_frame(model: Any) -> None:
    """Say of the frame that it has 8 bits, and of the weights that read it that they are on the INT8 grid already.

    Both quantizations change no value (`calib.placement`); told of them, the plugin runs these convolutions, the
    largest maps of the network, on the frame's own bytes instead of casting and reordering it first.
    """
    frame = model.inputs[0].get_node().output(0)
    readers = [port for port in frame.get_target_inputs() if port.get_node().get_type_name() == "Convolution"]
    kind = frame.get_element_type()
    bytes_of_frame = _fake_quantize(frame, np.zeros(()), np.full((), 255.0), 256, kind)
    for port in readers:
        weight = port.get_node().input_value(1)
        values = _constant_values(weight.get_node())
        largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
        largest[largest == 0] = 1
        codes = values / largest * LEVELS
        tolerance = OFF_GRID + LEVELS * HALF_STEP / largest
        if np.any(np.abs(codes - np.rint(codes)) > tolerance):
            log(f"{port.get_node().get_friendly_name()} reads the frame and was left in FP16")
            continue
        quantized = _fake_quantize(weight, -largest, largest, 255, kind)
        port.get_node().input(1).replace_source_output(quantized)
        port.replace_source_output(bytes_of_frame)
    model.validate_nodes_and_infer_types()


def _pool_bytes(model: Any) -> None:
    """Max-pool the frame as the bytes it comes in where nothing but its type and layout change before: the same values.

    In 16 bit the plugin transposes and reorders the whole frame for it, and leaves what follows in another layout.
    """
    frame = model.inputs[0].get_node()
    for pool in [node for node in model.get_ordered_ops() if node.get_type_name() == "MaxPool"]:
        source = pool.input_value(0).get_node()
        while source.get_type_name() in ("Convert", "Transpose"):
            source = source.input_value(0).get_node()
        if source.get_friendly_name() != frame.get_friendly_name():
            continue
        planes = opset13.transpose(frame.output(0), np.array([0, 3, 1, 2]))
        pool.input(0).replace_source_output(planes.output(0))
        readers = list(pool.output(0).get_target_inputs())
        kind = pool.get_output_element_type(0)
        pool.validate_and_infer_types()
        converted = opset13.convert(pool.output(0), kind.to_string())
        for reader in readers:
            reader.replace_source_output(converted.output(0))
    model.validate_nodes_and_infer_types()


def _fake_quantize(source: Any, low: np.ndarray, high: np.ndarray, levels: int, kind: Any) -> Any:
    ends = [opset13.constant(values, dtype=kind) for values in (low, high, low, high)]
    return opset13.fake_quantize(source, *ends, levels).output(0)


def _constant_values(node: Any) -> np.ndarray:
    while node.get_type_name() != "Constant":  # a half constant may stand behind its conversion
        node = node.input_value(0).get_node()
    values: np.ndarray = np.asarray(node.data, np.float32)
    return values


def logits_type(spec: ModelSpec, execution: str) -> Any:
    """The openvino.Type that logits leave the engine in.

    Logits in blocks have the frame's own size. Where the last layer writes them in BF16, an INT8 one too, they stay so:
    as float32 they are the same values, for a pass over the largest map of the network.
    """
    return openvino.Type.bf16 if execution == "bf16" and spec.block > 1 else openvino.Type.f32


def _with_frame_input(model: Any, spec: ModelSpec, output: Any) -> Any:
    # Transposes and casts of whole images cost more than small layers: the plugin reads and writes NHWC itself.
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    convert = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    if spec.preprocess.channel_order == "BGR":
        convert.reverse_channels()
    gain, bias = gain_and_bias(spec.preprocess)
    if any(bias):
        convert.mean([float(-b / g) for b, g in zip(bias, gain, strict=True)])
    if any(gain != 1):
        convert.scale([float(1 / g) for g in gain])
    steps.output().model().set_layout(openvino.Layout("NCHW"))
    steps.output().tensor().set_layout(openvino.Layout("NHWC")).set_element_type(output)
    return steps.build()
