"""Videos as frames, through PyAV: any container and codec of its FFmpeg, timestamps as they are, sound left out."""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.backend import ClosedOnExit
from runtime.commands import install
from runtime.errors import FrameError, LibraryError, PipelineError
from runtime.forks import Guard
from runtime.libraries import refusing
from runtime.media.frames import most_pixels, refuse_size
from runtime.media.headers import read_header, refuse_costly_packet
from runtime.media.pipeline import END, End
from runtime.texts import shown
from runtime.threads import bound

EXTENSIONS = frozenset(
    {".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
)
# A container announces the length of its longest stream, and rounds it; what ends earlier than this was cut off.
END_SLACK_S = 1.0
# A rate is constant where nearly all frames come in nearly equal steps; milliseconds round a 60th of a second by 3%.
REGULAR, REGULAR_SHARE = 0.1, 0.8
# FFmpeg's decoders whose frames are pictures, each with a size of its own that need not be the video's.
NO_MEMORY = "FFmpeg has not enough memory for what it announces"
PICTURES = frozenset({"apng", "bmp", "mjpeg", "mjpegb", "png", "tiff", "webp"})


class TimedFrame(NamedTuple):
    """A frame of a video or a camera: uint8 (H, W, 3) RGB, and when it is shown, in units of its source's time base."""

    pixels: np.ndarray
    pts: int


class VideoReader(ClosedOnExit):
    """The frames of a video file, one by one, upright; none is dropped. For one thread at a time.

    `rate` is the mean number of frames a second, `frames` how many the file announces (None if it does not),
    `time_base` the unit of `TimedFrame.pts` in seconds.
    """

    dropped = 0

    def __init__(self, path: Path) -> None:
        """Open the file and look for its pictures; nothing is decoded yet.

        Raises:
            FrameError: missing, not a video, without pictures, or of a size that is not taken.
            LibraryError: PyAV is not installed.
        """
        self._av = library()
        self._name = shown(path)
        self._bounds = {"max_pixels": str(most_pixels())}
        self._container = self._opened(path)
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            self._container.close()
            raise FrameError(f"{self._name}: has no pictures, expected a video")
        if self._stream.codec_context is None:
            self._container.close()
            raise FrameError(f"{self._name}: its pictures are of a codec that is not known, or it is damaged")
        # FFmpeg's own bound, before it makes a frame: while it looks what is in the file, and when a size changes.
        self._stream.codec_context.options = self._bounds
        self._guard = Guard(self._name, self)
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = bound() or 0  # of 0 FFmpeg makes as many as the affinity allows
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.time_base = Fraction(self._stream.time_base)
        self.seconds = self._announced_seconds()
        self.frames: int | None = self._stream.frames or (int(self.seconds * self.rate) if self.seconds else None)
        self._step = max(1, round(1 / self.rate / self.time_base))
        self._last_pts: int | None = None
        self._intervals: Counter[int] = Counter()
        self._found = self._decoded()

    def read(self) -> TimedFrame | End:
        """The next frame, or `END`.

        Raises:
            FrameError: a frame is damaged or the file ends before its time; the next call goes on behind it.
            EngineError: another thread reads, or another process opened the file.
        """
        with self._guard:
            found = next(self._found, END)
        if isinstance(found, FrameError):
            raise found
        return found

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames that `read` gives."""
        while not isinstance(frame := self.read(), End):
            yield frame

    @property
    def missing(self) -> int:
        """Frames that the times leave room for, so far, damaged ones too; 0 where the rate varies by design."""
        if not self._intervals:
            return 0
        usual = self._intervals.most_common(1)[0][0]
        steps = {interval: round(interval / usual) for interval in self._intervals}
        regular = sum(count for interval, count in self._intervals.items() if abs(interval - usual) <= REGULAR * usual)
        if regular < REGULAR_SHARE * self._intervals.total():
            return 0
        return sum((steps[interval] - 1) * count for interval, count in self._intervals.items() if steps[interval] > 1)

    def close(self) -> None:
        """Close the file; a second call does nothing, nor does one in a forked child: the file is its parent's."""
        if not self._guard.foreign:
            self._found.close()
            self._container.close()

    def _opened(self, path: Path) -> Any:
        if not path.is_file():
            raise FrameError(f"{self._name}: {'is not a file' if path.exists() else 'does not exist'}")
        try:
            with refusing_video(FrameError, f"{self._name}: cannot be read"):
                return self._av.open(str(path), options=self._bounds)
        except FrameError as error:
            if isinstance(error.__cause__, self._av.error.InvalidDataError):
                what = "is not a video, or cut off before anything can be read of it"
                raise FrameError(f"{self._name}: {what}") from None
            raise

    def _announced_seconds(self) -> float | None:
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1e6 if self._container.duration else None

    def _decoded(self) -> Generator[TimedFrame | FrameError, None, None]:
        damaged: set[int | None] = set()
        size: tuple[int, int] | None = None
        for packet in self._packets():
            if isinstance(packet, FrameError):
                yield packet
                return
            refused = self._refused_packet(packet)
            if refused:
                yield refused
                return
            if packet.is_corrupt:
                damaged.add(packet.pts)
            try:
                with refusing_video(FrameError, self._name):
                    frames = packet.decode()
            except FrameError as error:
                if isinstance(error.__cause__, MemoryError):
                    yield error
                    return
                yield self._damage(packet.pts)
                continue
            for frame in frames:
                if frame.is_corrupt or frame.pts in damaged:
                    yield self._damage(frame.pts)
                    continue
                if (frame.height, frame.width) != size:
                    size = (frame.height, frame.width)
                    refused = self._refusal(*size)
                    if refused:
                        yield refused
                        return
                yield TimedFrame(_upright(frame), self._pts(frame))
        yield from self._cut_off()

    def _packets(self) -> Iterator[Any]:
        try:
            packets = iter(self._container.demux(self._stream))
            while packet := self._next_packet(packets):
                yield packet
        except FrameError as error:
            yield error

    def _next_packet(self, packets: Iterator[Any]) -> Any:
        with refusing_video(FrameError, f"{self._name}: cannot be read behind {self._at_s():.2f} s"):
            return next(packets, None)

    def _refused_packet(self, packet: Any) -> FrameError | None:
        announced = self._stream.codec_context
        if announced.height * announced.width > most_pixels():
            return self._refusal(announced.height, announced.width)
        if announced.name not in PICTURES:
            return None
        data = bytes(packet)
        try:
            header = read_header(data)
        except FrameError:
            return None  # the decoder says what is wrong with it
        try:
            refuse_size(header.height, header.width, smallest=1)
            refuse_costly_packet(data, header)
        except FrameError as error:
            return FrameError(f"{self._name}: {error}")
        return None

    def _refusal(self, height: int, width: int) -> FrameError | None:
        try:
            refuse_size(height, width)
        except FrameError as error:
            return FrameError(f"{self._name}: {error}")
        return None

    def _damage(self, pts: int | None) -> FrameError:
        at = self._at_s() if pts is None else float((pts - (self._stream.start_time or 0)) * self.time_base)
        return FrameError(f"{self._name}: the frame at {at:.2f} s is damaged and left out")

    def _cut_off(self) -> Iterator[FrameError]:
        start = float((self._stream.start_time or 0) * self.time_base)
        if self.seconds and self._at_s() - start < self.seconds - END_SLACK_S:
            yield FrameError(f"{self._name}: ends at {self._at_s():.2f} s of {self.seconds:.2f} s: cut off or damaged")

    def _at_s(self) -> float:
        return 0.0 if self._last_pts is None else float((self._last_pts + self._step) * self.time_base)

    def _pts(self, frame: Any) -> int:
        # Raw streams have no timestamps: count. Damaged ones go back: then the frame comes a moment after the last.
        before = self._last_pts
        if before is None:
            self._last_pts = int(frame.pts or 0)
            return self._last_pts
        self._last_pts = before + self._step if frame.pts is None else max(int(frame.pts), before + 1)
        self._intervals[self._last_pts - before] += 1
        return self._last_pts


def is_video(path: Path) -> bool:
    """Whether the name is that of a video."""
    return path.suffix.lower() in EXTENSIONS


def first_frame(path: Path) -> np.ndarray:
    """The first frame of a video that can be read, uint8 (H, W, 3) RGB.

    Raises:
        FrameError: there is none.
    """
    with VideoReader(path) as reader:
        frame = reader.read()
    if isinstance(frame, End):
        raise FrameError(f"{shown(path)}: has no frames")
    pixels: np.ndarray = frame.pixels
    return pixels


def library() -> Any:
    """PyAV.

    Raises:
        LibraryError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise LibraryError(f"videos need PyAV, which does not load ({error}): {install('video')}") from None
    return av


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


def _upright(frame: Any) -> np.ndarray:
    # Phones film sideways and say so; swscale does the colours as the frame's own matrix and range say.
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
