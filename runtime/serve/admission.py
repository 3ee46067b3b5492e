"""Who is let in: so many requests are in work or wait, the next one is told when to come again."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from runtime.serve.replies import Refusal

SMOOTHED = 0.1  # what the newest request weighs in the mean time of one
LONGEST_S = 60


class Admission:
    """Places for requests whose body is there. For the thread of the event loop alone."""

    def __init__(self, lanes: int, queue: int) -> None:
        """So many places in lanes and beside them."""
        self.lanes, self.queue = lanes, queue
        self.taken = 0
        self.closed = False
        self._mean_s = 0.0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place until the answer is made, not until it is sent: a slow reader keeps nobody out.

        Raises:
            Refusal: 503, there is none, or the server is about to end.
        """
        if self.closed:
            raise Refusal(503, "stopping", "the server is stopping", {"Retry-After": "1"})
        if self.taken >= self.lanes + self.queue:
            raise Refusal(503, "queue", f"{self.taken} requests are in work or wait; come again", self._again())
        self.taken += 1
        start = perf_counter()
        try:
            yield
        finally:
            self.taken -= 1
            self._mean_s += SMOOTHED * (perf_counter() - start - self._mean_s)

    def _again(self) -> dict[str, str]:
        # Who waits now is through after about one mean time in here.
        return {"Retry-After": str(min(LONGEST_S, max(1, math.ceil(self._mean_s))))}
