"""`python -m runtime.infer INPUT...`: pictures in; class ids, colours and overlays out."""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime import cli
from runtime.artifacts import ARTIFACTS
from runtime.backend import Backend, open_backend
from runtime.errors import FrameError, OutputError
from runtime.frames import FrameFile, colored, locate_frames, overlay, read_frame, shown, write_png
from runtime.labels import palette
from runtime.manifest import newest_engine
from runtime.outputs import SAVES, plan_outputs, refuse_overwrites
from runtime.spec import ModelSpec

STAGES = ("decode", "preprocess", "network", "postprocess", "encode")
PARTS_OF_SEGMENT = STAGES[1:4]
WHOLE = ("decode", "segment", "encode")
SHOWN_SHARE = 0.0005  # less would print as 0.0%


class Result(NamedTuple):
    """One picture done: what was written, how long each stage took, and what the mask holds."""

    file: FrameFile
    outputs: dict[str, Path]
    height: int
    width: int
    milliseconds: dict[str, float]
    shares: dict[str, float]


class Writer(NamedTuple):
    """What is written of a mask, and how it looks."""

    palette: np.ndarray
    alpha: float

    def write(self, frame: np.ndarray, mask: np.ndarray, outputs: dict[str, Path]) -> None:
        """Write each of `outputs`: ids, color, overlay -> where.

        Raises:
            OutputError: one cannot be written.
        """
        for kind, path in outputs.items():
            write_png(path, self._pixels(kind, frame, mask))

    def _pixels(self, kind: str, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if kind == "ids":
            return mask
        return colored(mask, self.palette) if kind == "color" else overlay(frame, mask, self.palette, self.alpha)


def main(argv: Sequence[str]) -> int:
    """Segment the pictures that `argv` names.

    A picture that cannot be read is one line on stderr and the rest goes on; the exit code tells.

    Raises:
        PipelineError: nothing could be done, or an output cannot be written.
    """
    options = _parser().parse_args(argv)
    files = locate_frames(options.inputs, skip=options.output)
    outputs = plan_outputs(files, options.output, options.save)
    refuse_overwrites(files, outputs)
    engine = options.engine or newest_engine()
    with open_backend(engine) as backend:
        _prepare_folder(options.output)
        results, problems = _segment_all(backend, files, outputs, options)
        _report(options, engine, backend.spec, results, problems)
    if problems and len(files) > 1:
        cli.fail(f"{len(problems)} of {len(files)} inputs failed, {len(results)} done")
    return cli.FAILED if problems else cli.DONE


def class_shares(mask: np.ndarray, spec: ModelSpec) -> dict[str, float]:
    """The part of the mask that each class takes, 0..1, in the order of the classes.

    Args:
        mask: uint8 (H, W) train ids.
    """
    counts = np.bincount(mask.ravel(), minlength=len(spec.classes))
    return {label.name: float(counts[i] / mask.size) for i, label in enumerate(spec.classes)}


def _segment_all(
    backend: Backend, files: list[FrameFile], outputs: list[dict[str, Path]], options: argparse.Namespace
) -> tuple[list[Result], dict[str, str]]:
    results: list[Result] = []
    problems: dict[str, str] = {}
    writer = Writer(palette(backend.spec.classes), options.alpha)
    for file, paths in cli.progress(list(zip(files, outputs, strict=True)), "segment"):
        try:
            warmup = 0 if results else options.warmup
            results.append(_segment_one(backend, file, paths, writer, warmup))
        except FrameError as error:
            problems[shown(file.path)] = str(error)
            cli.fail(str(error))
    return results, problems


def _segment_one(backend: Backend, file: FrameFile, outputs: dict[str, Path], writer: Writer, warmup: int) -> Result:
    for _ in range(warmup):
        backend.segment(read_frame(file.path))
    start = time.perf_counter()
    frame = read_frame(file.path)
    decoded = time.perf_counter()
    mask = backend.segment(frame)
    segmented = time.perf_counter()
    writer.write(frame, mask, outputs)
    encoded = time.perf_counter()
    milliseconds = {"decode": (decoded - start) * 1e3, "segment": (segmented - decoded) * 1e3}
    # A copy: the backend's own is overwritten by the next frame.
    milliseconds |= {name: backend.stages_ms[name] for name in PARTS_OF_SEGMENT if name in backend.stages_ms}
    milliseconds["encode"] = (encoded - segmented) * 1e3
    height, width = mask.shape
    return Result(file, outputs, height, width, milliseconds, class_shares(mask, backend.spec))


def _report(
    options: argparse.Namespace, engine: Path, spec: ModelSpec, results: list[Result], problems: dict[str, str]
) -> None:
    if options.json:
        files = [_as_json(result) for result in results]
        errors = [{"input": path, "error": message} for path, message in problems.items()]
        document = {"engine": str(engine), "model": spec.name, "files": files, "errors": errors}
        print(json.dumps(document, indent=1))
        return
    for result in results:
        print(*map(shown, result.outputs.values()), sep="\n")
    if results and (len(results) == 1 or options.stages):
        print(f"\n{engine.stem}\n{stage_table([result.milliseconds for result in results])}")
    if len(results) == 1:
        print(f"\n{_share_table(results[0].shares)}")


def stage_table(frames_ms: Sequence[dict[str, float]]) -> str:
    """Milliseconds per stage, the mean over the frames, as lines of text.

    Args:
        frames_ms: for each frame decode, segment, encode, and the parts of segment where the backend tells them.
    """
    told = all(set(STAGES) <= set(frame) for frame in frames_ms)
    means = {name: float(np.mean([frame[name] for frame in frames_ms])) for name in (STAGES if told else WHOLE)}
    means["total"] = float(np.mean([sum(frame[name] for name in WHOLE) for frame in frames_ms]))
    return "\n".join([f"{'stage':<12}{'ms':>9}", *(f"{name:<12}{ms:>9.1f}" for name, ms in means.items())])


def _share_table(shares: dict[str, float]) -> str:
    largest_first = sorted(shares.items(), key=lambda item: -item[1])
    rows = [("class", "share"), *((name, f"{share:.1%}") for name, share in largest_first if share >= SHOWN_SHARE)]
    return "\n".join(f"{name:<14}{share:>7}" for name, share in rows)


def _as_json(result: Result) -> dict[str, object]:
    fields: dict[str, object] = result._asdict()
    del fields["file"]
    return {"input": str(result.file.path)} | fields | {"outputs": {k: str(v) for k, v in result.outputs.items()}}


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"output folder {shown(folder)} cannot be written ({error.strerror}): give another with -o"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.infer", description=__doc__)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image, glob, or folder (searched to the bottom)")
    parser.add_argument("-o", "--output", type=Path, default=ARTIFACTS / "masks", help="folder (default: %(default)s)")
    parser.add_argument("--engine", type=Path, help="default: this machine's newest under artifacts/engines")
    parser.add_argument(
        "--save", type=_saves_from_text, default=SAVES, help="which of ids,color,overlay (default: all)"
    )
    parser.add_argument(
        "--alpha", type=_alpha_from_text, default=0.5, help="colours in the overlay, 0..1 (default: 0.5)"
    )
    parser.add_argument(
        "--warmup", type=_count_from_text, default=0, metavar="N", help="untimed runs on the first image (default: 0)"
    )
    parser.add_argument("--stages", action="store_true", help="mean ms per stage; for one image it is always printed")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout; times in ms, shares 0..1")
    return parser


def _saves_from_text(text: str) -> tuple[str, ...]:
    asked = text.split(",")
    if not set(asked) <= set(SAVES):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {','.join(SAVES)}")
    return tuple(kind for kind in SAVES if kind in asked)


def _alpha_from_text(text: str) -> float:
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise argparse.ArgumentTypeError(f"alpha {text!r} is not a number from 0 to 1")
    return alpha


def _count_from_text(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a count, 0 or more")
    return int(text)


if __name__ == "__main__":
    cli.run(main)
