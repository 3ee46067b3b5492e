"""The one place where what a library raises becomes an error of ours, and the one that holds signals off it.

Libraries raise types that no list of ours has, and other ones with the next version. What they raise on a file of a
user's is told in one line; running out of memory is said as that, and never that the file is damaged.
"""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from runtime.errors import PipelineError

LONGEST = 300  # characters of a library's message
ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
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
    """Ctrl-C, SIGTERM and SIGHUP wait until the end of it: then their handlers are called, as often as they came.

    For a library that calls Python back, as TensorRT does to log: an exception of a handler that runs there is lost,
    and the signal with it. Handlers run in the main thread alone; in another one nothing waits.

    Yields:
        an event that is set once one came, for a callback of the library that can end its work early.
    """
    came: list[int] = []
    asked = threading.Event()
    handlers: dict[int, Any] = {}
    holding = True

    def hold(number: int, frame: FrameType | None) -> None:
        if not holding:  # left behind where a handler raised while others were put back
            handlers[number](number, frame)
            return
        came.append(number)
        asked.set()

    try:
        for number in ENDS if threading.current_thread() is threading.main_thread() else ():
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                with suppress(ValueError):  # where the main thread is not the interpreter's
                    signal.signal(number, hold)
        yield asked
    finally:
        holding = False
        with ExitStack() as ends:  # all of them, although one raises
            for number in reversed(came):
                ends.callback(_handle, number)
            for number, handler in handlers.items():
                ends.callback(_put_back, number, handler, hold)


def _put_back(number: int, handler: Any, hold: Any) -> None:
    if signal.getsignal(number) is hold:
        signal.signal(number, handler)


def _handle(number: int) -> None:
    handler = signal.getsignal(number)  # which may be another after the first
    if callable(handler):
        handler(number, None)


def reason(error: BaseException, line: int = 0) -> str:
    """Why a library refuses, in one line: of its message that line, or the error's name where it has no message."""
    lines = [text for text in str(error).splitlines() if text.strip()]
    return OBJECT.sub("", lines[line]).strip()[:LONGEST] if lines else type(error).__name__
