"""Progress on stderr by tqdm: bars that nest on a terminal and in a notebook; elsewhere now and then a line.

tqdm is loaded with the first bar and not before: its import costs 65 ms, and most runs never show one.
"""

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from typing import Any, TextIO, TypeVar

from runtime.texts import lines_shown

T = TypeVar("T")

REDRAWN_S = 0.1
LINE_S = 30.0  # from one line to the next, and before the first one, where stderr is a file or a pipe
LINE_FORMAT = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
UP = "\x1b[A"  # what tqdm moves the cursor with, between the bars of a nest


def progress(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """The items, with a bar, rate and time left on stderr while they are worked on; nothing for a single item.

    Args:
        items: a sequence, or what gives them one by one when each is done.
        what: the word before the bar.
        total: how many there will be, about, where `items` does not tell; unknown, there is no bar but a count.
        unit: what one of them is, for the rate: "frame" reads as 3.1frame/s.
    """
    total = len(items) if isinstance(items, Sized) else total
    if total in (0, 1) or sys.stderr is None:
        yield from items
        return
    with bar(what, total, unit) as shown:
        for item in items:
            yield item
            shown.update()


def bar(what: str, total: int | None, unit: str = "it", *, leave: bool | None = None) -> Any:
    """A tqdm bar for the stderr of here: drawn on a terminal, a widget in a notebook, a line each `LINE_S` elsewhere.

    Args:
        what: the word before the bar.
        total: how many steps it has; None for a count.
        unit: what a step is.
        leave: whether it stays when it is closed; None where no other bar is open around it.

    Returns:
        A `tqdm.tqdm`: `update`, `close`, and usable in a `with`. Safe to use from any thread.
    """
    shape = {"desc": what, "total": total, "unit": unit, "miniters": 1}
    if "ipykernel" in sys.modules:
        from tqdm.auto import tqdm as notebook_tqdm

        return notebook_tqdm(**shape, leave=leave)
    from tqdm.std import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # with miniters of 1 its thread would have nothing to do, beside a benchmark

    if sys.stderr.isatty():
        return Bar(**shape, leave=leave, mininterval=REDRAWN_S, dynamic_ncols=True, file=sys.stderr)
    lines: Any = _Lines(sys.stderr)
    return Bar(**shape, leave=False, mininterval=LINE_S, delay=LINE_S, bar_format=LINE_FORMAT, file=lines)


def say(message: str) -> None:
    """One line on stderr, above the bars that are open; what moves a cursor or holds a password is shown as text."""
    message = lines_shown(message)
    if sys.stderr is None:  # closed; `print` would take stdout
        return
    drawn = sys.modules.get("tqdm.std")
    with suppress(BrokenPipeError):  # nobody reads it any more
        if drawn:
            drawn.tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)


def tell(line: str) -> None:
    """One line on stdout, above the bars that are open where both are a terminal."""
    drawn = sys.modules.get("tqdm.std")
    if drawn and sys.stdout is not None and sys.stdout.isatty():
        drawn.tqdm.write(line, file=sys.stdout)
    else:
        print(line)


class _Lines:
    """A stream for tqdm that has no cursor: what would be drawn over becomes a line, what would clear it nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.replace(UP, "").strip()
        if line:
            print(line, file=self._stream)

    def flush(self) -> None:
        self._stream.flush()
