"""The schema of what `runtime.bench_rivals` and `runtime.bench_scaling` write and read again; see `documents`."""

from typing import Annotated

from msgspec import Meta, Struct

from runtime.measure.documents import Fingerprint, Line, Load, Natural, Percentiles, Positive, Samples, Share, Whole
from runtime.measure.worker import ENGINE


class Accuracy(Struct):
    """Which labelled frames the masks were held to."""

    dataset: Line
    split: Line
    frames: Whole
    frames_in_split: Whole


class Peer(Struct):
    """A way from frame to mask; `precision` is what most of it is computed in."""

    samples_ms: Samples
    percentiles_ms: Percentiles
    stages_ms: dict[Line, Percentiles]
    peak_mib: Natural
    precision: Line
    times_slower: Positive
    times_floor: Positive | None  # None: nothing was reached in its precision
    same_as_fp32: Share | None  # None: the FP32 path failed
    miou: Share | None


class Peers(Struct):
    """`runtime.bench_rivals --json`."""

    version: int
    fingerprint: Fingerprint
    libraries: dict[Line, Line]  # of the environment of rivals
    rounds: Whole
    warmup: Whole
    load: Load
    gmac: Positive
    reached: Annotated[dict[Line, Positive], Meta(min_length=1)]  # GMAC a second by precision
    accuracy: Accuracy | None
    paths: dict[Line, Peer]
    failed: dict[Line, Line]
    # Of each round; None: measured before December 2026, when a path's median was held to the best round of all.
    reached_by_round: list[dict[Line, Positive]] | None = None

    def __post_init__(self) -> None:
        if ENGINE not in self.paths:
            raise ValueError(f"paths are {', '.join(self.paths) or 'empty'}: there is no {ENGINE}")


class Scaled(Struct):
    """An engine with so many threads, or of such a size."""

    threads: Whole
    size: tuple[Whole, Whole]
    samples_ms: Samples
    percentiles_ms: Percentiles
    peak_mib: Natural
    frames_per_s: Positive
    in_flight: Whole


class Scaling(Struct):
    """`runtime.bench_scaling --json`; `fingerprint` is of the first engine."""

    version: int
    fingerprint: Fingerprint
    rounds: Whole
    warmup: Whole
    load: Load
    threads: Annotated[list[Scaled], Meta(min_length=1)]
    sizes: Annotated[list[Scaled], Meta(min_length=1)]
