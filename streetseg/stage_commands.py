"""`streetseg engine|export|calib|quantize`: the functions of `streetseg.stages` with their options as a command's.

Each prints the path of what it made as its last line.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from export.adopting.options import add_normalization, add_options, asked_from, given_by, refuse_options
from export.checkpoints.own_names import add_checkpoint
from runtime.arguments import Parser, add_device
from runtime.cli import DONE, batch_from_text, count_from_text, seed_from_text, show, size_from_text
from runtime.fit import add_fit
from runtime.manifest import ENGINES
from runtime.spec import BACKENDS, PRECISIONS
from streetseg import stages

DEFAULT_MODEL = "icnet"
METHODS = ("minmax", "percentile", "entropy", "mse")


def engine(argv: Sequence[str]) -> int:
    """Build an engine for this machine.

    Raises:
        PipelineError: as `streetseg.stages.build`.
    """
    parser = _parser("engine", "An engine for this machine, with all that it is made from; what is done is not redone.")
    _add_source(parser, "a graph of ours in place of --model")
    _add_onnx(parser)
    parser.add_argument("--precision", help=f"{', '.join(PRECISIONS)} (fp16, or the graph's own)")
    parser.add_argument("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)} (auto: TensorRT or OpenVINO)")
    add_device(parser)
    _add_batch(parser)
    parser.add_argument("--plain", action="store_true", help="of the network as PyTorch has it, for bench --plain")
    _add_int8(parser)
    parser.add_argument(
        "--no-proof", action="store_true", help="do not compare it with its graph; its manifest says so"
    )
    parser.add_argument("--data", type=Path, help="a data set or folder: some frames of it are compared, too")
    _add_max_pixels(parser)
    parser.add_argument("--folder", type=Path, default=ENGINES, help="where engines are kept (%(default)s)")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign it with this private key (streetseg keys NAME)")
    asked = parser.parse_args(argv)
    source, size, classes = _adopted(parser, asked, "fp32" if asked.precision == "fp32" else "fp16")
    path = stages.build(
        source, precision=asked.precision, backend=asked.backend, size=size, batch=asked.batch,
        weights=asked.weights, classes=classes, ema=asked.ema, fit=asked.fit, preprocess=_said(asked),
        plain=asked.plain,
        table=asked.table, method=asked.method, leave=asked.leave, anyway=asked.anyway,
        prove=not asked.no_proof, data=asked.data, folder=asked.folder, sign=asked.sign,
    )  # fmt: skip
    show(path)
    return DONE


def export(argv: Sequence[str]) -> int:
    """Write the checked ONNX graph of a network.

    Raises:
        PipelineError: as `streetseg.stages.export`.
    """
    parser = _parser("export", "The checked ONNX graph of a network.")
    _add_network(parser)
    parser.add_argument("--precision", default="fp16", help=f"{', '.join(PRECISIONS)} (%(default)s)")
    _add_batch(parser)
    parser.add_argument("--plain", action="store_true", help="as PyTorch has it, without the deployed form's rewrites")
    _add_int8(parser)
    add_normalization(parser)
    asked = parser.parse_args(argv)
    path = stages.export(
        asked.model or DEFAULT_MODEL, precision=asked.precision, size=asked.size or stages.SIZE, batch=asked.batch,
        weights=asked.weights, classes=asked.classes, ema=asked.ema, fit=asked.fit, preprocess=_said(asked),
        plain=asked.plain,
        table=asked.table, method=asked.method, leave=asked.leave, anyway=asked.anyway,
    )  # fmt: skip
    show(path)
    return DONE


def calib(argv: Sequence[str]) -> int:
    """Take the ranges of a network's tensors on real frames.

    Raises:
        PipelineError: as `streetseg.stages.calibrate`.
    """
    parser = _parser("calib", "The ranges of a network's tensors on real frames: INT8 engines are made from them.")
    _add_source(parser, "the FP32 graph, in place of --model")
    _add_onnx(parser)
    parser.add_argument("--data", type=Path, required=True, help="Cityscapes, CamVid or a folder of images")
    parser.add_argument("--frames", type=count_from_text, default=512, help="how many, at most (%(default)s)")
    parser.add_argument("--seed", type=seed_from_text, default=0, help="of their choice (%(default)s)")
    parser.add_argument("--method", default="mse", help=f"{', '.join(METHODS)} (%(default)s)")
    parser.add_argument("--few", action="store_true", help="take fewer than 32 frames without complaint")
    _add_max_pixels(parser)
    asked = parser.parse_args(argv)
    source, size, classes = _adopted(parser, asked, "fp32")
    path = stages.calibrate(
        source, data=asked.data, size=size, weights=asked.weights,
        classes=classes, ema=asked.ema, fit=asked.fit, preprocess=_said(asked),
        frames=asked.frames, seed=asked.seed, method=asked.method, few=asked.few,
    )  # fmt: skip
    show(path)
    return DONE


def quantize(argv: Sequence[str]) -> int:
    """Write the INT8 graph of a network.

    Raises:
        PipelineError: as `streetseg.stages.quantize`.
    """
    parser = _parser("quantize", "The INT8 graph of a network, from a calibration table.")
    _add_source(parser, "the FP16 graph, in place of --model")
    _add_onnx(parser)
    _add_int8(parser)
    asked = parser.parse_args(argv)
    source, size, classes = _adopted(parser, asked, "fp16")
    path = stages.quantize(
        source, size=size, weights=asked.weights, classes=classes,
        ema=asked.ema, fit=asked.fit, preprocess=_said(asked),
        table=asked.table, method=asked.method, leave=asked.leave, anyway=asked.anyway,
    )  # fmt: skip
    show(path)
    return DONE


def _add_max_pixels(parser: Parser) -> None:
    from runtime.media.frames import add_max_pixels  # NumPy, for which --help of the others need not wait

    add_max_pixels(parser)


def _parser(name: str, description: str) -> Parser:
    return Parser(prog=f"streetseg {name}", description=description)


def _add_source(parser: Parser, what: str) -> None:
    parser.add_argument("graph", type=Path, nargs="?", metavar="GRAPH", help=what)
    _add_network(parser)


def _add_network(parser: Parser) -> None:
    parser.add_argument("--model", help=f"a network (streetseg models), or path/to/net.py:build ({DEFAULT_MODEL})")
    parser.add_argument("--size", type=size_from_text, help="HEIGHTxWIDTH of its input, in pixels (1024x2048)")
    parser.add_argument("--weights", type=Path, help="a checkpoint (the one shipped)")
    add_fit(parser, built=True)
    add_checkpoint(parser)


def _add_batch(parser: Parser) -> None:
    what = "frames in one input: 4 for exactly so many, 1-8 for any number up to that (1)"
    parser.add_argument("--batch", type=batch_from_text, default=(1, 1), help=what)


def _add_int8(parser: Parser) -> None:
    add = parser.add_argument_group("INT8 alone").add_argument
    add("--table", type=Path, help="the newest of the same weights, or the one shipped")
    add("--method", help=f"{', '.join(METHODS)} (the table's own)")
    add("--leave", nargs="+", default=[], metavar="LAYER", help="layers left in FP16: conv6_cls, bottleneck5_* (none)")
    add("--anyway", action="store_true", help="take it however far its logits are from the float graph's")


def _add_onnx(parser: Parser) -> None:
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="anyone's ONNX file, in place of --model")
    add_options(parser, classes=False)


def _adopted(
    parser: Parser, asked: Namespace, precision: str
) -> tuple[str | Path, tuple[int, int] | None, Path | None]:
    # The network or the graph, made of another's file where one was given; size and classes that are left to be asked.
    if not asked.onnx:
        refuse_options(asked, str(asked.graph or asked.model or DEFAULT_MODEL))
        return _source(parser, asked), asked.size, asked.classes
    if other := asked.graph or asked.model or asked.weights or _of_a_name(asked):
        parser.error(f"{other} and --onnx: give one of them")
    from export import adopt

    return adopt.adopt(asked.onnx, asked_from(asked, precision), stages.GRAPHS), None, None


def _of_a_name(asked: Namespace) -> str | None:
    if asked.fit:
        return f"--fit {asked.fit} (of another's file its Preprocess says it)"
    return "--ema" if asked.ema else None


def _said(asked: Namespace) -> dict[str, object] | None:
    # Of the normalisation; of another's ONNX file it was taken by then.
    said = {name: value for name, value in given_by(asked)._asdict().items() if value is not None}
    return None if vars(asked).get("onnx") else said or None


def _source(parser: Parser, asked: Namespace) -> str | Path:
    if asked.graph and asked.model:
        parser.error(f"{asked.graph} and --model {asked.model}: give a graph or a network")
    graph: Path | None = asked.graph
    return graph or asked.model or DEFAULT_MODEL
