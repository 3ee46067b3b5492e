"""ONNX -> an engine for OpenVINO's CPU plugin."""

import io
from contextlib import AbstractContextManager
from typing import Any

import openvino
from openvino.preprocess import PrePostProcessor

from engines.built import Built
from engines.openvino_borders import paste_borders
from engines.openvino_colours import read_rgb
from engines.openvino_frame import lanes_of, quantize_frame, read_in_blocks, take_off_means
from engines.openvino_half import LEAST_GAIN, gain_of_fp32
from engines.openvino_kernels import with_fastest_kernels
from engines.openvino_layout import leave_doubling, multiply_channels_last, view_windows, write_bf16
from engines.openvino_pairs import drop_relus, fuse_sums, merge_pairs
from engines.openvino_spread import spread_rows
from engines.openvino_sums import hold_codes, hold_weights, sums_saturate
from engines.openvino_turns import share_of_time
from runtime.backends.openvino import (
    DEVICE,
    TYPE_NAMES,
    compile_options,
    core,
    executed_types,
    execution_type,
    keeps_bf16,
)
from runtime.cli import log
from runtime.doubling import HALVED
from runtime.errors import EngineError
from runtime.libraries import refusing
from runtime.reference import gain_and_bias
from runtime.spec import BackendName, ModelSpec, Precision

MOST_SHARE = 0.96  # between what one Xeon reaches (0.9) and where it is level: noise must not choose
NO_KERNEL = {"Deconvolution": "deconvolutions", "MatMul": "matrix products"}  # by OpenVINO's word


def build(onnx: bytes, spec: ModelSpec, precision: Precision, backend: BackendName, *, whole: bool = False) -> Built:
    """Compile the graph for this CPU, uint8 frames in and logits with the channels last out.

    What it executes is read from the engine as the runtime opens it, not as it was compiled. `whole` makes no weights
    smaller for a CPU without VNNI, which takes longer (`engines.openvino_sums`).

    Raises:
        EngineError: OpenVINO refuses the graph, or runs it in another precision than was asked.
    """
    with _refusing(spec):
        model = core().read_model(onnx, b"")
    if spec.batch_free:
        log(f"OpenVINO takes one frame at a time: a batch of {spec.batch_shown} is a loop on this CPU")
    return compiled(model, spec, precision, whole=whole)


def compiled(model: Any, spec: ModelSpec, precision: Precision, *, whole: bool = False) -> Built:
    """The engine of an openvino.Model that takes what the spec says and gives logits, both NCHW; it is changed.

    Raises:
        EngineError: OpenVINO refuses it, or runs it in another precision than was asked.
    """
    plugins = core()
    with _refusing(spec):
        fastest, wanted = fastest_model(model, spec, precision, whole=whole)
        engine = fastest.export_model().getvalue()
        read = plugins.import_model(io.BytesIO(engine), DEVICE, compile_options(wanted))
        executed = executed_types(read)
    asked = "int8" if precision == "int8" else TYPE_NAMES[wanted]
    refuse_other_precision(spec.name, executed, asked, without_a_kernel(read, asked))
    return Built(engine, executed, halved=HALVED in read.output(0).get_names())


def fastest_model(
    model: Any, spec: ModelSpec, precision: Precision, options: dict[str, str] | None = None, *, whole: bool = False
) -> tuple[Any, str]:
    """The openvino.CompiledModel of a model in the form and type that are fastest on this CPU, and that type.

    Args:
        model, spec, precision, whole: as `lowered_model` takes them.
        options: of the plugin, beside those that every engine has.
    """
    wanted = fastest_type(precision, core())
    if precision != "int8":
        own = compile_options(wanted) | (options or {})
        return core().compile_model(lowered_model(model, spec, precision, wanted), DEVICE, own), wanted

    def lowered(execution: str, *, prelus: bool) -> Any:
        return lowered_model(model.clone(), spec, precision, execution, whole=whole, prelus=prelus)

    has_prelus = any(node.get_type_name() == "PRelu" for node in model.get_ops()) and not sums_saturate()
    # Without instructions of BF16 its convolutions would take five times as long as FP32's, where there are any.
    kinds = ("bf16", "f32") if wanted == "f32" and keeps_bf16() else (wanted,)
    for execution in kinds:
        form, own = lowered(execution, prelus=has_prelus), compile_options(execution) | (options or {})
        if execution == kinds[-1] or set(executed_types(core().compile_model(form, DEVICE, own))) == {"int8"}:
            break
    fastest = with_fastest_kernels(form, own)
    if has_prelus:
        apart = with_fastest_kernels(lowered(execution, prelus=False), own)
        share = share_of_time(fastest.compiled, apart.compiled)
        log(f"with sums before PReLUs inside of convolutions a frame takes {share:.2f} of the time of passes for them")
        fastest = fastest if share < MOST_SHARE else apart
    if fastest.told:
        log(fastest.told)
    return fastest.compiled, execution


def fastest_type(precision: Precision, plugins: Any) -> str:
    """What a graph of a precision runs as on this CPU, told where it is another than FP16 for FP16.

    Args:
        precision: of the graph.
        plugins: an openvino.Core.

    Returns:
        "f16", "bf16" or "f32", as OpenVINO's INFERENCE_PRECISION_HINT takes them.
    """
    half = execution_type(precision, plugins.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    if precision != "fp16":
        return half
    if half != "f32" and (gain := gain_of_fp32(half)) > LEAST_GAIN:
        log(f"this CPU's convolutions are {gain:.1f} times as fast in fp32 as in {TYPE_NAMES[half]}: fp16 runs as fp32")
        return "f32"
    if half != "f16":
        log(f"this CPU has no fp16 matrix units: fp16 runs as {TYPE_NAMES[half]}")
    return half


def lowered_model(
    model: Any, spec: ModelSpec, precision: Precision, execution: str, *, whole: bool = False, prelus: bool = False
) -> Any:
    """A model as `compiled` takes it, in this plugin's layouts and quantizers; it is changed.

    Args:
        model: NCHW in, NCHW out.
        spec: of that model.
        precision: of the graph.
        execution: as `runtime.backends.openvino.execution_type` gives it.
        whole: see `build`.
        prelus: as `engines.openvino_pairs.fuse_sums` takes it.
    """
    if spec.batch_free:
        model.reshape([1, *list(model.input(0).partial_shape)[1:]])
    halved = spec.block == 1 and leave_doubling(model)
    model = _with_frame_input(model, spec, logits_type(execution))
    if halved:
        model.output(0).set_names({HALVED})
    read_in_blocks(model, lanes_of(precision))
    if precision == "int8":
        shifted = quantize_frame(model)
        if whole and sums_saturate():
            hold_codes(model)
        else:
            merge_pairs(model)
            fuse_sums(model, prelus=prelus)
            if sums_saturate():
                hold_weights(model)
        drop_relus(model)
        take_off_means(shifted)
    view_windows(model)
    multiply_channels_last(model)
    paste_borders(model)
    if precision == "int8":  # of 16 bits the halves of a convolution take as much longer as the pass takes
        spread_rows(model)
    return model


def _refusing(spec: ModelSpec) -> AbstractContextManager[None]:
    return refusing(EngineError, f"OpenVINO refuses the graph of {spec.name}", line=-1)


def without_a_kernel(read: Any, wanted: str) -> int:
    """How many layers of an openvino.CompiledModel run in FP32 where 16 bits were asked; they are told.

    The plugin has no kernel of 16 bits for some shapes of deconvolutions, nor on a CPU without AMX for products of a
    matrix with maps, such as pyramids pool by. Nothing that is changed in the graph's types helps.
    """
    infos = [layer.get_rt_info() for layer in read.get_runtime_model().get_ops()]
    told = [
        tuple(info[of].astype(str) for of in ("layerType", "runtimePrecision", "originalLayersNames")) for info in infos
    ]
    if wanted not in ("fp16", "bf16"):
        return 0
    count = 0
    for layer, words in NO_KERNEL.items():
        names = [name for kind, runs, name in told if (kind, runs) == (layer, "f32")]
        if names:
            log(f"OpenVINO has no {wanted} kernel for {len(names)} {words}: they run in fp32 ({', '.join(names)})")
        count += len(names)
    return count


def refuse_other_precision(name: str, executed: dict[str, int], wanted: str, without_kernel: int = 0) -> None:
    """Refuse an engine whose weighted layers do not run in the type that was asked for.

    An int8 graph leaves layers in 16 bit by its own choice, so there only the absence of int8 is an error. So many
    layers in FP32 as the library has no other kernel for are none.

    Raises:
        EngineError: they run in another type.
    """
    excused = {"fp32": without_kernel}
    others = {kind: count for kind, count in executed.items() if kind != wanted and count != excused.get(kind)}
    if wanted not in executed or (others and wanted != "int8"):
        found = ", ".join(f"{count} in {kind}" for kind, count in executed.items())
        raise EngineError(f"the engine of {name} was to run in {wanted}, but of its weighted layers run {found}")


def logits_type(execution: str) -> Any:
    """The openvino.Type that logits leave the engine in.

    Where the last layer writes them in BF16, an INT8 one too, they stay so: as float32 they are the same values, for a
    pass over one of the largest maps.
    """
    return openvino.Type.bf16 if execution == "bf16" else openvino.Type.f32


def _with_frame_input(model: Any, spec: ModelSpec, output: Any) -> Any:
    # Transposes and casts of whole images cost more than small layers: the plugin reads and writes NHWC itself.
    takes_rgb = spec.preprocess.channel_order == "BGR" and read_rgb(model)
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    convert = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    gain, bias = gain_and_bias(spec.preprocess)
    if takes_rgb:
        gain, bias = gain[::-1], bias[::-1]
    elif spec.preprocess.channel_order == "BGR":
        convert.reverse_channels()
    if any(bias):
        convert.mean([float(-b / g) for b, g in zip(bias, gain, strict=True)])
    if any(gain != 1):
        convert.scale([float(1 / g) for g in gain])
    steps.output().model().set_layout(openvino.Layout("NCHW"))
    steps.output().tensor().set_layout(openvino.Layout("NHWC"))
    if output != openvino.Type.bf16:
        steps.output().tensor().set_element_type(output)
    built = steps.build()
    if output == openvino.Type.bf16:
        write_bf16(built)
    return built
