"""Is an engine slower than another, or than it was? `python -m runtime.regress BASE_ENGINE NEW_ENGINE`.

Exit codes: 0 pass, 3 slower (or over the budget), 4 ambiguous, 5 no baseline, 1 error, 2 usage.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime import cli
from runtime.artifacts import write_atomically
from runtime.errors import EngineError, PipelineError
from runtime.manifest import read_manifest
from runtime.measure import clocks, documents
from runtime.measure.fingerprint import command_line, fingerprint, load
from runtime.measure.gate import proxies
from runtime.measure.gate.comparable import (
    MODULE,
    VERSION,
    NoBaseline,
    facts_of,
    facts_told,
    masks_compared,
    refuse_unlike,
    stored_document,
    stored_mask,
    stored_times,
)
from runtime.measure.gate.measuring import Measured, Stored, least_rounds, measure
from runtime.measure.gate.options import bounds_of, parsed, rule_of
from runtime.measure.gate.report import as_junit, as_markdown, as_text
from runtime.measure.gate.verdict import Rule, Verdict
from runtime.measure.rounds import percentiles
from runtime.measure.worker import CODE, ENGINE, Job, Worker
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.spec import EngineManifest
from runtime.threads import for_command

SLOWER, AMBIGUOUS, NO_BASELINE = 3, 4, 5
EXIT_CODES = {
    "pass": cli.DONE,
    "recorded": cli.DONE,
    "slower": SLOWER,
    "ambiguous": AMBIGUOUS,
    "no baseline": NO_BASELINE,
}


def main(argv: Sequence[str]) -> int:
    """Judge the engines that `argv` names.

    Raises:
        PipelineError: an engine cannot be opened, or a file not be read or written.
    """
    options = parsed(argv, __doc__)
    with for_command(options.threads):
        return _judged(options, argv)


def _judged(options: argparse.Namespace, argv: Sequence[str]) -> int:
    candidate = options.engines[-1]
    manifest = read_manifest(candidate)
    frame = resize_frame(read_frame(options.frame), *(options.frame_size or _network_size(manifest)))
    found = fingerprint(candidate, manifest, frame.shape[:2], command_line(MODULE, argv))
    try:
        return _finish(options, _compared(options, frame, found))
    except NoBaseline as none:
        side = {"engine": candidate.name, "counts": {}, "fingerprint": found}
        document = {"version": VERSION, "outcome": "no baseline", "reasons": none.reasons, "candidate": side}
        return _finish(options, document)


def _compared(options: argparse.Namespace, frame: np.ndarray, found: dict[str, Any]) -> dict[str, Any]:
    # The whole document. What can be refused is refused before anything is measured.
    rule, paired = rule_of(options), len(options.engines) == 2
    stored = stored_document(options.baseline, options, found) if options.baseline else None
    if stored:
        _refuse_other_rounds(options.baseline, stored_times(stored), rule)
    check = _Check(options, found["engine"])
    before = load()
    sides: list[dict[str, Any]] = [{"engine": path.name, "counts": _counts(path)} for path in options.engines[:-1]]
    sides += [{"engine": options.engines[-1].name, "counts": proxies.count(options.engines[-1])}]
    if options.counts_alone:
        for path, side in zip(options.engines, sides, strict=True):
            proxies.refuse_uncounted(path, side["counts"])
    sides[-1]["fingerprint"] = found
    measured = None
    if not options.counts_alone:
        times = stored_times(stored) if stored else None
        bounds, lead_ms = bounds_of(options), clocks.lead_ms(found["engine"]["backend"])
        with clocks.locked(options.lock_clocks):
            measured = measure(_jobs(options), frame, rule, options.seed, times, bounds, check=check, lead_ms=lead_ms)
        sides = [side | _times(measured, i) for i, side in enumerate(sides)]
        sides[-1]["mask"] = documents.text_from_mask(measured.masks[-1])
    base_mask = measured.masks[0] if measured and paired else stored_mask(stored) if stored else None
    document = {
        "version": VERSION,
        "rule": rule._asdict(),
        "seed": options.seed,
        "load": {"before": before, "after": load()},
        "clocks": clocks.document(found["engine"]["backend"], options.lock_clocks, measured and measured.clocks),
        "base": sides[0] if paired else stored and stored["candidate"],
        "candidate": sides[-1],
        "paired": paired,
        "across": check.across,
        "masks": masks_compared(base_mask, measured.masks[-1]) if measured else None,
    }
    return document | conclusions(document, measured, options.budget_ms)


class _Check:
    """That a pair is alike: before anything is opened, or else by what the base's own code says of it."""

    def __init__(self, options: argparse.Namespace, candidate: dict[str, Any]) -> None:
        self.across: list[str] = []
        self._options, self._candidate, self._told = options, candidate, False
        if len(options.engines) == 2:
            _refuse_no_code(options.base_code)
            base = facts_of(options.engines[0], own_code=bool(options.base_code))
            self._told = base is None
            if base is not None:
                self.across = refuse_unlike(base, candidate, options.across)
            elif options.counts_alone:
                raise NoBaseline(
                    [f"{options.engines[0]} has a manifest that only its own code reads: nothing is known"]
                )

    def __call__(self, workers: Sequence[Worker]) -> None:
        if self._told:
            self.across = refuse_unlike(facts_told(workers[0]), self._candidate, self._options.across)
        if self._options.base_code:
            cli.log(f"the base runs {workers[0].runtime}")


def conclusions(document: dict[str, Any], measured: Measured | None, budget_ms: float | None) -> dict[str, Any]:
    """Outcome and reasons: of the times, or the counts where nothing was timed, and of the budget.

    Args:
        document: with base and candidate; a base of None is an engine that is only recorded.
        measured: the times, None where nothing was timed.
        budget_ms: what the candidate's p99 must not exceed.
    """
    verdict = measured.verdict if measured else None
    base, candidate = document["base"], document["candidate"]
    changed = proxies.changes(base["counts"], candidate["counts"]) if base else []
    compared: str
    if verdict:
        compared = "ambiguous" if verdict.outcome == "doubtful" else verdict.outcome
    else:
        compared = _without_a_verdict(changed, measured) if base else "recorded"
    budget = None
    if budget_ms is not None:
        p99 = candidate["percentiles_ms"]["p99"]
        budget = {"limit_ms": budget_ms, "p99_ms": p99, "kept": p99 <= budget_ms}
    return {
        "outcome": "slower" if budget and not budget["kept"] else compared,
        "compared": compared,
        "verdict": _as_json(verdict) if verdict else None,
        "stopped": measured.stopped if measured else None,
        "budget": budget,
        "changes": [{**change._asdict(), "in_words": change.in_words} for change in changed],
    }


def outcome_of_counts(changed: Sequence[proxies.Change]) -> str:
    """More of anything a frame is slower, less a pass, and both at once nobody can tell without a clock."""
    grown = {change.candidate > change.base for change in changed if change.name != "engine_bytes"}
    if grown == {True, False}:
        return "ambiguous"
    return "slower" if True in grown else "pass"


def _without_a_verdict(changed: Sequence[proxies.Change], measured: Measured | None) -> str:
    # Counts tell what was not timed; what was timed too briefly for any verdict is in doubt.
    return "ambiguous" if measured else outcome_of_counts(changed)


def _as_json(verdict: Verdict) -> dict[str, Any]:
    # JSON has no infinity: a slowdown that nothing bounds is none.
    values = verdict._asdict()
    return values | {"slowdown_most": verdict.slowdown_most if math.isfinite(verdict.slowdown_most) else None}


def _refuse_no_code(folder: Path | None) -> None:
    # What has no package is refused before it is opened; which file a process really ran it says itself.
    if folder and not (folder / "runtime").is_dir():
        raise EngineError(f"--base-code {folder}: there is no folder runtime in it, so the base has no code of its own")


def _refuse_other_rounds(path: Path, stored: Stored, rule: Rule) -> None:
    rounds, frames = stored.samples_ms.shape
    if rounds < least_rounds(rule):
        raise PipelineError(f"{path} holds {rounds} rounds and proves nothing: {least_rounds(rule)} or more are needed")
    if frames != rule.frames:
        raise PipelineError(f"{path} holds rounds of {frames} frames, not of {rule.frames}: give --frames {frames}")


def _jobs(options: argparse.Namespace) -> list[Job]:
    code = [options.base_code or CODE, CODE][-len(options.engines) :]
    return [Job(ENGINE, (engine,), folder) for engine, folder in zip(options.engines, code, strict=True)]


def _counts(base: Path) -> dict[str, int]:
    # A base with code of its own may be written in a way that this code does not read; it is timed all the same.
    try:
        return proxies.count(base)
    except EngineError as error:
        cli.log(f"the base's layers are not counted: {error}")
        return {"engine_bytes": base.stat().st_size} if base.is_file() else {}


def _network_size(manifest: EngineManifest) -> tuple[int, int]:
    return manifest.spec.preprocess.height, manifest.spec.preprocess.width


def _times(measured: Measured, index: int) -> dict[str, Any]:
    samples = measured.samples_ms[index]
    return {
        "runtime": str(measured.runtimes[index]),
        "frames": samples.size,
        "percentiles_ms": percentiles(samples),
        "peak_mib": measured.peaks_mib[index],
        "samples_ms": samples.tolist(),
    }


def _finish(options: argparse.Namespace, document: dict[str, Any]) -> int:
    document["exit_code"] = EXIT_CODES[document["outcome"]]
    kind = documents.NoBase if document["outcome"] == "no baseline" else documents.Gate
    encoded = documents.encoded(document, kind)
    outputs = {
        options.json: encoded, options.junit: as_junit(document).encode(),
        options.markdown: as_markdown(document).encode(), options.record: encoded,
    }  # fmt: skip
    for path, content in outputs.items():
        if path:
            write_atomically(path, content)
    cli.show(as_text(document))
    return int(document["exit_code"])
