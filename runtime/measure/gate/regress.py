"""Is an engine slower than another, or than it was? `python -m runtime.regress BASE_ENGINE NEW_ENGINE`.

Exit codes: 0 pass, 3 slower (or over the budget), 4 ambiguous, 5 no baseline, 1 error, 2 usage.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime import cli
from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.errors import EngineError, PipelineError
from runtime.manifest import read_manifest
from runtime.measure.fingerprint import command_line, differences, fingerprint, load
from runtime.measure.gate import proxies
from runtime.measure.gate.report import as_junit, as_markdown, as_text
from runtime.measure.gate.verdict import Rule, Verdict, judge_apart, judge_pairs
from runtime.measure.rounds import percentiles, take_turns, turns
from runtime.measure.worker import CODE, ENGINE, Job, Worker
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from runtime.threads import for_command

SLOWER, AMBIGUOUS, NO_BASELINE = 3, 4, 5
EXIT_CODES = {
    "pass": cli.DONE,
    "recorded": cli.DONE,
    "slower": SLOWER,
    "ambiguous": AMBIGUOUS,
    "no baseline": NO_BASELINE,
}
VERSION = 1  # of the JSON document
WARMUP = 3


class Measured(NamedTuple):
    """Some engines in turns: float64 (engines, rounds, frames) milliseconds, and each process's most memory."""

    samples_ms: np.ndarray
    peaks_mib: list[float]
    verdict: Verdict | None


def main(argv: Sequence[str]) -> int:
    """Judge the engines that `argv` names.

    Raises:
        PipelineError: an engine cannot be opened, or a file not be read or written.
    """
    options = _options(argv)
    with for_command(options.threads):
        return _judged(options, argv)


def _judged(options: argparse.Namespace, argv: Sequence[str]) -> int:
    candidate = options.engines[-1]
    frame = resize_frame(read_frame(options.frame), *(options.frame_size or _network_size(candidate)))
    found = fingerprint(candidate, read_manifest(candidate), frame.shape[:2], command_line("runtime.regress", argv))
    stored, reasons = _stored(options.baseline, found) if options.baseline else (None, [])
    if reasons:
        return _finish(options, {"version": VERSION, "outcome": "no baseline", "reasons": reasons, "candidate": found})
    before = load()
    sides: list[dict[str, Any]] = [{"engine": path.name, "counts": _counts(path)} for path in options.engines[:-1]]
    sides += [{"engine": candidate.name, "counts": proxies.count(candidate)}]
    verdict = None
    if not options.counts_alone:
        measured = measure(_jobs(options), frame, rule_of(options), options.seed, stored)
        verdict = measured.verdict
        sides = [side | _times(measured, i) for i, side in enumerate(sides)]
    sides[-1]["fingerprint"] = found
    document = {
        "version": VERSION,
        "rule": rule_of(options)._asdict(),
        "seed": options.seed,
        "load": {"before": before, "after": load()},
        "base": sides[0] if len(sides) == 2 else stored and stored["candidate"],
        "candidate": sides[-1],
        "paired": len(sides) == 2,
    }
    return _finish(options, document | conclusions(document, verdict, options.budget_ms))


def measure(
    jobs: Sequence[Job], frame: np.ndarray, rule: Rule, seed: int, stored: dict[str, Any] | None = None
) -> Measured:
    """Batches of rounds until the verdict is clear or the rule has no more.

    Args:
        jobs: base and candidate; or the candidate alone, to be held to `stored` or to nothing.
        frame: uint8 (H, W, 3) RGB, the same for all.
        rule: how much to measure, and what is slower.
        seed: of the order of turns.
        stored: an earlier document whose candidate is the base.
    """
    random = np.random.default_rng(seed)
    batches: list[np.ndarray] = []
    verdict: Verdict | None = None
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        np.save(frame_path := Path(folder) / "frame.npy", frame)
        workers = [stack.enter_context(Worker(job, frame_path)) for job in jobs]
        for worker in workers * WARMUP:
            worker.frame_ms()
        for number in range(1, rule.batches + 1):
            order = turns(random, rule.rounds, rule.frames, len(workers))
            batches.append(take_turns([worker.frame_ms for worker in workers], order))
            verdict = judge(np.concatenate(batches, axis=1), rule, stored)
            if verdict is None or verdict.outcome != "doubtful":
                break
            cli.log(f"batch {number} of {rule.batches}: {verdict.slowdown:+.1%}, p = {verdict.p:.2g}, still in doubt")
        peaks = [float(worker.ask(do="peak")["mib"]) for worker in workers]
    return Measured(np.concatenate(batches, axis=1), peaks, verdict)


def judge(samples_ms: np.ndarray, rule: Rule, stored: dict[str, Any] | None) -> Verdict | None:
    """The verdict over the rounds' medians; None for an engine alone without a stored base."""
    medians = np.median(samples_ms, axis=2)
    if len(medians) == 2:
        return judge_pairs(medians[0], medians[1], rule)
    if stored is None:
        return None
    return judge_apart(np.median(stored["candidate"]["samples_ms"], axis=1), medians[0], rule)


def conclusions(document: dict[str, Any], verdict: Verdict | None, budget_ms: float | None) -> dict[str, Any]:
    """Outcome and reasons: of the times, or the counts where nothing was timed, and of the budget.

    Args:
        document: with base and candidate; a base of None is an engine that is only recorded.
        verdict: of the times, None where there is none.
        budget_ms: what the candidate's p99 must not exceed.
    """
    base, candidate = document["base"], document["candidate"]
    changed = proxies.changes(base["counts"], candidate["counts"]) if base else []
    compared: str
    if verdict:
        compared = "ambiguous" if verdict.outcome == "doubtful" else verdict.outcome
    else:
        compared = outcome_of_counts(changed) if base else "recorded"
    budget = None
    if budget_ms is not None:
        p99 = candidate["percentiles_ms"]["p99"]
        budget = {"limit_ms": budget_ms, "p99_ms": p99, "kept": p99 <= budget_ms}
    return {
        "outcome": "slower" if budget and not budget["kept"] else compared,
        "compared": compared,
        "verdict": verdict._asdict() if verdict else None,
        "budget": budget,
        "changes": [{**change._asdict(), "in_words": change.in_words} for change in changed],
    }


def outcome_of_counts(changed: Sequence[proxies.Change]) -> str:
    """More of anything a frame is slower, less a pass, and both at once nobody can tell without a clock."""
    grown = {change.candidate > change.base for change in changed if change.name != "engine_bytes"}
    if grown == {True, False}:
        return "ambiguous"
    return "slower" if True in grown else "pass"


def rule_of(options: argparse.Namespace) -> Rule:
    """The rule that the options ask for."""
    return Rule(options.margin, options.alpha, options.rounds, options.frames, options.batches)


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


def _network_size(engine: Path) -> tuple[int, int]:
    preprocess = read_manifest(engine).spec.preprocess
    return preprocess.height, preprocess.width


def _times(measured: Measured, index: int) -> dict[str, Any]:
    samples = measured.samples_ms[index]
    return {
        "frames": samples.size,
        "percentiles_ms": percentiles(samples),
        "peak_mib": measured.peaks_mib[index],
        "samples_ms": samples.tolist(),
    }


def _stored(path: Path, here: dict[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    # the earlier document, or why it cannot be a base
    if not path.is_file():
        return None, [f"{path} does not exist; record one: python -m runtime.regress ENGINE --record {path}"]
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if document["version"] != VERSION:
            return None, [f"{path} is of version {document['version']}, expected {VERSION}; record it again"]
        return document, differences(document["candidate"]["fingerprint"], here)
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{path} is no document of runtime.regress ({error!r}); record it again") from None


def _finish(options: argparse.Namespace, document: dict[str, Any]) -> int:
    document["exit_code"] = EXIT_CODES[document["outcome"]]
    encoded = json.dumps(document, indent=1)
    outputs = {
        options.record: encoded, options.json: encoded, options.junit: as_junit(document),
        options.markdown: as_markdown(document),
    }  # fmt: skip
    for path, text in outputs.items():
        if path:
            write_atomically(path, text.encode())
    print(as_text(document))
    return int(document["exit_code"])


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    alone = options.baseline or options.record
    if len(options.engines) > 2 or (len(options.engines) == 2) == bool(alone):
        parser.error("give BASE_ENGINE NEW_ENGINE, or one engine and --baseline FILE or --record FILE")
    if options.counts_alone and (options.record or options.budget_ms is not None):
        parser.error("--counts-alone times nothing: there is nothing to record and no budget to hold")
    if options.baseline and options.record:
        parser.error("--record writes a baseline and --baseline reads one: give one of them")
    return options


def _parser() -> argparse.ArgumentParser:
    rule = Rule()
    parser = Parser(prog="python -m runtime.regress", description=__doc__)
    parser.add_argument("engines", type=Path, nargs="+", metavar="ENGINE", help="base and candidate; or one alone")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="hold one engine to what was recorded here")
    parser.add_argument("--record", type=Path, metavar="FILE", help="measure one engine and keep it as a baseline")
    parser.add_argument(
        "--base-code", type=Path, metavar="DIR", help="the tree whose runtime/ runs the base (this one)"
    )
    parser.add_argument(
        "--margin", type=cli.number_from_text, default=rule.margin, help="slowdown let pass, a share (%(default)s)"
    )
    parser.add_argument(
        "--alpha", type=cli.number_from_text, default=rule.alpha, help="largest p that is believed (%(default)s)"
    )
    parser.add_argument(
        "--budget-ms", type=cli.number_from_text, metavar="MS", help="p99 of a frame must not exceed it; for 30 Hz 33.3"
    )
    parser.add_argument(
        "--rounds", type=cli.count_from_text, default=rule.rounds, help="rounds of a batch (%(default)s)"
    )
    parser.add_argument(
        "--frames", type=cli.count_from_text, default=rule.frames, help="frames a round and engine (%(default)s)"
    )
    parser.add_argument(
        "--batches", type=cli.count_from_text, default=rule.batches, help="batches at most, in doubt (%(default)s)"
    )
    parser.add_argument("--frame", type=Path, default=STREET, help="an image (%(default)s)")
    parser.add_argument("--frame-size", type=cli.size_from_text, help="HEIGHTxWIDTH it is brought to (the network's)")
    cli.add_threads(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the order of turns (%(default)s)")
    parser.add_argument("--counts-alone", action="store_true", help="judge layers and bytes, where time means nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, raw samples too")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="a summary fit for a pull request")
    return parser
