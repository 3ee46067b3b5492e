"""What `runtime.infer` tells of its work: files, stages and shares as text, or all of it as one JSON document."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runtime.cli import show
from runtime.media.pictures import Result
from runtime.media.pipeline import Clock
from runtime.media.streams import StreamResult
from runtime.spec import ModelSpec
from runtime.texts import shown
from runtime.threads import count

STAGES = ("decode", "preprocess", "network", "postprocess", "encode")
PARTS_OF_SEGMENT = STAGES[1:4]
WHOLE = ("decode", "segment", "encode")
SHOWN_SHARE = 0.0005  # less would print as 0.0%


@dataclass(slots=True)
class Report:
    """What was done so far: pictures, videos and cameras, and what could not be read.

    Of pictures, of which there may be any number, the first and sums are kept; all where `all_pictures` is set.
    """

    all_pictures: bool = False
    pictures: list[Result] = field(default_factory=list)
    done: int = 0
    kept: int = 0  # inputs whose outputs were whole already
    pictures_clock: Clock = field(default_factory=Clock)
    streams: list[StreamResult] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    failed_inputs: int = 0
    _sums_ms: Counter[str] = field(default_factory=Counter)
    _times_told: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Count a picture that is done."""
        self.done += 1
        self._sums_ms.update(result.milliseconds)
        self._times_told.update(result.milliseconds.keys())
        if self.all_pictures or not self.pictures:
            self.pictures.append(result)

    def mean_ms(self) -> dict[str, float]:
        """The mean over the pictures of each time that all of them have."""
        return {name: ms / self.done for name, ms in self._sums_ms.items() if self._times_told[name] == self.done}

    def print_text(self, engine: Path, *, stages: bool) -> None:
        """Print, for one picture or where asked, the times and shares; the files were printed as they were written."""
        alone = self.done + len(self.streams) == 1
        if self.done and (alone or stages):
            show(f"\n{engine.stem}\n{stage_table([self.mean_ms()])}")
        if self.done > 1 and stages:
            show(busy_line(self.pictures_clock, self.done))
        for stream in self.streams if stages else []:
            if stream.frames:
                show(f"\n{shown(stream.input)}, {engine.stem}\n{stage_table([stream.milliseconds])}")
                show(busy_line(stream.clock, stream.frames))
        if self.done and alone:
            show(f"\n{share_table(self.pictures[0].shares)}")

    def about_ids(self, spec: ModelSpec) -> str:
        """A line for who opens a file of class ids in a viewer and sees black; "" where none was written."""
        written = [result.outputs for result in self.pictures] + [dict(stream.outputs) for stream in self.streams]
        with_ids = [outputs for outputs in written if "ids" in outputs]
        if not with_ids:
            return ""
        first = with_ids[0]
        coloured = [shown(first[kind]) for kind in ("overlay", "color") if kind in first]
        look = f"for the colours open {coloured[0]}" if coloured else "for colours give --save ids,color,overlay"
        last = len(spec.classes) - 1
        return f"{shown(first['ids'])} holds class ids 0..{last}, which look black in a viewer: {look}"

    def print_json(self, engine: Path, spec: ModelSpec) -> None:
        """Print one document with everything; times in milliseconds, shares from 0 to 1."""
        files = [*map(picture_as_json, self.pictures), *map(stream_as_json, self.streams)]
        errors = [{"input": given, "error": message} for given, message in self.problems]
        print(
            json.dumps(
                {"engine": str(engine), "model": spec.name, "threads": count(), "files": files, "errors": errors},
                indent=1,
            )
        )


def stage_table(frames_ms: Sequence[dict[str, float]]) -> str:
    """Milliseconds per stage, the mean over the frames, as lines of text.

    Args:
        frames_ms: for each frame decode, segment, encode, and the parts of segment where the backend tells them.
    """
    told = all(set(STAGES) <= set(frame) for frame in frames_ms)
    means = {name: float(np.mean([frame[name] for frame in frames_ms])) for name in (STAGES if told else WHOLE)}
    means["total"] = float(np.mean([sum(frame[name] for name in WHOLE) for frame in frames_ms]))
    return "\n".join([f"{'stage':<12}{'ms':>9}", *(f"{name:<12}{ms:>9.1f}" for name, ms in means.items())])


def busy_line(clock: Clock, frames: int) -> str:
    """How much of the time each stage worked, the one near 100% limits the rate; and the rate, as a line of text."""
    busy = ", ".join(f"{name} {share:.0%}" for name, share in clock.busy().items())
    return f"busy: {busy}; {frames} frames in {clock.seconds:.2f} s, {frames / clock.seconds:.2f} a second"


def share_table(shares: dict[str, float]) -> str:
    """The share of each class that has one, the largest first, as lines of text."""
    largest_first = sorted(shares.items(), key=lambda item: -item[1])
    rows = [("class", "share"), *((name, f"{share:.1%}") for name, share in largest_first if share >= SHOWN_SHARE)]
    return "\n".join(f"{name:<14}{share:>7}" for name, share in rows)


def print_line(value: Result | StreamResult | dict[str, object]) -> None:
    """Print a picture, a video, or what else became of an input, as one line of JSON."""
    if isinstance(value, Result):
        value = picture_as_json(value)
    elif isinstance(value, StreamResult):
        value = stream_as_json(value)
    print(json.dumps(value), flush=True)


def picture_as_json(result: Result) -> dict[str, object]:
    """What is told of a picture."""
    fields: dict[str, object] = result._asdict()
    del fields["file"], fields["counts"]
    return {"input": str(result.file.path)} | fields | {"outputs": {k: str(v) for k, v in result.outputs.items()}}


def stream_as_json(stream: StreamResult) -> dict[str, object]:
    """What is told of a video or a camera."""
    outputs: dict[str, list[str]] = {}
    for kind, path in stream.outputs:
        outputs.setdefault(kind, []).append(str(path))
    names = ("height", "width", "frames", "damaged", "missing", "dropped", "reconnects", "seconds", "fps")
    # A second file of a kind is there only where the frames changed their size.
    fields = {"input": stream.input, "outputs": {k: v[0] if len(v) == 1 else v for k, v in outputs.items()}}
    told = {"milliseconds": stream.milliseconds, "shares": stream.shares, "notes": stream.notes}
    return fields | {name: getattr(stream, name) for name in names} | told | {"busy": stream.clock.busy()}
