"""How long the last requests took, and what of that follows for who waits."""

from collections import deque
from math import inf, sqrt

KEPT, FEWEST = 128, 16
SLOW = 0.99  # of a hundred requests one takes longer
ERRORS = 2  # standard errors that the mean may be smaller than it was found, but not than half of it


class Recent:
    """Times of an engine's last requests, without their wait. Added to by one thread, asked by any."""

    def __init__(self) -> None:
        """None yet."""
        self._last_s: deque[float] = deque(maxlen=KEPT)
        self._least_mean_s, self._slow_s = inf, 0.0

    def add(self, seconds: float) -> None:
        """Keep the time of one."""
        self._last_s.append(seconds)
        count = len(self._last_s)
        if count >= FEWEST:
            ordered = sorted(self._last_s)
            mean = sum(ordered) / count
            variance = sum((each - mean) ** 2 for each in ordered) / count
            # Of a mean that one outlier makes, two errors leave less than nothing: every wait would be too long.
            self._least_mean_s = max(mean - ERRORS * sqrt(variance / count), mean / 2)
            self._slow_s = ordered[int(SLOW * count)]

    def longest_wait_s(self, places_a_lane: float) -> float:
        """After which wait a slow request is still answered within `places_a_lane` mean times; inf: not known yet.

        At least half of that: where single requests take as long as all the others, no bound of the mean holds.
        """
        bound_s = places_a_lane * self._least_mean_s
        return bound_s - min(self._slow_s, bound_s / 2)
