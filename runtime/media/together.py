"""Several cameras in one run: a thread each, one error that ends all of them."""

import threading
from collections.abc import Callable, Sequence

LOOK_S = 0.2


def together(jobs: Sequence[Callable[[], None]], stop: threading.Event) -> None:
    """Do all jobs at the same time, each in a thread of its own; a single one in this thread.

    Args:
        jobs: each ends soon after `stop` is set.
        stop: set here, too, when a job fails: the others finish what they have.

    Raises:
        BaseException: the first that a job raised, when all of them have ended.
    """
    if len(jobs) == 1:
        jobs[0]()
        return
    failures: list[BaseException] = []

    def work(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=work, args=(job,), name=f"camera {i + 1}") for i, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # a wait without end would let no signal through
            thread.join(LOOK_S)
    if failures:
        raise failures[0]
