"""Who is let in: so many requests are in work or wait, the next one is told when to come again."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from runtime.serve.recent import Recent
from runtime.serve.replies import Refusal

SMOOTHED = 0.1  # what the newest request weighs in the mean time of one
LONGEST_S = 60


class Admission:
    """Places for requests whose body is there. For the thread of the event loop, but for `refuse_late`."""

    def __init__(
        self, lanes: int, queue: int, wait_s: float | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        """So many places in lanes and beside them; `wait_s` as `runtime.serve.limits.Limits` has it."""
        self.lanes, self.queue = lanes, queue
        self.taken = 0
        self.closed = False
        self._wait_s, self._clock = wait_s, clock
        self._mean_s, self._full = 0.0, -math.inf  # when somebody was last sent away

    @contextmanager
    def place(self) -> Iterator[float]:
        """A place until the answer is made, not until it is sent: a slow reader keeps nobody out. Gives when it came.

        Raises:
            Refusal: 503, there is none, or the server is about to end.
        """
        if self.closed:
            raise Refusal(503, "stopping", "the server is stopping", {"Retry-After": "1"})
        if self.taken >= self.lanes + self.queue:
            self._full = self._clock()
            raise Refusal(503, "queue", f"{self.taken} requests are in work or wait; come again", self._again())
        self.taken += 1
        came = self._clock()
        try:
            yield came
        finally:
            self.taken -= 1
            self._mean_s += SMOOTHED * (self._clock() - came - self._mean_s)

    def refuse_late(self, came: float, lanes: int, recent: Recent) -> None:
        """Called when a lane is free for it: a mask of a moment that is long gone is worth nothing, and others wait.

        Args:
            came: as `place` gave it.
            lanes: of its engine.
            recent: of its engine.

        Raises:
            Refusal: 503, it waited too long.
        """
        waited = self._clock() - came
        if self._wait_s is None:
            # Where all were let in that came since, there was no more to do than the places are for.
            late = self._full > came and waited > recent.longest_wait_s((self.queue + lanes) / lanes)
        else:
            late = 0 < self._wait_s < waited
        if late:
            raise Refusal(503, "late", f"this waited for {waited:.2f} s (--wait-seconds); come again", self._again())

    def _again(self) -> dict[str, str]:
        # Who waits now is through after about one mean time in here.
        return {"Retry-After": str(min(LONGEST_S, max(1, math.ceil(self._mean_s))))}
