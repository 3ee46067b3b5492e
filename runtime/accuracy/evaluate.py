"""mIoU of engines on labelled frames, side by side: `python -m runtime.evaluate --engine A [B ...] --data DIR`."""

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.accuracy.cityscapes import CITYSCAPES_IDS
from runtime.accuracy.datasets import DATASETS, Dataset, Pair, open_dataset, read_pair
from runtime.accuracy.metrics import confusion, confusion_by_confidence, iou, mean_iou, pixel_accuracy
from runtime.accuracy.seen import look
from runtime.arguments import Parser
from runtime.backend import Backend, open_backend
from runtime.cli import DONE, add_threads, byte_from_text, count_from_text, log, progress, show
from runtime.commands import command
from runtime.errors import EngineError
from runtime.fit import Shapes, add_fit, with_fit
from runtime.labels import Label
from runtime.lookup import chosen_engine
from runtime.manifest import read_manifest
from runtime.media.frames import FrameFile, add_max_pixels, write_png
from runtime.media.outputs import refuse_overwrites
from runtime.signature import add_require_signed
from runtime.spec import EngineManifest, Fit
from runtime.threads import count, for_command

# What the labels of a data set hold for each train id, where that is not the train id itself.
STORED_IDS = {"cityscapes": CITYSCAPES_IDS}


@dataclasses.dataclass(slots=True)
class Tally:
    """What one engine's masks add up to."""

    matrix: np.ndarray  # int64 (C, C), `runtime.accuracy.metrics.confusion`
    agreeing_px: np.ndarray  # int64 (engines,), of the class that each engine gives
    by_confidence: np.ndarray  # int64 (256, C, C), `confusion_by_confidence`; without pixels where none is asked for
    frames: int = 0
    seen_px: int = 0  # with those whose label does not count

    def add(self, mask: np.ndarray, label: np.ndarray, all_masks: Sequence[np.ndarray]) -> None:
        """Count one frame; each mask, one an engine, is uint8 (H, W) train ids as the label is."""
        self.matrix += confusion(mask, label, len(self.matrix))
        self.frames += 1
        self.agreeing_px += [np.count_nonzero(mask == other) for other in all_masks]
        self.seen_px += mask.size


class LabelWriter(NamedTuple):
    """Masks as the labels of their data set are stored: a PNG a frame, of the frame's name, in a folder an engine."""

    folders: list[Path]
    ids: np.ndarray  # uint8 (256,): train id -> stored value

    def paths(self, pair: Pair) -> list[Path]:
        """Where each engine's mask of this frame goes."""
        return [folder / f"{pair.frame.stem}.png" for folder in self.folders]

    def write(self, pair: Pair, masks: Sequence[np.ndarray]) -> None:
        """Write one frame's masks, uint8 (H, W) train ids, one an engine.

        Raises:
            OutputError: one cannot be written.
        """
        for path, mask in zip(self.paths(pair), masks, strict=True):
            write_png(path, np.take(self.ids, mask))


def evaluate(
    backends: Sequence[Backend],
    pairs: Sequence[Pair],
    classes: int,
    writer: LabelWriter | None = None,
    shape: float | None = None,
    *,
    confident: bool = False,
) -> list[Tally]:
    """Every engine on every frame, one frame after the other; with `shape` on the middle that has that width by height.

    With `confident` the pixels are counted by their confidence, too.

    Raises:
        DatasetError: a frame or its label cannot be read.
        OutputError: a mask cannot be written.
    """
    tallies = [empty_tally(classes, len(backends)) for _ in backends]
    shapes = [Shapes(backend.spec.preprocess) for backend in backends]
    for pair in progress(pairs, "evaluate", unit="frame"):
        frame, label = (cropped(array, shape) if shape else array for array in read_pair(pair))
        for each in shapes:
            each.add(*label.shape)
        if confident:
            pairs_of = [backend.confidence(frame) for backend in backends]
            for tally, (mask, found) in zip(tallies, pairs_of, strict=True):
                tally.by_confidence += confusion_by_confidence(mask, label, found, classes)
            masks = [mask for mask, _ in pairs_of]
        else:
            masks = [backend.segment(frame) for backend in backends]
        for tally, mask in zip(tallies, masks, strict=True):
            tally.add(mask, label, masks)
        if writer:
            writer.write(pair, masks)
    for line in dict.fromkeys(each.line() for each in shapes):
        if line:
            log(line)
    return tallies


def empty_tally(classes: int, engines: int) -> Tally:
    """Nothing is counted yet."""
    square = (classes, classes)
    return Tally(np.zeros(square, np.int64), np.zeros(engines, np.int64), np.zeros((256, *square), np.int64))


def cropped(array: np.ndarray, shape: float) -> np.ndarray:
    """The largest middle part of a frame or a label, (H, W, ...), that is `shape` times as wide as high."""
    height, width = array.shape[:2]
    high, wide = min(height, max(1, round(width / shape))), min(width, max(1, round(height * shape)))
    top, left = (height - high) // 2, (width - wide) // 2
    return np.ascontiguousarray(array[top : top + high, left : left + wide])


def main(argv: Sequence[str]) -> int:
    """Evaluate the engines that `argv` names.

    Raises:
        PipelineError: an engine, the data set or an output is not as it must be.
    """
    options = _parser().parse_args(argv)
    given = (
        options.engine, options.dataset, options.data, options.split, options.limit, options.save_labels,
        options.require_signed, options.fit, options.shape, options.void_below,
    )  # fmt: skip
    with for_command(options.threads):
        found = evaluated(*given)
    show(json.dumps(found, indent=1) if options.json else as_text(found))
    return DONE


def evaluated(
    engines: Sequence[Path] | None,
    dataset: str,
    data: Path,
    split: str,
    limit: int | None = None,
    save_labels: Path | None = None,
    require_signed: Path | None = None,
    fit: Fit | None = None,
    shape: float | None = None,
    void_below: Sequence[int] = (),
) -> dict[str, Any]:
    """What engines are worth on a data set, as JSON values; `result` says what of each.

    Args:
        engines: None: the newest of this machine.
        dataset: the name of a kind of `runtime.accuracy.datasets`.
        data: its folder.
        split: of it.
        limit: only so many frames, the first ones.
        save_labels: where masks are kept, in a folder an engine.
        require_signed: a public key, whose owner must have signed every engine.
        fit: what becomes of frames of another shape than the network's; None: as each engine says.
        shape: only the middle of each frame that has this width by height; None: all of it.
        void_below: confidences, for each of which `result` says what masks are worth without the pixels of less.

    Raises:
        PipelineError: an engine, the data set or an output is not as it must be.
    """
    opened = open_dataset(dataset, data)
    paths = list(engines) if engines else [chosen_engine()]
    manifests = [with_fit(manifest, fit) for manifest in _manifests(paths, opened)]
    pairs = opened.pairs(split)
    chosen = pairs[:limit]
    look(chosen, opened.classes, f"{opened.name} {split}", needed=save_labels is None)
    writer = _label_writer(save_labels, STORED_IDS.get(dataset, ()), paths, chosen) if save_labels else None
    with ExitStack() as stack:
        opening = (open_backend(path, require_signed=require_signed, fit=fit) for path in paths)
        backends = [stack.enter_context(backend) for backend in opening]
        tallies = evaluate(backends, chosen, len(opened.classes), writer, shape, confident=bool(void_below))
    results = [result(*each, opened.classes, void_below) for each in zip(paths, manifests, tallies, strict=True)]
    return {
        "dataset": opened.name,
        "split": split,
        "frames_in_split": len(pairs),
        "threads": count(),
        "engines": results,
    }


def result(
    engine: Path, manifest: EngineManifest, tally: Tally, classes: Sequence[Label], void_below: Sequence[int] = ()
) -> dict[str, Any]:
    """The figures of one engine as JSON values: shares 0..1, None for a figure that no pixel decides.

    `agreement` is the share of pixels that have the same class in each of the engines, in their order. `void_below` has
    for each confidence the share of the labelled pixels that have less, and the figures of those that are left.
    """
    voids = {"void_below": [kept_above(tally.by_confidence, below) for below in void_below]} if void_below else {}
    return {
        "engine": engine.stem,
        "model": manifest.spec.name,
        "weights_sha256": manifest.spec.weights_sha256,
        "network_size": [manifest.spec.preprocess.height, manifest.spec.preprocess.width],
        "fit": manifest.spec.preprocess.fit,
        "precision": manifest.precision,
        "executed": manifest.executed,
        "backend": manifest.backend,
        "frames": tally.frames,
        "miou": _number(mean_iou(tally.matrix)),
        "pixel_accuracy": _number(pixel_accuracy(tally.matrix)),
        "agreement": (tally.agreeing_px / tally.seen_px).tolist(),
        "iou": {label.name: _number(share) for label, share in zip(classes, iou(tally.matrix), strict=True)},
        **voids,
    }


def kept_above(by_confidence: np.ndarray, below: int) -> dict[str, Any]:
    """What masks are worth without the pixels of less confidence, as JSON values; see `result`.

    Args:
        by_confidence: int64 (256, C, C), `confusion_by_confidence`.
        below: 0..255.
    """
    kept, labelled = by_confidence[below:].sum(0), by_confidence.sum()
    return {
        "below": below,
        "void": _number(1 - kept.sum() / labelled if labelled else math.nan),
        "miou": _number(mean_iou(kept)),
        "pixel_accuracy": _number(pixel_accuracy(kept)),
    }


def as_text(found: dict[str, Any]) -> str:
    """What was found, for people: a line an engine, then a table with a column an engine, in percent."""
    engines: list[dict[str, Any]] = found["engines"]
    lines = [f"{found['dataset']} {found['split']}, {engines[0]['frames']} of {found['frames_in_split']} frames"]
    lines += [f"  {_engine_line(number, engine)}" for number, engine in enumerate(engines, 1)]
    lines += ["", _row("engine", [str(number) for number in range(1, len(engines) + 1)])]
    lines += [_row("", [engine["precision"] for engine in engines])]
    figures = {"mIoU": "miou", "pixel accuracy": "pixel_accuracy"}
    lines += [_row(name, [_percent(engine[key]) for engine in engines]) for name, key in figures.items()]
    for i in range(len(engines)):
        lines += [_row(f"same mask as {i + 1}", [_percent(engine["agreement"][i]) for engine in engines])]
    lines += [""]
    lines += [_row(name, [_percent(engine["iou"][name]) for engine in engines]) for name in engines[0]["iou"]]
    for number, engine in enumerate(engines, 1):
        if "void_below" in engine:
            lines += ["", _row(f"void below, of {number}", ["void", "mIoU", "accuracy"])]
            lines += [_void_row(found) for found in engine["void_below"]]
    return "\n".join(lines)


def _void_row(found: dict[str, Any]) -> str:
    return _row(str(found["below"]), [_percent(found[key]) for key in ("void", "miou", "pixel_accuracy")])


def _engine_line(number: int, engine: dict[str, Any]) -> str:
    executed = ", ".join(f"{count} {kind}" for kind, count in engine["executed"].items())
    return f"{number}  {engine['engine']}: {engine['precision']} on {engine['backend']}, weighted layers: {executed}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<16}" + "".join(f"{cell:>9}" for cell in cells)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _number(value: float) -> float | None:
    # JSON has no NaN.
    return None if math.isnan(value) else float(value)


def _manifests(engines: Sequence[Path], dataset: Dataset) -> list[EngineManifest]:
    names = [engine.stem for engine in engines]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EngineError(f"two engines are named {twice[0]}; give each once")
    manifests = [read_manifest(engine) for engine in engines]
    for engine, manifest in zip(engines, manifests, strict=True):
        _refuse_other_classes(engine, manifest.spec.classes, dataset)
    return manifests


def _refuse_other_classes(engine: Path, classes: Sequence[Label], dataset: Dataset) -> None:
    # A class is its name and its place; in what colour it is drawn makes no difference here.
    if [label.name for label in classes] != [label.name for label in dataset.classes]:
        raise EngineError(
            f"engine {engine.name} has {_listed(classes)}, but {dataset.name} has {_listed(dataset.classes)}; "
            f"evaluate it on a data set of its own classes, or build one of these: {command('engine', weights='path')}"
        )


def _listed(classes: Sequence[Label]) -> str:
    return f"{len(classes)} classes ({', '.join(label.name for label in classes)})"


def _label_writer(folder: Path, stored: Sequence[int], engines: Sequence[Path], pairs: Sequence[Pair]) -> LabelWriter:
    ids = np.arange(256, dtype=np.uint8)
    ids[: len(stored)] = stored
    writer = LabelWriter([folder / engine.stem for engine in engines], ids)
    inputs = [FrameFile(path, Path(path.name)) for pair in pairs for path in (pair.frame, pair.label)]
    refuse_overwrites(inputs, [{"labels": path} for pair in pairs for path in writer.paths(pair)])
    return writer


def _shape_from_text(text: str) -> float:
    width, _, height = text.partition(":")
    if not all(side.isdecimal() and len(side) < 6 and int(side) for side in (width, height)):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no W:H, for example 9:16")
    return int(width) / int(height)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m runtime.evaluate", description=__doc__)
    parser.add_argument(
        "--engine", type=Path, nargs="+", action="extend", help="one or more (by default the newest of this machine)"
    )
    parser.add_argument("--dataset", default="camvid", help=f"one of {', '.join(DATASETS)} (default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument("--limit", type=count_from_text, metavar="N", help="only the first N frames (default: all)")
    parser.add_argument(
        "--save-labels",
        type=Path,
        metavar="DIR",
        help="write masks as PNG to DIR/ENGINE: train ids, for cityscapes the labelIds that its evaluation takes",
    )
    add_fit(parser)
    parser.add_argument(
        "--shape", type=_shape_from_text, metavar="W:H", help="only the middle of each frame of that shape, as 9:16"
    )
    parser.add_argument(
        "--void-below", type=byte_from_text, nargs="+", action="extend", default=[], metavar="N",
        help="also tell what is left, and how right it is, without the pixels of less confidence, 0..255",
    )  # fmt: skip
    add_max_pixels(parser)
    add_require_signed(parser)
    add_threads(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout; shares 0..1, null: no pixel")
    return parser
