"""The one place where what a library raises becomes an error of ours, and where signals wait for one.

Libraries raise types that no list of ours has, and other ones with the next version. What they raise on a file of a
user's is told in one line; running out of memory is said as that, and never that the file is damaged.
"""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from runtime.errors import PipelineError

LONGEST = 300  # characters of a library's message
ENDS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))  # not on every system
OBJECT = re.compile(r" ?<[\w.]+ object at 0x[0-9a-f]+>")  # says nothing to a user, and another thing every time


@contextmanager
def refusing(kind: type[PipelineError], what: str, hint: str = "", *, line: int = 0) -> Iterator[None]:
    """Calls of a library alone stand within: whatever they raise is told as `what (its reason)`, then the hint.

    Our own errors, MemoryError, Ctrl-C and what ends the program pass.

    Args:
        kind: of the error that is raised instead.
        what: the beginning of its message, for example "onnxruntime refuses the engine".
        hint: what to do, behind the reason.
        line: which line of the library's message has the reason: 0 the first, -1 the last.

    Raises:
        PipelineError: of that kind.
    """
    try:
        yield
    except (PipelineError, MemoryError):
        raise
    except Exception as error:
        raise kind(f"{what} ({reason(error, line)}){hint}") from error


@contextmanager
def signals_held() -> Iterator[threading.Event]:
    """Ctrl-C, SIGTERM and SIGHUP wait until the end of it, where their handlers are called: set once one came.

    For a library that calls Python back, as TensorRT does to log: an exception of a handler that runs there is lost,
    and the signal with it. Handlers run in the main thread alone; in another one nothing is held.

    Yields:
        what such a callback looks at to end the call early.
    """
    came: list[int] = []
    asked = threading.Event()

    def hold(number: int, _: FrameType | None) -> None:
        came.append(number)
        asked.set()

    ours = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in ENDS} if ours else {}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in held:
        signal.signal(number, hold)
    try:
        yield asked
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            held[number](number, None)


def reason(error: BaseException, line: int = 0) -> str:
    """Why a library refuses, in one line: of its message that line, or the error's name where it has no message."""
    lines = [text for text in str(error).splitlines() if text.strip()]
    return OBJECT.sub("", lines[line]).strip()[:LONGEST] if lines else type(error).__name__
