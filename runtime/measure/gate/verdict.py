"""Is the candidate slower? A rule over rounds of interleaved measurements that noise alone does not trip.

A round gives one figure a side, the median of its frames. Within a round the sides take turns in an order drawn by
chance, so whatever the machine does meets both: the sign of each round's difference is a fair coin if the sides are
equal, under drift, bursts and heavy tails alike. Hence Wilcoxon's signed-rank test on the rounds' log ratios, whose
false alarms are bounded by its p-value. Two runs at two times share no noise and cannot be paired: there the rounds are
compared by the Mann-Whitney test, which knows nothing of what changed on the machine in between.

Both are exact, ties and all, in a few lines of NumPy; SciPy's would add 100 MB to a runtime for two sums.
"""

import functools
import math
from typing import Literal, NamedTuple

import numpy as np

Outcome = Literal["pass", "slower", "doubtful"]


class Rule(NamedTuple):
    """When a candidate counts as slower.

    `margin` is the slowdown that is let pass, a share; `alpha` the chance of a false alarm that is taken, over all the
    looks at what was measured so far (see `looks.py`). `rounds` of `frames` a side are a batch; there are at most
    `batches`.
    """

    margin: float = 0.05
    alpha: float = 0.002
    rounds: int = 30
    frames: int = 9
    batches: int = 4

    @property
    def most_rounds(self) -> int:
        """The rounds of all batches."""
        return self.rounds * self.batches


class Verdict(NamedTuple):
    """What a rule says of some rounds.

    `slowdown` is candidate over base less 1: the median of the rounds' own, or of the two medians where the rounds are
    no pairs. It lies below `slowdown_most` but for a chance of `alpha` or less. `p` is that of rounds like these, or
    worse ones, if the two were equal; `alpha` what it had to stay below. A round had `frames` a side.
    """

    outcome: Outcome
    slowdown: float
    slowdown_most: float
    p: float
    rounds: int
    alpha: float = Rule().alpha
    frames: int = 1


def judge_pairs(base_ms: np.ndarray, candidate_ms: np.ndarray, rule: Rule) -> Verdict:
    """The verdict over rounds in which both were measured, taking turns.

    Args:
        base_ms, candidate_ms: float (rounds,), each side's median of each round.
    """
    ratios = np.log(np.asarray(candidate_ms) / np.asarray(base_ms))
    most = math.expm1(median_bounds(ratios, rule.alpha)[1])
    return _verdict(math.expm1(float(np.median(ratios))), most, signed_rank_p(ratios), len(ratios), rule)


def judge_apart(base_ms: np.ndarray, candidate_ms: np.ndarray, rule: Rule) -> Verdict:
    """The verdict over the rounds of two runs at two times; float (rounds,) each."""
    slowdown = float(np.median(candidate_ms) / np.median(base_ms)) - 1
    least = median_bounds(base_ms, rule.alpha / 2)[0]  # minus infinity where too few rounds say nothing
    most = median_bounds(candidate_ms, rule.alpha / 2)[1] / least - 1 if least > 0 else math.inf
    return _verdict(slowdown, most, rank_sum_p(base_ms, candidate_ms), len(candidate_ms), rule)


def _verdict(slowdown: float, most: float, p: float, rounds: int, rule: Rule) -> Verdict:
    # A pass wants evidence too: few or noisy rounds that would hide twice the margin prove nothing.
    outcome: Outcome = "doubtful"
    if slowdown > rule.margin and p < rule.alpha:
        outcome = "slower"
    elif slowdown <= rule.margin and most < 2 * rule.margin:
        outcome = "pass"
    return Verdict(outcome, slowdown, most, p, rounds, rule.alpha)


def signed_rank_p(differences: np.ndarray) -> float:
    """Exact one-sided p of the signed-rank test: how likely so large positive differences are from fair signs.

    Args:
        differences: float (n,); zeros say nothing and are left out.

    Source: Wilcoxon 1945, Biometrics Bulletin 1(6); tied magnitudes share their mean rank.
    """
    differences = np.asarray(differences)[np.asarray(differences) != 0]
    ranks = doubled_ranks(np.abs(differences))
    tail = _signed_rank_tail(tuple(sorted(ranks.tolist())))
    return float(tail[ranks[differences > 0].sum()])


def rank_sum_p(base: np.ndarray, candidate: np.ndarray) -> float:
    """Exact one-sided p of the Mann-Whitney test: how likely the candidate's ranks sum so high by chance.

    Args:
        base, candidate: float (m,) and (n,).

    Source: Mann and Whitney 1947, Annals of Mathematical Statistics 18(1); ties share their mean rank.
    """
    ranks = doubled_ranks(np.concatenate([base, candidate]))
    tail = _rank_sum_tail(tuple(sorted(ranks.tolist())), len(candidate))
    return float(tail[ranks[len(base) :].sum()])


def doubled_ranks(values: np.ndarray) -> np.ndarray:
    """Twice the rank of each value, 2 for the smallest; whole numbers although ties share their mean rank."""
    ordered = np.sort(values)
    return np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1


def median_bounds(values: np.ndarray, alpha: float) -> tuple[float, float]:
    """Two of the values; the median of what they are drawn from is below the first, or above the second, by a chance
    of at most `alpha` each. Infinite where there are too few values to say.

    Source: the sign test, inverted; no distribution is assumed.
    """
    count = len(values)
    below, taken = 0.0, -1
    for k in range(count):
        below += math.comb(count, k) / 2**count
        if below > alpha:
            break
        taken = k
    ordered = np.sort(values)
    return (float(ordered[taken]), float(ordered[count - 1 - taken])) if taken >= 0 else (-math.inf, math.inf)


@functools.lru_cache(maxsize=64)
def _signed_rank_tail(ranks: tuple[int, ...]) -> np.ndarray:
    # [s]: the chance that ranks of fair signs sum to s or more on the positive side
    chances = np.zeros(sum(ranks) + 1)
    chances[0] = 1
    for rank in ranks:
        with_rank = np.roll(chances, rank)  # nothing wraps: the last `rank` entries are still zero
        chances = (chances + with_rank) / 2
    return np.cumsum(chances[::-1])[::-1]


@functools.lru_cache(maxsize=64)
def _rank_sum_tail(ranks: tuple[int, ...], drawn: int) -> np.ndarray:
    # [s]: the chance that `drawn` of the ranks, any as likely, sum to s or more
    ways = np.zeros((drawn + 1, sum(ranks) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:] += np.roll(ways[:-1], rank, axis=1)
    return np.cumsum(ways[drawn, ::-1])[::-1] / math.comb(len(ranks), drawn)
