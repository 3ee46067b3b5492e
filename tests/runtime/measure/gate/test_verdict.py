"""The gate's rule is a statistical test, and is tested as one: on what machines do to times, and by enumeration."""

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from runtime.measure.gate.looks import judged, looks, looks_apart
from runtime.measure.gate.verdict import (
    Rule,
    judge_apart,
    judge_pairs,
    median_bounds,
    rank_sum_p,
    signed_rank_p,
)
from runtime.measure.rounds import by_path, turns
from tests.helpers import noise
from tests.helpers.noise import NOISES

RULE = Rule()
TRIALS = 300
FEW_ROUNDS = 4  # of 120
MOST_FALSE_ALARMS = 0.01
MOST_ALARMS_BELOW = 0.05  # 2 % are slower in truth, and the worst noise adds the rest up to the margin
LEAST_CAUGHT = 0.95
LEAST_PASSED = 0.9  # a gate that is always in doubt would raise no false alarm either
EXACT = 1e-12  # sums of up to 2^16 float64 chances

Noise = Callable[[np.random.Generator, int], np.ndarray]


def simulated(kind: Noise, slowdown: float, rule: Rule = RULE, trials: int = TRIALS) -> tuple[Counter[str], list[int]]:
    """Outcomes of the gate as `runtime.regress` runs it, and after how many rounds, on simulated times."""
    random = np.random.default_rng(7)
    outcomes: Counter[str] = Counter()
    rounds = []
    plan = looks(rule, rule.most_rounds)
    for _ in range(trials):
        order = turns(random, rule.most_rounds, rule.frames, 2)
        times = kind(random, order.size).reshape(order.shape) * (1 + slowdown * order)
        samples = by_path(times, order, 2)
        for look in plan:
            verdict = judged(samples[:, : look.rounds], look, rule)
            if verdict.outcome != "doubtful":
                break
        outcomes[verdict.outcome] += 1
        rounds.append(look.rounds)
    return outcomes, rounds


@pytest.mark.parametrize("kind", NOISES)
def test_equal_engines_are_called_slower_in_under_one_of_a_hundred_runs(kind):
    outcomes, _ = simulated(kind, 0.0)
    assert outcomes["slower"] < MOST_FALSE_ALARMS * TRIALS
    assert outcomes["pass"] > LEAST_PASSED * TRIALS


@pytest.mark.parametrize("kind", NOISES)
def test_a_slowdown_of_ten_percent_is_caught_in_over_95_of_a_hundred_runs(kind):
    assert simulated(kind, 0.10)[0]["slower"] > LEAST_CAUGHT * TRIALS


@pytest.mark.parametrize("kind", NOISES)
def test_a_slowdown_below_the_margin_is_seldom_an_alarm(kind):
    assert simulated(kind, 0.02)[0]["slower"] < MOST_ALARMS_BELOW * TRIALS


@pytest.mark.parametrize("kind", NOISES)
def test_a_build_that_takes_2_4_times_as_long_is_settled_in_few_rounds(kind):
    outcomes, rounds = simulated(kind, 1.4)
    assert outcomes == {"slower": TRIALS} and max(rounds) <= FEW_ROUNDS


def test_without_pairs_equal_engines_never_pass_on_a_machine_that_drifts():
    random = np.random.default_rng(7)
    for _ in range(20):
        stored, times = noise.drift(random, 2 * 30 * 9).reshape(2, 1, 30, 9)
        for look in looks_apart(RULE, RULE.rounds):
            assert judged(times, look, RULE, np.median(stored[0], axis=1)).outcome != "pass"


def test_a_faster_candidate_passes():
    assert simulated(noise.bursts, -0.3)[0] == {"pass": TRIALS}


def test_a_base_of_too_few_rounds_bounds_nothing():
    base = np.array([10.0, 10.1])
    verdict = judge_apart(base, np.full(30, 10.0), RULE)
    assert verdict.outcome == "doubtful" and verdict.slowdown_most == math.inf


def test_too_few_rounds_are_doubtful_however_slow_the_candidate():
    base = np.linspace(10, 11, 8)
    verdict = judge_pairs(base, base * 1.5, RULE)
    assert verdict.outcome == "doubtful" and verdict.p == 1 / 2**8
    assert judge_pairs(base, base, RULE).outcome == "doubtful"


def test_noise_that_would_hide_twice_the_margin_is_no_pass():
    random = np.random.default_rng(0)
    base, candidate = np.exp(random.normal(0, 0.4, (2, 20)))
    verdict = judge_pairs(base, candidate, RULE)
    assert verdict.outcome == "doubtful" and verdict.slowdown_most > 2 * RULE.margin


def test_the_verdict_says_how_much_slower():
    base = np.linspace(10, 11, 20)
    verdict = judge_pairs(base, base * np.linspace(1.19, 1.21, 20), RULE)
    assert verdict.outcome == "slower" and verdict.rounds == 20
    assert verdict.slowdown == pytest.approx(0.20, abs=0.001)
    assert 0.20 < verdict.slowdown_most <= 0.21


def test_two_runs_at_two_times_are_compared_by_their_medians():
    random = np.random.default_rng(1)
    base, other = 10 + 0.1 * random.random((2, 20))
    assert judge_apart(base, other, RULE).outcome == "pass"
    slower = judge_apart(base, other * 1.1, RULE)
    assert slower.outcome == "slower" and slower.slowdown == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    "differences", [[1.0, -2.0, 3.0, 4.0, -5.0], [1.0, 1.0, -1.0, 2.0, 2.0, 3.0], [-1.0, -2.0], [0.0, 1.0, -2.0, 0.0]]
)
def test_the_signed_rank_test_counts_every_choice_of_signs(differences):
    values = np.array([value for value in differences if value])
    ranks = [np.mean([i + 1 for i, other in enumerate(sorted(abs(values))) if other == abs(v)]) for v in values]
    found = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product([0, 1], repeat=len(ranks))
    ]
    assert signed_rank_p(np.array(differences)) == pytest.approx(np.mean([s >= found for s in sums]), abs=EXACT)


def test_the_signed_rank_test_has_the_published_critical_value():
    # Wilcoxon's table: for n = 20, one-sided 0.005, the smaller sum is at most 37.
    def p_of_smaller_sum(smaller: int) -> float:
        magnitudes = np.arange(1, 21)
        signs = np.ones(20)
        for rank in range(20, 0, -1):
            if rank <= smaller:
                signs[rank - 1], smaller = -1, smaller - rank
        return signed_rank_p(magnitudes * signs)

    assert p_of_smaller_sum(37) <= 0.005 < p_of_smaller_sum(38)


@pytest.mark.parametrize(
    ("base", "candidate"), [([1, 2, 3], [4, 5, 6, 7]), ([1, 5, 3], [2, 2, 6]), ([1, 1, 1], [1, 1]), ([9, 8], [1, 2, 3])]
)
def test_the_rank_sum_test_counts_every_way_to_draw_the_candidate(base, candidate):
    pooled = np.array(base + candidate, float)
    ranks = np.array([np.mean([i + 1 for i, other in enumerate(sorted(pooled)) if other == v]) for v in pooled])
    sums = [ranks[list(drawn)].sum() for drawn in itertools.combinations(range(len(pooled)), len(candidate))]
    expected = np.mean([s >= ranks[len(base) :].sum() - EXACT for s in sums])
    assert rank_sum_p(np.array(base), np.array(candidate)) == pytest.approx(expected, abs=EXACT)


def test_the_rank_sum_test_is_exact_for_as_many_rounds_as_are_measured():
    values = np.arange(120.0)
    assert rank_sum_p(values[:60], values[60:]) == pytest.approx(1 / math.comb(120, 60), rel=1e-9)
    assert rank_sum_p(values[60:], values[:60]) == pytest.approx(1.0, abs=1e-9)


def test_bounds_of_a_median_hold_as_often_as_they_say():
    random = np.random.default_rng(2)
    above = [median_bounds(random.standard_cauchy(20), 0.05)[1] < 0 for _ in range(4000)]
    assert 0.01 < np.mean(above) <= 0.05  # the sign test has steps: 20 values give 0.021
    assert median_bounds(np.arange(3.0), 0.05) == (-math.inf, math.inf)
