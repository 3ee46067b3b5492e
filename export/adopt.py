"""Anyone's ONNX file -> a checked graph of ours, from which engines are built like from any other.

`python -m export.adopt net.onnx --preprocess imagenet` says what it found in the file and prints the graph's path.
"""

import re
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import runtime
from export.adopting.options import NOTHING_ASKED, PRESETS, Asked, add_options, asked_from
from export.to_onnx import PRECISIONS, SPEC_KEY
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS, is_sealed, key_of, locked, sha256_of, sources_sha256, write_sealed
from runtime.cli import DONE, log, one_of, run, show
from runtime.commands import ADOPTED
from runtime.errors import GraphError
from runtime.media.frames import read_frame
from runtime.samples import STREET
from runtime.spec import ModelSpec, Preprocess, to_json

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from export.adopting.endings import Ending
    from export.adopting.meaning import Known
    from export.adopting.prefix import Prefix
    from export.adopting.source import Source
    from export.adopting.untouched import Input

HERE, RUNTIME = Path(__file__).parent, Path(runtime.__file__).parent
# What the graph depends on beside the file and the options.
CODE, RUNTIME_CODE = ("adopt.py", "adopting", "half.py", "to_onnx.py"), ("spec.py", "labels.py", "reference.py")
MADE_BY = ("onnx", "onnxscript", "onnxruntime", "numpy")
SHARE_OF_NAME = 80  # characters


class Adopted(NamedTuple):
    """A graph, and what was worked out on the way to it."""

    graph: "onnx.ModelProto"
    found: tuple[tuple[str, str], ...]  # (what, how it was found)


def adopt(path: Path, asked: Asked = NOTHING_ASKED, folder: Path = ARTIFACTS / "onnx", to: Path | None = None) -> Path:
    """The checked graph of an ONNX file; made only if there is none yet of the same key.

    Args:
        path: an ONNX file of anyone's.
        asked: what the file does not tell.
        folder: where graphs are kept.
        to: where this one is written in its place.

    Returns:
        The graph's path.

    Raises:
        GraphError: it is no ONNX, does not segment frames, or leaves open what nobody said; it says what to do.
        ModelError: an unknown precision.
    """
    from export.adopting.source import read_source

    one_of(asked.precision, PRECISIONS, "precision")
    source = read_source(path)
    name = asked.name or name_from(path)
    size = "own" if asked.size is None else "x".join(map(str, asked.size))
    path_made = to or folder / f"{name}-{asked.precision}-{size}-{_key(source, asked)}.onnx"
    with locked(path_made):
        if to is None and is_sealed(path_made):
            log(f"{path_made} is up to date")
        else:
            start = time.monotonic()
            made = adopted(source, asked)
            write_sealed(path_made, made.graph.SerializeToString())
            _tell(made, time.monotonic() - start)
    return path_made


def adopted(source: "Source", asked: Asked) -> Adopted:
    """Work out what a file is, cut what the runtime does better, and hold the result to the file."""
    from export.adopting import meaning, untouched
    from export.adopting.endings import gives_ids, take_ending, threshold_of
    from export.adopting.interface import input_of, output_of, refuse_other_size
    from export.adopting.prefix import take_prefix
    from export.adopting.simplify import name_layers, simplified
    from export.checkpoints.own_names import classes_from_file

    notes = meaning.metadata_of(source.model)
    bytes_in = input_of(source, asked.size or (0, 0)).kind == 2
    known = meaning.normalisation(asked.given, notes, is_bytes=bytes_in)
    given = input_of(source, asked.size or known.size)
    refuse_other_size(source, given, asked.size, known.size)
    graph = simplified(source.model, given.name, given.shape)
    threshold = {value.name: threshold_of(graph, value.name) for value in graph.graph.output}
    prefix = take_prefix(graph, given.name, given.layout)
    outside = _outside(known, prefix, given)
    frame = read_frame(STREET)
    results = untouched.run_file(source, given, outside, frame)
    results = {name: values.astype("int64") if gives_ids(graph, name) else values for name, values in results.items()}
    classes = classes_from_file(asked.classes) if asked.classes else ()
    output, dropped = output_of(source, results, given.size, asked.output, len(classes))
    mask = untouched.mask_of(results[output], given.size, threshold[output])
    ending = take_ending(graph, output, given.size, len(classes))
    spec, named_by = _spec(source, asked, graph, _whole(outside, prefix), ending, notes)
    spec = _first_layer(graph, spec)
    name_layers(graph)
    agreed, graph = _checked(graph, spec, asked, (mask, results[output]), frame, source)
    found = _table(source, given, known, outside, prefix, ending, output, dropped, spec, named_by)
    return Adopted(_noted(graph, spec), (*found, ("checked", agreed)))


def name_from(path: Path) -> str:
    """A network's name from its file's: letters, digits and . _ + -."""
    text = re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+")[:SHARE_OF_NAME]
    return text or "network"


def _outside(known: "Known", prefix: "Prefix", given: "Input") -> Preprocess:
    # What stands in front of the untouched file.
    from export.adopting.meaning import order_of

    gain = prefix.gain * known.scale / _turned(known.std, prefix)
    bias = prefix.bias - prefix.gain * _turned(known.mean, prefix) / _turned(known.std, prefix)
    order = order_of(known, gain, bias, is_flipped=prefix.is_flipped)
    return Preprocess(*given.size, known.scale, known.mean, known.std, order, known.fit)  # type: ignore[arg-type]


def _turned(values: Sequence[float], prefix: "Prefix") -> "np.ndarray":
    import numpy as np

    return np.array(values[::-1] if prefix.is_flipped else values, np.float64)


def _whole(outside: Preprocess, prefix: "Prefix") -> Preprocess:
    # What stands in front of the graph by now.
    if not prefix.taken:
        return outside
    order = outside.channel_order if not prefix.is_flipped else {"RGB": "BGR", "BGR": "RGB"}[outside.channel_order]
    gain = prefix.gain * outside.scale / _turned(outside.std, prefix)
    bias = prefix.bias - prefix.gain * _turned(outside.mean, prefix) / _turned(outside.std, prefix)
    mean, std = (-bias / gain).tolist(), (1 / gain).tolist()
    size = outside.height, outside.width
    return Preprocess(*size, 1.0, tuple(mean), tuple(std), order, outside.fit)  # type: ignore[arg-type]


def _spec(
    source: "Source", asked: Asked, graph: "onnx.ModelProto", preprocess: Preprocess, ending: "Ending",
    notes: dict[str, str],
) -> tuple[ModelSpec, str]:  # fmt: skip
    from export.adopting.editing import Editor
    from export.adopting.endings import LOGITS, stride_of
    from export.adopting.meaning import classes_for

    classes, named_by = classes_for(asked.classes, ending.classes, notes)
    shape = Editor(graph).shape(LOGITS) or ()
    if len(shape) != 4 or 0 in shape:
        raise GraphError(f"how large the output of {source.path} is does not follow from the graph: export it anew")
    size = (preprocess.height, preprocess.width)
    spec = ModelSpec(
        name=asked.name or name_from(source.path),
        preprocess=preprocess,
        classes=classes,
        output_stride=stride_of(shape[2:], size),
        block=1,
        batch=1,
        weights_sha256=source.sha256,
        source=f"{ADOPTED}{source.path.name}",
        upsample=ending.upsample,
    )
    return spec, named_by


def _first_layer(graph: "onnx.ModelProto", spec: ModelSpec) -> ModelSpec:
    # Where a convolution reads the frame its weights take what is multiplied: engines read the camera's own values.
    import numpy as np

    from export.adopting.prefix import fold_gain

    own = spec.preprocess
    gain = np.array([own.scale / std for std in own.std])
    if (gain == 1).all() or not fold_gain(graph, gain):
        return spec
    mean = tuple(value / own.scale for value in own.mean)
    sizes, unit, order = (own.height, own.width), (1.0, 1.0, 1.0), own.channel_order
    bare = Preprocess(*sizes, 1.0, mean, unit, order, own.fit)  # type: ignore[arg-type]
    return ModelSpec(**{name: getattr(spec, name) for name in ModelSpec.__slots__} | {"preprocess": bare})


def _checked(
    graph: "onnx.ModelProto", spec: ModelSpec, asked: Asked, wanted: tuple["np.ndarray", "np.ndarray"],
    frame: "np.ndarray", source: "Source",
) -> tuple[str, "onnx.ModelProto"]:  # fmt: skip
    # The graph in the precision that was asked, and how near it is to the file.
    from export.adopting import untouched
    from export.half import half_from_float
    from runtime.proof import noisy

    mask, output = wanted
    size = (spec.preprocess.height, spec.preprocess.width)
    full = untouched.run_graph(graph, spec, frame)
    is_half = source.is_half
    near = ""
    if is_half and output.dtype.kind == "f":
        moved = untouched.run_graph(graph, spec, noisy(frame))
        maps = [untouched.upsampled(each, spec.upsample, size) for each in (full, moved)]
        file_map = untouched.upsampled(untouched.logits_of(output, size), "half_pixel", size)
        near = untouched.rounding(file_map, *(each[-len(file_map) :] for each in maps))
    agreed = untouched.held(mask, full, spec, is_half=is_half, rounding=near)
    if asked.precision == "fp32":
        return agreed, graph
    half = half_from_float(graph, keep_casts=True)
    found, moved = (untouched.run_graph(half, spec, each) for each in (frame, noisy(frame)))
    near = untouched.rounding(full, found, moved)
    return untouched.held(mask, found, spec, is_half=True, rounding=near), half


def _noted(graph: "onnx.ModelProto", spec: ModelSpec) -> "onnx.ModelProto":
    from export.to_onnx import forget_sources

    graph.producer_name = "street-segmentation"
    forget_sources(graph)
    entry = graph.metadata_props.add()
    entry.key, entry.value = SPEC_KEY, to_json(spec)
    return graph


def _table(
    source: "Source", given: "Input", known: "Known", outside: Preprocess, prefix: "Prefix", ending: "Ending",
    output: str, dropped: Sequence[str], spec: ModelSpec, named_by: str,
) -> list[tuple[str, str]]:  # fmt: skip
    import onnx

    kind = onnx.TensorProto.DataType.Name(given.kind).lower()
    size = "x".join(map(str, given.size))
    what = {"logits": "logits", "binary": "one channel: class 1 above the threshold", "ids": "class ids"}[ending.kind]
    order = "" if known.channel_order else " (from the means inside)"
    numbers = f"(value * {outside.scale:.6g} - {_few(outside.mean)}) / {_few(outside.std)}"
    return [
        ("file", f"{source.path.name}, opset {source.opset}, {source.model.producer_name or 'no producer named'}"),
        ("input", f"{given.name}, {given.layout} {kind}, at {size}"),
        ("preprocess", f"{numbers}, {outside.channel_order}{order}; said by: {known.said_by}"),
        ("inside", f"{', '.join(prefix.taken)} went into the preprocess" if prefix.taken else "nothing in front"),
        ("output", output + (f"; dropped: {', '.join(dropped)}" if dropped else "")),
        ("segments by", f"{what}, {len(spec.classes)} classes, at 1/{spec.output_stride}"),
        ("cut off", f"{', '.join(ending.cut) or 'nothing'}; the runtime upsamples: {spec.upsample}"),
        ("classes", f"named by {named_by}"),
    ]


def _few(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


def _tell(made: Adopted, took_s: float) -> None:
    width = max(len(what) for what, _ in made.found) + 2
    for what, how in made.found:
        log(f"  {what:<{width}}{how}")
    log(f"adopted in {took_s:.1f} s: {len(made.graph.graph.node)} operators")


def _key(source: "Source", asked: Asked) -> str:
    files = [Path(each) for each in (asked.classes, asked.given.preprocess) if each and str(each) not in PRESETS]
    return key_of(
        {
            "file": source.sha256,
            "asked": [str(part) for part in asked],
            "files": [sha256_of(path) for path in files if path.is_file()],
            "packages": {name: metadata.version(name) for name in MADE_BY},
            "code": sources_sha256(*(HERE / name for name in CODE), *(RUNTIME / name for name in RUNTIME_CODE)),
        }
    )


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m export.adopt", description=__doc__)
    parser.add_argument("file", type=Path, metavar="ONNX", help="an ONNX file of anyone's that segments frames")
    parser.add_argument("--precision", default="fp32", help=f"{' or '.join(PRECISIONS)} (%(default)s)")
    parser.add_argument("-o", "--out", type=Path, metavar="GRAPH", help="where the graph is written (artifacts/onnx)")
    add_options(parser, size=True)
    asked = parser.parse_args(argv)
    show(adopt(asked.file, asked_from(asked, asked.precision), to=asked.out))
    return DONE


if __name__ == "__main__":
    run(main)
