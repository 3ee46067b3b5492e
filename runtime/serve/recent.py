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
        self._beside_s: deque[float] = deque(maxlen=KEPT)
        self._least_mean_s, self._slow_s = inf, 0.0

    def add(self, seconds: float, beside: float = 0.0) -> None:
        """Keep the time of one.

        Args:
            seconds: without its wait.
            beside: what it waited for the event loop when it was done, which it has before, too: of a server that
                refuses hundreds of others a second.
        """
        self._last_s.append(seconds)
        self._beside_s.append(seconds + 2 * beside)
        count = len(self._last_s)
        if count >= FEWEST:
            mean = sum(self._last_s) / count
            variance = sum((each - mean) ** 2 for each in self._last_s) / count
            # Of a mean that one outlier makes, two errors leave less than nothing: every wait would be too long.
            self._least_mean_s = max(mean - ERRORS * sqrt(variance / count), mean / 2)
            self._slow_s = sorted(self._beside_s)[int(SLOW * count)]

    def longest_wait_s(self, places_a_lane: float) -> float:
        """After which wait a slow request is still answered within `places_a_lane` mean times; inf: not known yet.

        At least half of that: where single requests take as long as all the others, no bound of the mean holds.
        """
        bound_s = places_a_lane * self._least_mean_s
        return bound_s - min(self._slow_s, bound_s / 2)
