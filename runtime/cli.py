"""What every command does alike: exit codes, one-line errors, progress on stderr."""

import argparse
import atexit
import errno
import gc
import io
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from runtime.bars import progress as progress
from runtime.bars import say
from runtime.commands import missing
from runtime.errors import ModelError, PipelineError
from runtime.json_values import TOLD
from runtime.texts import lines_shown, shown
from runtime.threads import MOST

T = TypeVar("T")

DONE, FAILED, USAGE = 0, 1, 2
MOST_COUNTED = 1_000_000  # frames, rounds, epochs: more is a slip of the keyboard
MOST_SEED = 2**32 - 1
LONGEST_LINE = 4000  # characters: names from a file may be of any length
NO_MEMORY = re.compile(r"not enough memory|can.t allocate memory|out of memory|bad allocation|std::bad_alloc", re.I)
MOST_OF_A_REASON = 200  # characters
INTERRUPTED = 130  # what a shell expects of Ctrl-C: it ends a script's loop


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Call `main` with the command line and exit: 0 done, 1 an error as one line on stderr, 2 usage, 130 Ctrl-C."""
    _hold_streams()
    # The interpreter's last look for cycles takes 0.3 s after numba and OpenVINO: what is frozen it passes over.
    atexit.register(gc.freeze)
    try:
        code = main(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except PipelineError as error:
        code = fail(str(error))
    except ModuleNotFoundError as error:
        explained = missing(error)
        if explained is None:
            raise
        code = fail(str(explained))
    except KeyboardInterrupt:
        fail("interrupted; what was finished is kept")
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) left: nobody is there to tell.
        code = FAILED
        _forget_stdout()
    except MemoryError as error:
        what = f" ({shown(str(error))[:MOST_OF_A_REASON]})" if str(error) else ""
        code = fail(f"there is not enough memory{what}: free some, or take a smaller input")
    except RuntimeError as error:
        if not NO_MEMORY.search(str(error)):  # torch and OpenVINO have no type for it
            raise
        code = fail("there is not enough memory: free some, or take a smaller input or batch")
    except OSError as error:
        hint = "; free some space and run it again" if error.errno == errno.ENOSPC else ""
        code = fail(f"{error.filename or 'input or output'}: {error.strerror or error}{hint}")
        _forget_stdout()
    sys.exit(code)


def show(*texts: object) -> None:
    """Print results on stdout, each on lines of its own; what would move a terminal's cursor is shown as text."""
    for text in texts:
        print(shown(text) if isinstance(text, Path) else lines_shown(str(text)))


def fail(message: str) -> int:
    """Print one line on stderr; returns the exit code of an error."""
    text = shown(message)
    log(f"error: {text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + '...'}")
    return FAILED


def log(message: str) -> None:
    """One line on stderr, where it cannot mix with results; above the progress bars, not behind them."""
    say(shown(message))


def size_from_text(text: str) -> tuple[int, int]:
    """'1024x2048' -> (height, width); an argparse type.

    Raises:
        argparse.ArgumentTypeError: it has another form.
    """
    from runtime.spec import MOST_SIDE  # not above: it loads NumPy, which no --help should wait for

    height, _, width = text.lower().partition("x")
    if not all(side.isascii() and side.isdecimal() and side.strip("0") for side in (height, width)):
        raise argparse.ArgumentTypeError(f"size {text[:TOLD]!r} is not HEIGHTxWIDTH, for example 1024x2048")
    if max(len(height), len(width)) > len(str(MOST_SIDE)) or max(int(height), int(width)) > MOST_SIDE:
        raise argparse.ArgumentTypeError(f"size {text[:TOLD]!r} has a side of more than {MOST_SIDE} pixels")
    if int(height) > int(width):
        log(f"size {text} is {int(height)} high and {int(width)} wide; for a landscape network give {width}x{height}")
    return int(height), int(width)


def batch_from_text(text: str) -> tuple[int, int]:
    """'4' -> (4, 4), '1-8' -> (1, 8): the fewest and the most frames in one input; an argparse type.

    Raises:
        argparse.ArgumentTypeError: it has another form, or begins with more than one frame.
    """
    first, dash, last = text.partition("-")
    if not dash:
        return (count := _whole_from_text(text, 1, MOST_COUNTED, "a batch")), count
    if first != "1":
        raise argparse.ArgumentTypeError(f"batch {text[:TOLD]!r}: a range begins with 1, as 1-8 does")
    return 1, _whole_from_text(last, 1, MOST_COUNTED, "a batch")


def count_from_text(text: str) -> int:
    """'20' -> 20; an argparse type.

    Raises:
        argparse.ArgumentTypeError: it is no whole number of 1 or more.
    """
    return _whole_from_text(text, 1, MOST_COUNTED, "a count")


def amount_from_text(text: str) -> int:
    """'0' -> 0; an argparse type, of what may be none.

    Raises:
        argparse.ArgumentTypeError: it is no whole number of 0 to `MOST_COUNTED`.
    """
    return _whole_from_text(text, 0, MOST_COUNTED, "a count")


def byte_from_text(text: str) -> int:
    """'85' -> 85; an argparse type, of a confidence.

    Raises:
        argparse.ArgumentTypeError: it is no whole number of 0 to 255.
    """
    return _whole_from_text(text, 0, 255, "a confidence")


def lanes_from_text(text: str) -> int:
    """'2' -> 2; an argparse type, of frames in an engine at once.

    Raises:
        argparse.ArgumentTypeError: it is no whole number of 1 to `runtime.lanes.MOST_LANES`.
    """
    from runtime.lanes import MOST_LANES  # not above: see `size_from_text`

    return _whole_from_text(text, 1, MOST_LANES, "a number of lanes")


def seed_from_text(text: str) -> int:
    """'7' -> 7; an argparse type.

    Raises:
        argparse.ArgumentTypeError: it is no whole number of 0 to `MOST_SEED`: what all generators take.
    """
    return _whole_from_text(text, 0, MOST_SEED, "a seed")


def _whole_from_text(text: str, least: int, most: int, what: str) -> int:
    short = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not (short and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text[:TOLD]!r} is not {what}, {least} to {most}")
    return int(text)


def threads_from_text(text: str) -> int:
    """'4' -> 4; an argparse type, for `--threads`.

    Raises:
        argparse.ArgumentTypeError: it is no whole number from 1 to `runtime.threads.MOST`.
    """
    if not (text.isdecimal() and len(text) <= len(str(MOST)) and 1 <= int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number of threads, 1 to {MOST}")
    return int(text)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The option `--threads`, whose value `runtime.threads.for_command` takes."""
    parser.add_argument(
        "--threads", type=threads_from_text, metavar="N",
        help="of the CPU, at most (default: what affinity and cgroup quota grant)",
    )  # fmt: skip


def number_from_text(text: str) -> float:
    """'0.5' -> 0.5; an argparse type, for bounds: nothing exceeds NaN.

    Raises:
        argparse.ArgumentTypeError: it is no number, or no finite one.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def closest(name: str, names: Iterable[str], what: str) -> ModelError:
    """The error for an unknown name: the one that was probably meant, and all there are."""
    import difflib

    known = sorted(names)
    near = difflib.get_close_matches(name, known, 1)
    guess = f" Did you mean {near[0]}?" if near else ""
    return ModelError(f"unknown {what} {name!r}.{guess} There are: {', '.join(known)}")


def one_of(name: str, names: Sequence[T], what: str) -> T:
    """The one of `names` that is written so.

    Raises:
        ModelError: there is none; it names the closest.
    """
    if name not in names:
        raise closest(name, map(str, names), what)
    return names[names.index(name)]


def _hold_streams() -> None:
    # Of a stream that is closed, the next file that is opened would get the number, and what a library prints.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks ends nothing
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    # What is still in its buffer cannot be written: Python's own flush at exit would fail again.
    sys.stdout = None


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Set on the first Ctrl-C (or SIGTERM), so that what is on its way can be finished; a second one ends all."""
    stop = threading.Event()

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
