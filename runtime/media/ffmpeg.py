"""FFmpeg through PyAV: the library, its names for files, and what it raises as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.commands import install
from runtime.errors import LibraryError, PipelineError
from runtime.libraries import refusing

NO_MEMORY = "FFmpeg has not enough memory for what it announces"


def library() -> Any:
    """PyAV.

    Raises:
        LibraryError: it is not installed.
    """
    try:
        import av
        import av.filter
    except ImportError as error:
        raise LibraryError(f"videos need PyAV, which does not load ({error}): {install('video')}") from None
    return av


def file_name(path: Path) -> str:
    """The file as FFmpeg takes it: what is before a colon in its name is no protocol (`12:30:15.mp4`)."""
    return f"file:{path}"


@contextmanager
def refusing_video(kind: type[PipelineError], what: str, hint: str = "") -> Iterator[None]:
    """Whatever PyAV raises within is told as `what (its reason)` and the hint; see `runtime.libraries.refusing`.

    FFmpeg's want of memory is of this one file, which announces more than there is: others go on.

    Raises:
        PipelineError: of that kind, by FFmpeg's own error.
    """
    import av

    try:
        with refusing(kind, what, hint):
            yield
    except kind as error:
        cause = error.__cause__
        if isinstance(cause, OSError):  # FFmpeg's error has a number of the system's, and its words
            raise kind(f"{what} ({cause.strerror}){hint}") from cause
        raise
    except av.error.MemoryError as error:
        raise kind(f"{what} ({NO_MEMORY}){hint}") from error
