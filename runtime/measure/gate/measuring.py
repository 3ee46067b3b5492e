"""The gate's measuring: engines in turns until a look is clear, the rounds are done or the minutes are over."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime import cli
from runtime.errors import PipelineError
from runtime.measure import clocks
from runtime.measure.gate.looks import Look, judged, look_at, looks, looks_apart, rounds_needed
from runtime.measure.gate.verdict import Rule, Verdict
from runtime.measure.rounds import take_turns, turns
from runtime.measure.scratch import scratch
from runtime.measure.worker import PATIENCE_S, Job, Worker, mask_of, warm_up

WARMUP = 3
MINUTE_S = 60.0


class Bounds(NamedTuple):
    """How long the gate may take: minutes in all, and seconds that a process may be silent."""

    minutes: float | None = None
    patience_s: float = PATIENCE_S


class Stored(NamedTuple):
    """A recorded base: float (rounds, frames) milliseconds."""

    samples_ms: np.ndarray

    @property
    def medians_ms(self) -> np.ndarray:
        """float (rounds,)."""
        medians: np.ndarray = np.median(self.samples_ms, axis=1)
        return medians


class Measured(NamedTuple):
    """Some engines in turns.

    `samples_ms` is float64 (engines, rounds, frames); of each engine are the most memory of its process, its mask of
    the frame, uint8 (H, W), and the file of the `runtime` that it ran by. `stopped` says what ended it too early.
    """

    samples_ms: np.ndarray
    peaks_mib: list[float]
    masks: list[np.ndarray]
    runtimes: list[Path]
    verdict: Verdict | None
    stopped: str | None
    clocks: dict[str, Any] | None = None  # of a GPU under load of the last engine


def measure(
    jobs: Sequence[Job],
    frame: np.ndarray,
    rule: Rule,
    seed: int,
    stored: Stored | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008  immutable
    *,
    settle: bool = True,
    lead_ms: float = 0.0,
    check: Callable[[Sequence[Worker]], None] | None = None,
) -> Measured:
    """Rounds until the verdict is clear or there are no more.

    Args:
        jobs: base and candidate; or the candidate alone, to be held to `stored` or to nothing.
        frame: uint8 (H, W, 3) RGB, the same for all.
        rule: how much to measure, and what is slower.
        seed: of the order of turns.
        stored: the recorded base.
        bounds: how long it may take.
        settle: whether to stop at the first look that is clear; otherwise there is one look, at the end.
        lead_ms: for so long an engine does frames before one that is timed, and the GPU's clocks are read.
        check: called with the workers as soon as they are open.

    Raises:
        EngineError: one cannot be opened, dies, or does not answer.
        PipelineError: the minutes hold too few rounds to conclude anything.
    """
    start = time.monotonic()
    with scratch() as folder, ExitStack() as stack:
        np.save(frame_path := folder / "frame.npy", frame)
        cli.log(f"opening {len(jobs)} engine(s); a process that is silent for {bounds.patience_s:.0f} s ends it")
        workers = [stack.enter_context(Worker(job, frame_path, bounds.patience_s)) for job in jobs]
        if check:
            check(workers)
        for worker in workers:
            worker.lead_ms = lead_ms
        masks = [mask_of(worker, folder) for worker in workers]
        round_s = warm_up(workers, WARMUP) * rule.frames
        until = start + bounds.minutes * MINUTE_S if bounds.minutes else np.inf
        alone = len(jobs) == 1 and stored is None
        most = _most_rounds(rule, round_s, until, alone=alone)
        plan = (
            _plan(rule, most, paired=len(jobs) == 2, alone=alone) if settle else [Look(most, rule.frames, rule.alpha)]
        )
        _tell(plan, rule, round_s, max(worker.patience_s for worker in workers), until)
        samples, verdict = _rounds(workers, plan, rule, np.random.default_rng(seed), until, stored)
        busy = partial(workers[-1].ask, do="busy", seconds=clocks.LOAD_S)
        read = clocks.under_load(busy) if lead_ms else None
        peaks = [float(worker.ask(do="peak").mib) for worker in workers]
    cut = samples.shape[1] < plan[-1].rounds and (verdict is None or verdict.outcome == "doubtful")
    stopped = f"--minutes {bounds.minutes:g} were over after {samples.shape[1]} of {most} rounds" if cut else None
    return Measured(samples, peaks, masks, [worker.runtime for worker in workers], verdict, stopped, read)


def refuse_too_few(rule: Rule, *, apart: bool) -> str | None:
    """Why so few rounds can never conclude, and how many would; None where they can."""
    needed = least_rounds(rule) if apart else rounds_needed(rule.alpha)
    if rule.most_rounds >= needed:
        return None
    return (
        f"{rule.most_rounds} rounds can never conclude: were each of them slower, p would be 2^-{rule.most_rounds} = "
        f"{2.0**-rule.most_rounds:.2g}, with --alpha {rule.alpha:g}; --rounds times --batches must be {needed} or more"
    )


def least_rounds(rule: Rule) -> int:
    """The fewest rounds of a record, and of a run beside it: bounds of either's median take half of a look's alpha."""
    return rounds_needed(rule.alpha / rule.batches / 2)


def _most_rounds(rule: Rule, round_s: float, until: float, *, alone: bool) -> int:
    # How many rounds the clock holds is settled before the first one: what a look may spend follows from it.
    most = rule.rounds if alone else rule.most_rounds
    left_s = until - time.monotonic()
    if left_s / round_s >= most:
        return most
    held, needed = int(max(left_s, 0) / round_s), rounds_needed(rule.alpha)
    if held < needed:
        minutes = (needed * round_s - left_s) / MINUTE_S
        raise PipelineError(
            f"--minutes holds about {held} rounds of {round_s:.2g} s, and to conclude takes {needed}: "
            f"give about {np.ceil(minutes * 12) / 10:g} minutes more, or fewer --frames than {rule.frames}"
        )
    return held


def _plan(rule: Rule, most: int, *, paired: bool, alone: bool) -> list[Look]:
    if alone:
        return [Look(most, rule.frames, rule.alpha)]
    return looks(rule, most) if paired else looks_apart(rule, most)


def _tell(plan: Sequence[Look], rule: Rule, round_s: float, patience_s: float, until: float) -> None:
    first, last = plan[0].rounds, plan[-1].rounds
    earliest = f"settled after {first} at the earliest, {_duration(first * round_s)}, " if first < last else ""
    bound = "; --minutes bounds it" if until == np.inf else ""
    cli.log(
        f"rounds of {rule.frames} frames an engine, about {round_s:.2g} s each: {earliest}after {last} at the latest, "
        f"{_duration(last * round_s)}{bound}. A process that is silent for {patience_s:.0f} s ends it"
    )


def _duration(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 2 * MINUTE_S else f"about {seconds / MINUTE_S:.0f} minutes"


def _rounds(
    workers: Sequence[Worker],
    plan: Sequence[Look],
    rule: Rule,
    random: np.random.Generator,
    until: float,
    stored: Stored | None,
) -> tuple[np.ndarray, Verdict | None]:
    samples = np.empty((len(workers), 0, rule.frames))
    verdict: Verdict | None = None
    for number, planned in enumerate(plan):
        before = samples.shape[1]
        order = turns(random, planned.rounds - before, rule.frames, len(workers))
        more = take_turns([worker.frame_ms for worker in workers], order, until)
        samples = np.concatenate([samples, more], axis=1)
        look = _look(planned, samples.shape[1], plan[number - 1].rounds if number else 0, plan[-1].rounds, rule, stored)
        if look:
            verdict = _judge(samples, look, rule, stored)
        if samples.shape[1] < planned.rounds or verdict is None or verdict.outcome != "doubtful":
            break
        if planned is not plan[-1]:
            told = f"{verdict.slowdown:+.1%}, p = {verdict.p:.2g}, still in doubt"
            cli.log(f"{planned.rounds} of {plan[-1].rounds} rounds: {told}")
    if not samples.shape[1]:
        raise PipelineError("--minutes were over before the first round; give more")
    return samples, verdict


def _look(planned: Look, rounds: int, before: int, most: int, rule: Rule, stored: Stored | None) -> Look | None:
    # The planned one; or where the clock ended the rounds before, one that spends what was measured since the last.
    if rounds == planned.rounds or rounds <= before:
        return planned if rounds == planned.rounds else None
    if stored:
        return Look(rounds, rule.frames, rule.alpha * (rounds - before) / most)
    return look_at(rounds, before, rule, most)


def _judge(samples_ms: np.ndarray, look: Look, rule: Rule, stored: Stored | None) -> Verdict | None:
    if len(samples_ms) == 1 and stored is None:
        return None
    return judged(samples_ms, look, rule, stored and stored.medians_ms)
