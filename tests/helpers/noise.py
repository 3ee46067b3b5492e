"""What machines do to measured times, as factors on the true one: each is float (n,), in the order of measuring."""

import numpy as np


def steady(random: np.random.Generator, count: int) -> np.ndarray:
    """A quiet machine: never faster than the work takes, a few percent slower."""
    return 1 + 0.02 * np.abs(random.standard_normal(count))


def drift(random: np.random.Generator, count: int) -> np.ndarray:
    """It warms up and somebody's load comes and goes: up to twice as slow, slowly."""
    time = np.linspace(0, 1, count)
    return steady(random, count) * (1.3 + 0.4 * time + 0.3 * np.sin(2 * np.pi * (3 * time + random.random())))


def bursts(random: np.random.Generator, count: int) -> np.ndarray:
    """Something else runs for 5 to 40 frames, once in 60 on average."""
    factors = steady(random, count)
    for start in random.integers(0, count, random.poisson(count / 60)):
        factors[start : start + random.integers(5, 40)] *= random.uniform(1.3, 3)
    return factors


def heavy_tails(random: np.random.Generator, count: int) -> np.ndarray:
    """Single frames that take many times as long; their mean does not settle."""
    return 1 + 0.05 * np.minimum(np.abs(random.standard_t(1.5, count)), 100)


def autocorrelated(random: np.random.Generator, count: int) -> np.ndarray:
    """Each frame is about as slow as the one before; the level wanders by 15 %."""
    steps = 0.03 * random.standard_normal(count)
    level = 0.0
    levels = [level := 0.98 * level + step for step in steps]
    return np.exp(levels)


def two_speeds(random: np.random.Generator, count: int) -> np.ndarray:
    """A busy core: a third of the frames lose a time slice and take half as long again."""
    return steady(random, count) * np.where(random.random(count) < 1 / 3, 1.5, 1.0)


def everything(random: np.random.Generator, count: int) -> np.ndarray:
    """All of these at once."""
    kinds = (drift, bursts, heavy_tails, autocorrelated, two_speeds)
    return np.prod([kind(random, count) for kind in kinds], axis=0)


NOISES = (steady, drift, bursts, heavy_tails, autocorrelated, two_speeds, everything)
