"""Like with like: whether two engines, or an engine and a recorded one, may be compared, and how much masks differ."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import EngineError, PipelineError
from runtime.manifest import read_manifest
from runtime.measure import documents
from runtime.measure.fingerprint import differences, engine_differences, engine_facts
from runtime.measure.gate.measuring import Stored
from runtime.measure.worker import Worker

VERSION = 1  # of the JSON document
MODULE = "runtime.regress"
# What --across lets differ, in the words of the facts that it concerns.
ACROSS = {
    "precision": ("engine precision:",),
    "weights": ("engine weights_sha256:",),
    "backend": ("engine backend:", "engine target "),
    # PLAIN=1: the deployed form of a network multiplies with the scale itself.
    "form": ("engine preprocess scale:", "engine preprocess mean:", "engine preprocess std:"),
    "batch": ("engine batch:", "engine batch_free:"),
}


class NoBaseline(Exception):
    """There is nothing that the candidate may be compared with; `reasons` say why, a line each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = list(reasons)


def facts_of(base: Path, *, own_code: bool) -> dict[str, Any] | None:
    """What the base is; None where only its own code may be able to read its manifest.

    Raises:
        EngineError: it is no engine.
    """
    try:
        return engine_facts(base, read_manifest(base))
    except EngineError:
        if own_code and base.is_file():
            return None
        raise


def refuse_unlike(base: dict[str, Any], candidate: dict[str, Any], across: Sequence[str]) -> list[str]:
    """Compare the facts of a pair; what `across` lets differ is returned in words.

    Raises:
        NoBaseline: they differ in something else.
    """
    found = engine_differences(base, candidate, "base", "candidate")
    let = tuple(words for name in across for words in ACROSS[name])
    unlike = [line for line in found if not line.startswith(let)] if let else found
    if unlike:
        raise NoBaseline(unlike)
    return found


def facts_told(worker: Worker) -> dict[str, Any]:
    """What the base's own code reads in its manifest.

    Raises:
        NoBaseline: it cannot say.
    """
    try:
        answer = worker.ask(do="facts")
    except EngineError as error:
        raise NoBaseline([str(error)]) from None
    return {name: getattr(answer, name) for name in answer.__struct_fields__} | {
        "network_size": list(answer.network_size)
    }


def stored_document(path: Path, options: argparse.Namespace, here: dict[str, Any]) -> dict[str, Any]:
    """The document of --baseline, whose candidate is the base.

    Raises:
        NoBaseline: there is none, or it is of another machine, software or network.
        PipelineError: it is no such document, or holds no times that can be compared.
    """
    again = f"record one: python -m {MODULE} ENGINE --record {path}"
    if not path.exists():
        raise NoBaseline([f"{path} does not exist; {again}"])
    document = documents.read(path, documents.Gate, MODULE, VERSION, again)
    candidate = document["candidate"]
    if "samples_ms" not in candidate:
        raise PipelineError(f"{path} holds no times: it was written with --counts-alone; {again}")
    differs = differences(candidate["fingerprint"], here)
    if differs:
        raise NoBaseline(differs)
    stored_mask(document)
    return document


def stored_times(document: dict[str, Any]) -> Stored:
    """The times of a recorded base."""
    return Stored(np.array(document["candidate"]["samples_ms"], np.float64))


def stored_mask(document: dict[str, Any]) -> np.ndarray | None:
    """The mask of a recorded base, uint8 (H, W); None of one that was recorded by an older version.

    Raises:
        PipelineError: it is damaged.
    """
    candidate = document["candidate"]
    if "mask" not in candidate:
        return None
    try:
        return documents.mask_from_text(candidate["mask"], *candidate["fingerprint"]["frame_size"])
    except ValueError as error:
        raise PipelineError(f"the baseline's mask is damaged ({error}); record it again") from None


def masks_compared(base: np.ndarray | None, candidate: np.ndarray) -> dict[str, Any] | None:
    """The share of pixels of the gate's frame that have another class, as JSON values; None where a mask is missing.

    Raises:
        EngineError: the masks are not of one size.
    """
    if base is None:
        return None
    if base.shape != candidate.shape:
        raise EngineError(f"the base's mask is of {base.shape} pixels, the candidate's of {candidate.shape}")
    return {"changed": float((base != candidate).mean()), "changed_px": int((base != candidate).sum()),
            "pixels": base.size}  # fmt: skip
