"""Does an engine compute what its graph says? Its logits on a street frame beside the referee's, kept at its build.

The bound is the graph's own: how far its logits move when half of the frame's values are one grey level brighter. What
rounds differently moves them about as far; what is wrong moves them many times as far.
"""

import io
import math
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from runtime import reference
from runtime.errors import EngineError
from runtime.libraries import refusing
from runtime.manifest import rebuild_command
from runtime.spec import EngineManifest, ModelSpec, Proof

SUFFIX = ".referee.npz"
REFEREE = "onnxruntime"
NOISE = 1  # grey levels, on every other value or so: what a camera's own noise is at the least
# How far an engine may be, in what this noise does. INT8 engines of five networks at 64x128 to 704x960 came to at most
# 0.92, those in float to 0.05; with sums of products that saturate the shipped ENet to 1.27 and more, the others that
# are trained to 8 and more.
TIMES_OWN = {"fp32": 0.1}
TIMES_OWN_ROUNDED = 1.1
# However little noise moves the logits, a share of their deviation: by the least precise type that is computed in.
LEAST = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-2, "bf16": 5e-2}
# Of a graph that amplifies noise (an INT8 one with weights that were never trained, say) no engine can be told wrong.
MOST_TELLING = 0.5
SAYS_LITTLE = (
    "; this says little: one grey level of noise moves the graph's own logits about as far; compare masks on labelled "
    "frames, or take PRECISION=fp16"
)


MOST_VALUES = 2**18  # of the logits that are kept: enough for a mean, half a megabyte


class Computes(Protocol):
    """What of a `runtime.backend.Backend` a proof asks."""

    @property
    def spec(self) -> ModelSpec:
        """Its network."""

    def logits(self, frame: np.ndarray) -> np.ndarray:
        """Those of one frame."""

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """The mask of one frame."""


class Expected(NamedTuple):
    """What the referee computed of one frame at the build."""

    values: np.ndarray  # float32 (n,): every step-th of its logits in memory order
    shape: tuple[int, ...]  # of all its logits
    own: float  # how far noise moves them
    mask: np.ndarray  # uint8 (H, W), of the frame's own size


def expected(referee: Computes, frame: np.ndarray) -> Expected:
    """What the referee computes of a frame, uint8 (H, W, 3) RGB, and how far noise moves it."""
    logits = referee.logits(frame)
    own = apart(_some(logits), _some(referee.logits(noisy(frame))))
    return Expected(_some(logits), logits.shape, own, reference.segment(logits, referee.spec, frame.shape))


def apart(expected: np.ndarray, found: np.ndarray) -> float:
    """Root mean square of the difference of two arrays, as a share of the first one's deviation; inf if not finite."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    deviation = float(expected.std(dtype=np.float64))
    rms = float(np.sqrt(np.mean(np.square(expected.astype(np.float64) - found))))
    return rms / deviation if deviation else (0.0 if rms == 0 else float("inf"))


def noisy(frame: np.ndarray) -> np.ndarray:
    """The frame, uint8 (H, W, 3), with half of its values brighter by `NOISE`; the same ones every time."""
    brighter = np.random.default_rng(0).integers(0, 2, frame.shape, np.uint8) * NOISE
    return np.where(frame > 255 - NOISE, frame, frame + brighter)


def bound(own: float, executed: dict[str, int]) -> float:
    """How far an engine's logits may be from its graph's.

    Args:
        own: how far noise moves the graph's, as `apart` measures it.
        executed: the types of the engine's weighted layers.
    """
    rounding = own * max(TIMES_OWN.get(kind, TIMES_OWN_ROUNDED) for kind in executed or LEAST)
    least = max([0.0, *(LEAST.get(kind, LEAST["bf16"]) for kind in executed)])
    # What BF16 rounds comes from elsewhere than what the graph rounds: beside INT8 the shipped ENet came to 1.11 of its
    # noise at 64x128, without BF16 to 0.92.
    return math.hypot(rounding, least) if "bf16" in executed else max(rounding, least)


def compared(engine: Computes, frame: np.ndarray, want: Expected, executed: dict[str, int]) -> Proof:
    """One frame through an engine, beside what the referee computed of it.

    Args:
        frame: uint8 (H, W, 3) RGB.

    Raises:
        EngineError: its logits have another shape, or the mask is not what `runtime.reference` makes of them.
    """
    found, mask = engine.logits(frame), engine.segment(frame)
    if found.shape != want.shape:
        raise EngineError(
            f"logits of {engine.spec.name}'s engine have the shape {found.shape}, its graph's {want.shape}"
        )
    if not np.array_equal(mask, reference.segment(found, engine.spec, frame.shape)):
        raise EngineError(f"the kernels of {engine.spec.name}'s engine give another mask than its logits say")
    equal = float((mask == want.mask).mean())
    return Proof(REFEREE, 1, apart(want.values, _some(found)), bound(want.own, executed), equal)


def refuse_wrong(proof: Proof, path: Path, manifest: EngineManifest) -> None:
    """Hold an engine to what was found of it on this machine.

    Raises:
        EngineError: its logits are further apart from the referee's than rounding explains.
    """
    if not proof.apart <= proof.bound:
        raise EngineError(
            f"{path.name} does not compute on this machine what its graph says: logits are off by {proof.apart:.3f} of "
            f"their deviation, at most {proof.bound:.3f} is rounding. Build it here: {rebuild_command(manifest)}"
        )


def worst(proofs: list[Proof], referee: str) -> Proof:
    """One proof of several frames: of each figure the worst."""
    least = max(proofs, key=lambda proof: proof.apart / proof.bound)
    return Proof(referee, len(proofs), least.apart, least.bound, min(proof.masks_equal for proof in proofs))


def told(proof: Proof) -> str:
    """A proof in words, for one line."""
    if not proof.frames:
        return f"not proven: {proof.note}"
    return (
        f"proven on {proof.frames} frame{'s' * (proof.frames > 1)} beside {proof.referee}: logits within "
        f"{proof.apart:.4f} of their deviation (at most {proof.bound:.4f}), {proof.masks_equal:.2%} of the masks equal"
        f"{SAYS_LITTLE * (proof.bound > MOST_TELLING)}"
    )


def expected_path(engine: Path) -> Path:
    """Where the referee's logits of an engine stand: `name.engine` -> `name.referee.npz`."""
    return engine.with_suffix(SUFFIX)


def bytes_from_expected(want: Expected) -> bytes:
    """What `read_expected` reads; values in half precision, whose rounding is a fraction of the smallest bound."""
    file = io.BytesIO()
    fields = want._asdict() | {"values": want.values.astype(np.float16)}
    np.savez_compressed(file, allow_pickle=False, **fields)
    return file.getvalue()


def read_expected(engine: Path) -> Expected:
    """What the build kept beside an engine of the referee's logits of the street frame.

    Raises:
        EngineError: it is missing or damaged.
    """
    path = expected_path(engine)
    if not path.is_file():
        raise EngineError(f"{path} is missing: without the referee's logits {engine.name} cannot be proven")
    with refusing(EngineError, f"{path} is damaged", "; build the engine again"), np.load(path) as file:
        shape = tuple(int(length) for length in file["shape"])
        return Expected(file["values"].astype(np.float32), shape, float(file["own"]), file["mask"])


def _some(logits: np.ndarray) -> np.ndarray:
    # An odd step meets every row, column and channel of sizes that are even.
    flat = logits.reshape(-1)
    return flat[:: -(-flat.size // MOST_VALUES) | 1]
