"""What the gate and the bench write and read again: one schema of every document, checked before anything is measured.

A document stays the plain JSON values that it is; msgspec holds them to the classes below, so that what is read later
is there, of its type and of sizes that fit together. Fields that a class does not name are let pass.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from runtime.errors import PipelineError
from runtime.json_values import read_json
from runtime.measure.rivals import RIVALS
from runtime.measure.rounds import percentiles
from runtime.measure.worker import ENGINE
from runtime.media.results import WHOLE

# Ways through `runtime.bench_files` that others are compared with; of the second, times are those of the processor.
SEQUENTIAL, ONE_CORE = "sequential", "one core"
ROUNDING = 1e-6  # as a share: figures that were written with fewer digits than their samples

Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)]  # it is told in one line
Count = Annotated[int, Meta(ge=0)]
Whole = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
Natural = Annotated[float, Meta(ge=0, le=1e9)]
Samples = Annotated[list[Positive], Meta(min_length=1)]
Size = tuple[Whole, Whole]
TIMES = ("frames", "percentiles_ms", "peak_mib", "samples_ms")


class Percentiles(Struct):
    """p50 to the maximum of some milliseconds, none below the one before."""

    p50: Natural
    p90: Natural
    p99: Natural
    max: Natural

    def __post_init__(self) -> None:
        if not self.p50 <= self.p90 <= self.p99 <= self.max:
            raise ValueError(
                f"p50 to max are {self.p50:g}, {self.p90:g}, {self.p99:g}, {self.max:g}: they must not fall"
            )


class Gpu(Struct):
    """As a fingerprint names it."""

    name: Line
    driver_version: Any


class Machine(Struct):
    """Where something was measured."""

    cpu: Line
    features: list[Line]
    threads: Whole
    system: Line
    gpu: Gpu | None


class EngineFacts(Struct):
    """What was measured; the last six were not yet written by older versions."""

    model: Line
    weights_sha256: Line
    precision: Line
    executed: dict[Line, Count]
    backend: Line
    network_size: Size
    onnx_sha256: Line
    engine_sha256: Line
    engine_mib: Natural
    preprocess: dict[str, Any] | UnsetType = UNSET
    classes: list[Line] | UnsetType = UNSET
    batch: Whole | UnsetType = UNSET
    batch_free: bool | UnsetType = UNSET
    target: dict[Line, Line] | UnsetType = UNSET


class Fingerprint(Struct):
    """What `runtime.measure.fingerprint.fingerprint` gives."""

    machine: Machine
    software: dict[Line, Line]
    engine: EngineFacts
    frame_size: Size
    command: str
    revision: Line | None
    measured: Line | UnsetType = UNSET  # the date; older versions did not write it


class Moment(Struct):
    """How busy the machine was."""

    running_processes: Natural | None
    gpu: dict[str, str] | None


class Load(Struct):
    """How busy it was before and after."""

    before: Moment
    after: Moment


class UnderLoad(Struct):
    """What `runtime.measure.clocks.under_load` gives."""

    sm_mhz: tuple[Natural, Natural, Natural]
    mem_mhz: tuple[Natural, Natural, Natural]
    throttling: list[Line]
    readings: Whole


class Clocks(Struct):
    """A GPU's clocks: milliseconds of frames before a timed one, what it was locked to, what was read."""

    lead_ms: Natural
    locked_mhz: Whole | None
    under_load: UnderLoad | None


class Side(Struct):
    """Base or candidate of the gate; without times where nothing was timed."""

    engine: Line
    counts: dict[Line, Count]
    fingerprint: Fingerprint | UnsetType = UNSET
    frames: Whole | UnsetType = UNSET
    percentiles_ms: Percentiles | UnsetType = UNSET
    peak_mib: Natural | UnsetType = UNSET
    samples_ms: Annotated[list[Samples], Meta(min_length=1)] | UnsetType = UNSET
    mask: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        there = [name for name in TIMES if getattr(self, name) is not UNSET]
        if not there:
            return
        if len(there) < len(TIMES):
            raise ValueError(f"there is no {', '.join(name for name in TIMES if name not in there)}")
        _check_samples(self)


def _check_samples(side: Side) -> None:
    assert not isinstance(side.samples_ms, UnsetType) and not isinstance(side.percentiles_ms, UnsetType)
    lengths = {len(samples) for samples in side.samples_ms}
    if len(lengths) > 1:
        raise ValueError(f"samples_ms has rounds of {min(lengths)} and of {max(lengths)} frames")
    samples = np.array(side.samples_ms)
    if side.frames != samples.size:
        raise ValueError(f"frames says {side.frames}, samples_ms has {samples.size}")
    for name, found in percentiles(samples).items():
        said = getattr(side.percentiles_ms, name)
        if abs(said - found) > ROUNDING * found:
            raise ValueError(f"percentiles_ms says {name} {said:g}, samples_ms {found:g}")


class RuleFields(Struct):
    """The rule of a verdict."""

    margin: Positive
    alpha: Annotated[float, Meta(gt=0, lt=1)]
    rounds: Whole
    frames: Whole
    batches: Whole


class Candidate(Side, kw_only=True):
    """What a later run is held to: its fingerprint must be there."""

    fingerprint: Fingerprint


class Gate(Struct):
    """`runtime.regress --json` and `--record`, where there was something to compare or to record."""

    version: int
    rule: RuleFields
    seed: Count
    load: Load
    base: Side | None
    candidate: Candidate
    paired: bool
    outcome: Literal["pass", "slower", "ambiguous", "recorded"]
    clocks: Clocks | UnsetType = UNSET


class NoBase(Struct):
    """`runtime.regress --json` where there was nothing to compare with."""

    version: int
    outcome: Literal["no baseline"]
    reasons: Annotated[list[str], Meta(min_length=1)]
    candidate: Candidate


class Throughput(Struct):
    """Frames a second with several in flight."""

    in_flight: Whole
    frames_per_s: Positive
    frames: Whole


class Route(Struct):
    """A way from frame to mask in `runtime.bench`."""

    samples_ms: Samples
    percentiles_ms: Percentiles
    stages_ms: dict[Line, Percentiles]
    peak_mib: Natural
    mask_agreement: Share
    times_slower: Positive
    throughput: Throughput | UnsetType = UNSET


class Bench(Struct):
    """`runtime.bench --json`."""

    version: int
    fingerprint: Fingerprint
    rounds: Whole
    warmup: Whole
    load: Load
    paths: dict[Line, Route]
    clocks: Clocks | UnsetType = UNSET  # older versions did not write it

    def __post_init__(self) -> None:
        unknown = sorted(set(self.paths) - {ENGINE, *RIVALS})
        if unknown or ENGINE not in self.paths:
            raise ValueError(f"paths are {', '.join(self.paths) or 'empty'}; expected {ENGINE}, {', '.join(RIVALS)}")
        if self.paths[ENGINE].throughput is UNSET:
            raise ValueError(f"paths.{ENGINE} has no throughput")


class Kernels(Struct):
    """`runtime.bench --kernels --json`."""

    version: int
    fingerprint: Fingerprint
    kernels: Annotated[dict[Line, dict[Line, Natural]], Meta(min_length=1)]


class Way(Struct):
    """One pipeline of `runtime.bench_files` on one input: a value a round."""

    frames_per_s: Samples
    cpu_ms: Samples  # of all threads, a frame
    stages_ms: dict[Line, list[Natural]]

    def __post_init__(self) -> None:
        if len(self.cpu_ms) != len(self.frames_per_s):
            raise ValueError("cpu_ms has not as many rounds as frames_per_s")
        for stage in WHOLE:
            if len(self.stages_ms.get(stage, [])) != len(self.frames_per_s):
                raise ValueError(f"stages_ms.{stage} has not as many rounds as frames_per_s")


class Written(Struct):
    """One kind of file that `runtime.infer` writes of a picture: a value a round, and the size of the file."""

    cpu_ms: Samples
    kib: Natural


class Files(Struct):
    """`runtime.bench_files --json`."""

    version: int
    fingerprint: Fingerprint
    frames: Whole
    rounds: Whole
    inputs: Annotated[dict[Line, dict[Line, Way]], Meta(min_length=1)]
    written: dict[Line, Written] | UnsetType = UNSET  # older versions did not write it

    def __post_init__(self) -> None:
        ways = [[(name, len(way.frames_per_s)) for name, way in each.items()] for each in self.inputs.values()]
        if any(each != ways[0] for each in ways) or not {SEQUENTIAL, ONE_CORE} <= set(dict(ways[0])):
            raise ValueError(f"inputs differ in their ways or rounds, or have no way {SEQUENTIAL!r} or {ONE_CORE!r}")
        if len({rounds for _, rounds in ways[0]}) > 1:
            raise ValueError("the ways of inputs differ in their rounds")


class Evaluated(Struct):
    """One engine of `runtime.evaluate --json`."""

    engine: Line
    frames: Whole
    miou: Share | None


class Evaluation(Struct):
    """What the report takes of `runtime.evaluate --json`."""

    dataset: Line
    split: Line
    engines: Annotated[list[Evaluated], Meta(min_length=1)]


def read(
    path: Path, kind: type[Struct], module: str, version: int | None = None, again: str | None = None
) -> dict[str, Any]:
    """A document's JSON values, of which every field of `kind` is as it must be.

    Args:
        path: of the JSON.
        kind: its class here.
        module: whose `--json` wrote it, for the message.
        version: the one that is understood; None for a document without one.
        again: what the message tells to do; by default to measure it again.

    Raises:
        PipelineError: it is no such document, or of another version; one line that says where.
    """
    again = again or f"measure it again: python -m {module} --json"
    try:
        found = read_json(path)
        if version is not None and isinstance(found, dict) and found.get("version", version) != version:
            raise ValueError(f"it is of version {str(found['version'])[:20]!r}, expected {version}")
        msgspec.convert(found, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise _none(path, module, str(error), again) from None
    except OSError as error:
        raise _none(path, module, str(error.strerror), again) from None
    document: dict[str, Any] = found
    return document


def encoded(document: dict[str, Any], kind: type[Struct]) -> bytes:
    """The JSON of a document, which `read` will take.

    Raises:
        ValueError: it is not as the schema says: a mistake of the program.
    """
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"a document that nothing would read again: {error}") from None
    return json.dumps(document, indent=1, allow_nan=False).encode()


def text_from_mask(mask: np.ndarray) -> str:
    """A mask, uint8 (H, W), as a document keeps it: deflated, in base64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(mask).tobytes(), 9)).decode()


def mask_from_text(text: str, height: int, width: int) -> np.ndarray:
    """uint8 (height, width), what `text_from_mask` kept.

    Raises:
        ValueError: the text is no mask, or one of another size.
    """
    try:
        # Not one byte more than it must have is inflated.
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), height * width + 1)
    except zlib.error as error:
        raise ValueError(f"it does not inflate ({error})") from None
    if len(data) != height * width:
        raise ValueError(f"it is not of {height}x{width} pixels")
    return np.frombuffer(data, np.uint8).reshape(height, width)


def _none(path: Path, module: str, reason: str, again: str) -> PipelineError:
    told = " ".join(reason.split())[:300]
    return PipelineError(f"{path} is no document of {module} ({told}); {again}")
