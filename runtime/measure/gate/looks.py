"""When the gate looks at what it has measured so far, and how much of its chance of a false alarm each look may spend.

Who looks again and again, and stops at the first p below alpha, raises far more false alarms than alpha. So alpha is
spent: a look after n of N rounds, m after the one before, takes the share m / N of it, the linear spending function of
Lan and DeMets 1983, Biometrika 70(3). Each look's test is exact at its own share, and by Boole's inequality all of
them together raise a false alarm with a chance of at most alpha, whatever the looks have in common. The same holds for
the chance to let pass what is slower by twice the margin or more.

When to look follows from N alone, or from a clock (`--minutes`), which knows how long both sides took together and not
which of them was slower: with equal engines that says nothing of the signs that the tests count.

At an early look there are few rounds. It judges shorter ones: 2 rounds of 9 frames are 18 of one frame, each as fair a
coin as the rounds are, since the order within every frame is drawn by chance.
"""

import math
from typing import NamedTuple

import numpy as np

from runtime.measure.gate.verdict import Rule, Verdict, judge_apart, judge_pairs

STEP = 1.5  # each look has so many times the rounds of the one before
FEWEST = 2  # rounds before the first look


class Look(NamedTuple):
    """A look after so many rounds, which are judged as more and shorter rounds of `frames` frames each."""

    rounds: int
    frames: int
    alpha: float


def rounds_needed(alpha: float) -> int:
    """The fewest rounds that can ever conclude: with n of them no p is below 2^-n."""
    return math.floor(-math.log2(alpha)) + 1


def look_at(rounds: int, before: int, rule: Rule, most: int) -> Look | None:
    """The look after `rounds` of `most` rounds, `before` of them looked at already; None where it can say nothing."""
    alpha = rule.alpha * (rounds - before) / most
    for frames in range(rule.frames, 0, -1):
        if rule.frames % frames == 0 and rounds * rule.frames // frames >= rounds_needed(alpha):
            return Look(rounds, frames, alpha)
    return None


def looks(rule: Rule, most: int) -> list[Look]:
    """All looks at a pair, the last after `most` rounds; none where so few can never conclude."""
    wanted = {most}
    while (earlier := math.ceil(min(wanted) / STEP)) >= FEWEST and earlier < min(wanted):
        wanted.add(earlier)
    found: list[Look] = []
    for rounds in sorted(wanted):
        look = look_at(rounds, found[-1].rounds if found else 0, rule, most)
        if look:
            found.append(look)
    return found


def looks_apart(rule: Rule, most: int) -> list[Look]:
    """All looks at one engine beside a recorded one: after each batch, by whole rounds.

    Two runs at two times share no noise: a few frames of one moment would tell of that moment.
    """
    wanted = sorted({*range(rule.rounds, most, rule.rounds), most})
    befores = [0, *wanted]
    return [Look(rounds, rule.frames, rule.alpha * (rounds - befores[i]) / most) for i, rounds in enumerate(wanted)]


def judged(samples_ms: np.ndarray, look: Look, rule: Rule, stored_ms: np.ndarray | None = None) -> Verdict:
    """The verdict of a look.

    Args:
        samples_ms: float (engines, look.rounds, rule.frames).
        look: at which.
        rule: of the gate.
        stored_ms: float (rounds,), the medians of a recorded base; None where the base is the first engine.
    """
    medians = np.median(samples_ms.reshape(len(samples_ms), -1, look.frames), axis=2)
    spent = rule._replace(alpha=look.alpha)
    if stored_ms is None:
        return judge_pairs(medians[0], medians[1], spent)._replace(frames=look.frames)
    return judge_apart(stored_ms, medians[-1], spent)._replace(frames=look.frames)
