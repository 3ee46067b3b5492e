"""What every command does alike: exit codes, one-line errors, progress on stderr."""

import argparse
import errno
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from runtime.errors import ModelError, PipelineError

T = TypeVar("T")

DONE, FAILED, USAGE = 0, 1, 2


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Call `main` with the command line and exit: 0 done, 1 an error as one line on stderr, 2 usage."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except PipelineError as error:
        code = fail(str(error))
    except KeyboardInterrupt:
        code = fail("interrupted; what was finished is kept")
    except BrokenPipeError:
        # The reader (`| head`) left: nobody is there to tell, and Python's own flush at exit would fail again.
        sys.stdout = None
        code = FAILED
    except OSError as error:
        hint = "; free some space and run it again" if error.errno == errno.ENOSPC else ""
        code = fail(f"{error.filename or 'input or output'}: {error.strerror or error}{hint}")
    sys.exit(code)


def fail(message: str) -> int:
    """Print one line on stderr; returns the exit code of an error."""
    log(f"error: {message}")
    return FAILED


def log(message: str) -> None:
    """One line on stderr, where it cannot mix with results; over a progress bar, not behind it."""
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}{message}", file=sys.stderr, flush=True)


def size_from_text(text: str) -> tuple[int, int]:
    """'1024x2048' -> (height, width); an argparse type.

    Raises:
        argparse.ArgumentTypeError: it has another form.
    """
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"size {text!r} is not HEIGHTxWIDTH, for example 1024x2048")
    return int(height), int(width)


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


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a bar, rate and time left on stderr while they are worked on; nothing for a single item."""
    start, width = time.monotonic(), 30
    shown = len(items) > 1 and sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        yield item
        if shown:
            rate = done / max(time.monotonic() - start, 1e-9)
            bar = "#" * (width * done // len(items))
            left = (len(items) - done) / rate
            print(
                f"\r{what} [{bar:<{width}}] {done}/{len(items)} {rate:.1f}/s {left:.0f} s left ",
                end="",
                file=sys.stderr,
            )
    if shown:
        print(file=sys.stderr)
