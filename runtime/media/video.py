"""Videos as frames, through PyAV: any container and codec of its FFmpeg, timestamps as they are, sound left out."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backend import ClosedOnExit
from runtime.errors import FrameError, LibraryError
from runtime.forks import Guard
from runtime.media.ffmpeg import file_name, library, refusing_video
from runtime.media.frames import EXTENSIONS as PICTURES
from runtime.media.frames import most_pixels
from runtime.media.headers import read_header
from runtime.media.packets import LIBVPX, ONE_THREAD, STRICT, STRICT_CODECS, Decoding, Opened, TimedFrame
from runtime.media.parts import Packet, Part, parts_of
from runtime.media.pipeline import END, End
from runtime.media.times import JUMP_S, Times
from runtime.media.tones import HDR
from runtime.texts import shown
from runtime.threads import bound

__all__ = ["EXTENSIONS", "TimedFrame", "VideoReader", "first_frame", "is_video", "library", "refusing_video"]

SUFFIXES = (
    ".264 .265 .3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v .m4v .mjpeg "
    ".mjpg .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m"
)
EXTENSIONS = frozenset(SUFFIXES.split())
# What FFmpeg also takes for a film: a picture, of which another file reads more, and text.
NO_FILM = ("image2", "tty")
PLAYLISTS = frozenset({"hls", "dash"})  # whose own length is that of a text; of a live one no duration is known
HEAD = 1 << 16
LIBVPX_FORMATS = ("yuv420p", "yuv422p", "yuv440p", "yuv444p", "gbrp")  # some have 8 bits alone
WHOLE = frozenset({"mjpeg"})  # no part of it is read by itself: see `VideoReader.parts`
ODD_ASPECT = 10  # no camera's pixel is so flat: a number that is damaged
TIMEOUT_S = 10.0
# TCP as OpenCV asks, too: of UDP packets are lost on the way. FFmpeg waits for silence twice, in microseconds each.
RTSP = {"rtsp_transport": "tcp", "timeout": str(round(TIMEOUT_S / 2 * 1e6))}


class VideoReader(ClosedOnExit):
    """The frames of a video file, one by one, upright and in SDR's colours; none is dropped. For one thread at a time.

    `rate` is the mean number of frames a second, `frames` how many the file announces (None if it does not),
    `time_base` the unit of `TimedFrame.pts` in seconds, `notes` what a user should know of it, a line each, `finite`
    whether it has an end: no camera.
    """

    dropped = reconnects = 0

    def __init__(self, given: Path | str, part: Part | None = None) -> None:
        """Open the file and look for its pictures; nothing is decoded yet.

        Args:
            given: a file, or as text the address of one.
            part: of `parts`, to read that alone; None: all of it.

        Raises:
            FrameError: missing, not a video, without pictures, or of a size that is not taken.
            LibraryError: PyAV is not installed.
        """
        self._av = library()
        self._name = shown(given)
        self._container = self._opened(given)
        self._stream = self._film()
        # FFmpeg's own bound, before it makes a frame: while it looks what is in the file, and when a size changes.
        self._guard = Guard(self._name, self)
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.time_base = Fraction(self._stream.time_base)
        self.seconds = self._announced_seconds()
        self.frames: int | None = self._stream.frames or (int(self.seconds * self.rate) if self.seconds else None)
        if part is not None and part.next is not None:
            self.frames = part.next - part.first
        self.finite = isinstance(given, Path) or _has_end(self._container, given)
        self._times = Times(max(1, round(1 / self.rate / self.time_base)), self._jump())
        path = given if isinstance(given, Path) else None
        self._decoding = Decoding(
            Opened(
                self._av,
                self._container,
                self._stream,
                self._decoder(given),
                self._name,
                path,
                self._times,
                self._aspect(),
                self.seconds,
                part,
            )
        )
        self._found = self._decoding.frames()

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
        return self._times.missing

    @property
    def notes(self) -> list[str]:
        """What a user should know of the file, as far as it was read."""
        films = [stream for stream in self._container.streams.video if not _is_cover(stream)]
        notes = []
        if len(films) > 1:
            sizes = ", ".join(f"{film.height}x{film.width}" for film in films if film.codec_context)
            notes.append(f"holds {len(films)} films ({sizes}): number {films.index(self._stream) + 1} is read")
        transfer = self._stream.codec_context.color_trc
        if transfer in HDR:
            notes.append(f"is HDR ({HDR[transfer]}): read as SDR")
        if (aspect := self._aspect()) != 1:
            shape = f"{aspect.numerator}:{aspect.denominator}"
            notes.append(f"has pixels of {shape}: the network sees them as stored, overlays keep their shape")
        if self._decoding.fields.interlaced:
            notes.append(f"has {self._decoding.fields.interlaced} interlaced frames: made whole by bwdif")
        return [f"{self._name}: {note}" for note in notes]

    def parts(self, seconds: float) -> list[Part]:
        """Parts of so many seconds or a little more, that together give the frames of the whole.

        One alone, the whole, where none can be read by itself: without key frames or times, or of MJPEG, whose scans
        are judged by those before them. Of interlaced film a part is refused when it is read. Nothing can be read of
        this reader afterwards.

        Args:
            seconds: of film; 0: one part.

        Raises:
            FrameError: the file cannot be read to its end.
        """
        demuxed = self._container.demux(self._stream)
        with refusing_video(FrameError, f"{self._name}: cannot be read"):
            packets = [Packet(packet.pts, packet.is_keyframe) for packet in demuxed if packet.size]
        whole = self._stream.codec_context.name in WHOLE or not seconds
        return [Part()] if whole else parts_of(packets, seconds / float(self.time_base))

    @property
    def seams(self) -> tuple[str, str]:
        """Of a part that was read to its end: what it made of its own first frames, and of those of the next part."""
        return self._decoding.window.head, self._decoding.window.tail

    @property
    def interlaced(self) -> bool:
        """Whether a frame was interlaced so far."""
        return self._decoding.fields.interlaced > 0

    def close(self) -> None:
        """Close the file; a second call does nothing, nor does one in a forked child: the file is its parent's."""
        if not self._guard.foreign:
            self._found.close()
            self._container.close()

    def _opened(self, given: Path | str) -> Any:
        if isinstance(given, Path) and not given.is_file():
            raise FrameError(f"{self._name}: {'is not a file' if given.exists() else 'does not exist'}")
        try:
            with refusing_video(FrameError, f"{self._name}: cannot be read"):
                return _container(self._av, given)
        except FrameError as error:
            if isinstance(error.__cause__, self._av.error.InvalidDataError):
                what = "is not a video, or cut off before anything can be read of it"
                raise FrameError(f"{self._name}: {what}") from None
            raise

    def _film(self) -> Any:
        stream = self._container.streams.best("video")
        if stream is not None and stream.codec_context is not None:
            return stream
        self._container.close()
        if stream is None:
            raise FrameError(f"{self._name}: has no pictures, expected a video")
        raise FrameError(f"{self._name}: its pictures are of a codec that is not known, or it is damaged")

    def _decoder(self, given: Path | str) -> Any:
        decoder = self._strict_vp9(given) or self._stream.codec_context
        decoder.options = _bounds() | (STRICT if decoder.name in STRICT_CODECS else {})
        decoder.thread_type = "SLICE" if decoder.name in ONE_THREAD else "AUTO"
        decoder.thread_count = bound() or 0  # of 0 FFmpeg makes as many as the affinity allows
        return decoder

    def _strict_vp9(self, given: Path | str) -> Any | None:
        """libvpx, which finds most damage where FFmpeg's own decoder finds little, if nothing of the file is lost."""
        announced = self._stream.codec_context
        known = announced.name == "vp9" and announced.pix_fmt in LIBVPX_FORMATS and isinstance(given, Path)
        if not known or LIBVPX not in self._av.codecs_available:
            return None
        try:
            with refusing_video(FrameError, ""), _container(self._av, given) as again:
                first = next(again.decode(again.streams[self._stream.index]), None)
        except FrameError:
            return None
        if first is None or first.side_data.get("DISPLAYMATRIX") is not None:
            return None  # a decoder that stands by itself does not hear of it
        decoder = self._av.CodecContext.create(LIBVPX, "r")
        decoder.color_trc, decoder.color_primaries = announced.color_trc, announced.color_primaries
        return decoder

    def _aspect(self) -> Fraction:
        aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        return aspect if 1 / ODD_ASPECT < aspect < ODD_ASPECT else Fraction(1)

    def _jump(self) -> int | None:
        return round(JUMP_S / self.time_base) if "mpeg" in self._container.format.name else None

    def _announced_seconds(self) -> float | None:
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1e6 if self._container.duration else None


def is_video(path: Path) -> bool:
    """Whether the file is a video: by its name, and where that is no picture's either, by what FFmpeg finds in it."""
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return path.is_file() and _holds_film(path, least=2)  # of one moment it is a picture
    if suffix in EXTENSIONS or suffix in PICTURES or not path.is_file():
        return suffix in EXTENSIONS
    try:
        with path.open("rb") as file:
            read_header(file.read(HEAD))
        return False
    except FrameError:
        return _holds_film(path)
    except OSError:
        return False


def is_finished(address: str) -> bool:
    """Whether what is at an address is a whole file, to be read at our own pace, and no camera: it has a length.

    Raises:
        LibraryError: PyAV is not installed.
    """
    if not address.lower().startswith(("http://", "https://")):
        return False
    av = library()
    try:
        with refusing_video(FrameError, ""), _container(av, address) as container:
            return _has_end(container, address)
    except FrameError:
        return False


def _has_end(container: Any, address: str) -> bool:
    # Of what is fetched the size is told; of a playlist, and of what a server sends on demand, the length.
    if address.lower().startswith(("http://", "https://")) and container.format.name not in PLAYLISTS:
        return bool(container.size > 0)
    return container.duration is not None


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


def _holds_film(path: Path, *, least: int = 1) -> bool:
    try:
        av = library()
        with refusing_video(FrameError, ""), _container(av, path) as container:
            film = container.streams.best("video")
            known = film is not None and film.codec_context is not None and film.codec_context.width > 0
            if known and least > 1:
                known = sum(packet.size > 0 for packet in islice(container.demux(film), least)) == least
            return known and not container.format.name.endswith("_pipe") and container.format.name not in NO_FILM
    except (FrameError, LibraryError):
        return False


def _container(av: Any, given: Path | str) -> Any:
    # Titles are in whatever letters a camera has; nobody reads them here.
    settings: dict[str, Any] = {"options": _bounds(), "metadata_errors": "replace"}
    if isinstance(given, Path):
        return av.open(file_name(given), **settings)
    if given.lower().startswith("rtsp"):
        settings["options"] = _bounds() | RTSP
    return av.open(given, timeout=TIMEOUT_S, **settings)


def _bounds() -> dict[str, str]:
    return {"max_pixels": str(most_pixels())}


def _is_cover(stream: Any) -> bool:
    # The picture of a disc's cover is a film of one frame to FFmpeg.
    return bool(stream.disposition & stream.disposition.attached_pic)
