"""Looking again and again spends no more than alpha: by the arithmetic of the plan, and by simulation."""

import math

import numpy as np
import pytest

from runtime.measure.gate.looks import judged, look_at, looks, looks_apart, rounds_needed
from runtime.measure.gate.verdict import Rule
from tests.helpers import noise

RULE = Rule()
# The chance that is stated, large enough to be seen in so many runs, and how far above it chance may carry the share:
# four standard deviations of a binomial share.
ALPHA, RUNS = 0.05, 2000
MOST_SEEN = ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)


def shares_called_slower(kind, *, spend: bool = True) -> float:
    """How often equal engines are called slower at any look, where nothing but p decides."""
    rule = Rule(margin=1e-12, alpha=ALPHA, rounds=40, frames=3, batches=1)
    random = np.random.default_rng(11)
    plan = looks(rule, rule.most_rounds)
    alarms = 0
    for _ in range(RUNS):
        samples = kind(random, 2 * 40 * 3).reshape(40, 3, 2)
        samples = random.permuted(samples, axis=2).transpose(2, 0, 1)
        for look in plan:
            spent = look if spend else look._replace(alpha=ALPHA)
            verdict = judged(samples[:, : look.rounds], spent, rule)
            alarms += verdict.outcome == "slower"
            if verdict.outcome == "slower":
                break
    return alarms / RUNS


@pytest.mark.parametrize("kind", [noise.steady, noise.autocorrelated, noise.everything])
def test_false_alarms_over_all_looks_stay_under_the_stated_chance(kind):
    assert shares_called_slower(kind) <= MOST_SEEN


def test_without_spending_the_same_looks_would_raise_too_many():
    assert shares_called_slower(noise.steady, spend=False) > 2 * ALPHA


@pytest.mark.parametrize("most", [9, 12, 24, 90, 120, 997])
@pytest.mark.parametrize("frames", [1, 3, 9, 10])
def test_the_looks_spend_alpha_and_no_more_and_each_of_them_can_conclude(most, frames):
    rule = Rule(frames=frames)
    plan = looks(rule, most)
    assert plan[-1].rounds == most and sum(look.alpha for look in plan) == pytest.approx(rule.alpha)
    assert [look.rounds for look in plan] == sorted({look.rounds for look in plan})
    for look in plan:
        shorter = look.rounds * frames // look.frames
        assert frames % look.frames == 0 and 2.0**-shorter < look.alpha


def test_so_few_rounds_as_are_needed_can_conclude_and_one_fewer_cannot():
    for alpha in (0.05, 0.002, 1e-6, 2.0**-9):
        needed = rounds_needed(alpha)
        assert 2.0**-needed < alpha <= 2.0 ** -(needed - 1)


def test_rounds_that_can_say_nothing_are_no_look():
    assert look_at(8, 0, Rule(frames=1), 8) is None and looks(Rule(frames=1), 8) == []


def test_a_plan_of_one_engine_looks_after_whole_batches():
    plan = looks_apart(Rule(rounds=30, batches=3), 75)
    assert [look.rounds for look in plan] == [30, 60, 75] and {look.frames for look in plan} == {9}
    assert sum(look.alpha for look in plan) == pytest.approx(RULE.alpha)


def test_a_look_judges_shorter_rounds_where_there_are_few():
    samples = np.full((2, 2, 9), 10.0)
    samples[1] *= 2.4
    look = looks(RULE, RULE.most_rounds)[0]
    verdict = judged(samples * np.linspace(1, 1.1, 18).reshape(2, 9), look, RULE)
    assert (verdict.outcome, verdict.rounds, verdict.frames, verdict.alpha) == ("slower", 18, 1, look.alpha)
