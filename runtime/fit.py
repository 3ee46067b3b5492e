"""Where a frame of another shape lies in a network's input: over all of it, or with its own aspect inside a border."""

import argparse
import dataclasses
import threading
from typing import NamedTuple

from runtime.spec import FITS, EngineManifest, Fit, ModelSpec, Preprocess

# How many times wider than the network's a frame's shape may be, or narrower, before it is worth more unstretched:
# measured, docs/accuracy.md, "Frames of another shape".
FARTHEST = 1.75
BUILT_FIT: Fit = "auto"  # of a graph, where nothing else is asked


class Span(NamedTuple):
    """A stretch of one axis of the network's input: `length` of `whole` from `start` on."""

    start: int
    length: int
    whole: int


class Box(NamedTuple):
    """The part of a network's input that the frame fills."""

    down: Span
    across: Span

    @property
    def is_whole(self) -> bool:
        """Whether there is no border."""
        return all(span.length == span.whole for span in self)


def box_of(preprocess: Preprocess, height: int, width: int) -> Box:
    """Where a frame of `height` by `width` lies, by `preprocess.fit`.

    "stretch": everywhere. "pad": as large as its own aspect allows, in the middle, since what networks are trained on
    is cut from all around. "auto": padded where its shape is `is_far` from the network's, else stretched.
    """
    whole = Box(*(Span(0, side, side) for side in (preprocess.height, preprocess.width)))
    if preprocess.fit == "stretch" or (preprocess.fit == "auto" and not is_far(preprocess, height, width)):
        return whole
    share = min(preprocess.height / height, preprocess.width / width)
    return Box(_middle(height * share, preprocess.height), _middle(width * share, preprocess.width))


def shape_ratio(preprocess: Preprocess, height: int, width: int) -> float:
    """How many times wider than the network's a frame's shape is, or narrower; 1 where they are the same."""
    ratio = width * preprocess.height / (height * preprocess.width)
    return max(ratio, 1 / ratio)


def is_far(preprocess: Preprocess, height: int, width: int) -> bool:
    """Whether a frame's shape is so far from the network's that stretching costs more than a border does."""
    return shape_ratio(preprocess, height, width) > FARTHEST


def with_fit(manifest: EngineManifest, fit: Fit | None) -> EngineManifest:
    """The manifest with another `Preprocess.fit`; None: as it is.

    Raises:
        ValueError: there is no such fit.
    """
    if fit is None:
        return manifest
    return dataclasses.replace(manifest, spec=spec_with_fit(manifest.spec, fit))


def spec_with_fit(spec: ModelSpec, fit: Fit) -> ModelSpec:
    """The spec with another `Preprocess.fit`.

    Raises:
        ValueError: there is no such fit.
    """
    if fit not in FITS:
        raise ValueError(f"fit is one of {', '.join(FITS)}, got {fit!r:.40}")
    return dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, fit=fit))


class Shapes:
    """How many frames of a run have a shape far from the network's, to be told once."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._lock = threading.Lock()  # several cameras are counted at once
        self._frames = self._far = 0
        self._worst = (0.0, 0, 0)  # how far, and that frame's height and width

    def add(self, height: int, width: int, frames: int = 1) -> None:
        """Count frames of that size."""
        far = frames and is_far(self._preprocess, height, width)
        with self._lock:
            self._frames += frames
            if far:
                self._far += frames
                self._worst = max(self._worst, (shape_ratio(self._preprocess, height, width), height, width))

    def line(self) -> str:
        """One line for the user; "" where no frame is far."""
        if not self._far:
            return ""
        ratio, height, width = self._worst
        network = f"{self._preprocess.height}x{self._preprocess.width}"
        told = f"{self._far} of {self._frames} frames are far from the network's shape, such as {height}x{width}"
        if self._preprocess.fit == "stretch":
            return f"{told}, stretched {ratio:.1f} times to {network}: --fit auto keeps their shape"
        return f"{told} in {network}, and have a border: a network of their shape sees more (SIZE=HEIGHTxWIDTH)"


def add_fit(parser: argparse.ArgumentParser, *, built: bool = False) -> None:
    """The option `--fit`; None where it is not given: `BUILT_FIT` for what is `built`, else as the engine says."""
    parser.add_argument(
        "--fit", choices=FITS, help="frames of another shape than the network's: stretched, padded "
        f"with their shape kept, or auto, padded where the shapes are {FARTHEST} times apart "
        f"(default: {BUILT_FIT if built else 'as the engine says'})",
    )  # fmt: skip


def _middle(length: float, whole: int) -> Span:
    pixels = min(whole, max(1, round(length)))
    return Span((whole - pixels) // 2, pixels, whole)
