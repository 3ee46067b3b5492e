"""A frame with the mask that an engine gave of it: an engine that gives another one is not served."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.errors import EngineError
from runtime.libraries import refusing

SUFFIX = ".golden.npz"


class Golden(NamedTuple):
    """The frame, uint8 (H, W, 3) RGB, and its mask, uint8 (H, W)."""

    frame: np.ndarray
    mask: np.ndarray


def golden_path(engine: Path) -> Path:
    """Where the golden frame of an engine stands: `name.engine` -> `name.golden.npz`."""
    return engine.with_suffix(SUFFIX)


def bytes_from_golden(golden: Golden) -> bytes:
    """What `read_golden` reads."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **golden._asdict())
    return file.getvalue()


def read_golden(engine: Path) -> Golden:
    """The golden frame beside an engine.

    Raises:
        EngineError: it is missing or damaged.
    """
    path = golden_path(engine)
    if not path.is_file():
        raise EngineError(f"{path} is missing: without its golden frame {engine.name} is not served")
    with refusing(EngineError, f"{path} is damaged", "; write the version again"), np.load(path) as file:
        golden = Golden(file["frame"], file["mask"])
    if golden.frame.shape != (*golden.mask.shape, 3) or {golden.frame.dtype, golden.mask.dtype} != {np.dtype(np.uint8)}:
        raise EngineError(f"{path} holds no frame with its mask; write the version again")
    return golden


def refuse_other_mask(mask: np.ndarray, golden: Golden, whose: str) -> None:
    """Hold a mask of the golden frame to the golden mask, bit for bit.

    Raises:
        EngineError: it is another one.
    """
    if mask.shape != golden.mask.shape:
        raise EngineError(
            f"{whose} gives a mask of the shape {mask.shape} of the golden frame, not {golden.mask.shape}"
        )
    other = int(np.count_nonzero(mask != golden.mask))
    if other:
        raise EngineError(f"{whose} gives another mask of the golden frame: {other} of {mask.size} pixels differ")
