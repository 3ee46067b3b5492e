"""The one place where what a library raises becomes an error of ours.

Libraries raise types that no list of ours has, and other ones with the next version. What they raise on a file of a
user's is told in one line; running out of memory is said as that, and never that the file is damaged.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import PipelineError

LONGEST = 300  # characters of a library's message
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


def reason(error: BaseException, line: int = 0) -> str:
    """Why a library refuses, in one line: of its message that line, or the error's name where it has no message."""
    lines = [text for text in str(error).splitlines() if text.strip()]
    return OBJECT.sub("", lines[line]).strip()[:LONGEST] if lines else type(error).__name__
