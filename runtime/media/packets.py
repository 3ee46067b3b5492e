"""From a video's packets to its frames: what is damaged, and what is spoilt by it, is left out and told."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import FrameError
from runtime.media.containers import Checksums, is_cut
from runtime.media.displayed import Deinterlacer, Upright, displayed, turns_sideways
from runtime.media.ffmpeg import refusing_video
from runtime.media.frames import most_pixels, refuse_size
from runtime.media.headers import read_header, refuse_costly_packet
from runtime.media.jpeg_scan import Scans
from runtime.media.parts import Part, Window
from runtime.media.times import Times
from runtime.media.vp9 import largest_size

# A container rounds the lengths that it announces; what ends earlier than this was cut off.
END_SLACK_S = 1.0
# FFmpeg's decoders whose frames are pictures, each with a size of its own that need not be the video's.
PICTURES = frozenset({"apng", "bmp", "mjpeg", "mjpegb", "png", "tiff", "webp"})
# Decoders that conceal damage and say nothing, unless they are asked to fail; the others tell of it by themselves.
STRICT = {"err_detect": "crccheck+explode"}
STRICT_CODECS = frozenset({"ffv1", "hevc", "mjpeg"})
# FFmpeg's H.263 and what came of it lose the mark of a damaged frame, now and then, where threads take a frame each.
ONE_THREAD = frozenset({"flv", "h263", "mpeg4", "msmpeg4", "msmpeg4v1", "msmpeg4v2", "wmv1", "wmv2"})
# Decoders that find damage where it is, so that a checksum of a second of film is not needed to leave frames out.
EXACT = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})
# Decoders that fail at a frame, and hand it on all the same with those that come behind it.
HANDS_ON = frozenset({"hevc"})
LIBVPX = "libvpx-vp9"  # it gives a frame for a packet, at once, and does not mark key frames
# Frames without a key frame among them that are taken for spoilt; film that has none is renewed strip by strip.
MOST_SPOILT = 300
JOINT_PACKETS = 3  # behind the packet that is said to be damaged, where the next file begins
MOST_FLUSHED = 64  # frames that a decoder's threads may hold at the end
MATROSKA = "matroska,webm"  # the length that it announces is of its longest stream, and where it begins is open


class TimedFrame(NamedTuple):
    """A frame of a video or a camera: uint8 (H, W, 3) RGB, and when it is shown, in units of its source's time base.

    `aspect` is the width of a pixel over its height, upright.
    """

    pixels: np.ndarray
    pts: int
    aspect: Fraction = Fraction(1)


class Opened(NamedTuple):
    """A video that FFmpeg has opened.

    Args:
        av: PyAV.
        container, stream, decoder: PyAV's; which stream of it is read, and by what.
        name: as it is told.
        path: of the file; None for an address.
        times: of its frames.
        aspect: of its pixels as they are stored.
        seconds: that it announces.
        part: that is decoded; None: all of it.
    """

    av: Any
    container: Any
    stream: Any
    decoder: Any
    name: str
    path: Path | None
    times: Times
    aspect: Fraction
    seconds: float | None
    part: Part | None = None


class Decoding:
    """The frames of one video, in their order, and a `FrameError` for what is lost."""

    def __init__(self, opened: Opened) -> None:
        """Nothing is decoded yet."""
        self._opened = opened
        self._stream, self._decoder, self._name = opened.stream, opened.decoder, opened.name
        self._time_base = Fraction(opened.stream.time_base)
        self.fields = Deinterlacer(opened.av, self._time_base)
        self.window = Window(opened.av, opened.stream, opened.part)
        self._upright = Upright()
        self._damaged: set[int] = set()
        self._ahead: deque[Any] = deque()
        self._scans = Scans() if self._decoder.name == "mjpeg" else None
        self._spoilt = 0  # frames since the damage, itself too; 0: there is none since the last key frame
        self._renewing: set[int | None] | None = None  # times of key frames sent after such a failure
        self._shown = self._told = self._doubtful = 0
        self._size: tuple[int, int] | None = None
        self._sound_end_s = 0.0

    def frames(self) -> Generator[TimedFrame | FrameError, None, None]:
        """The frames; an error that is not of one frame is the last thing that comes."""
        try:
            for packet in self._packets():
                yield from self._of_packet(packet)
            for frame in self.fields.rest():
                yield self._timed(frame)
            yield from self._ended()
        except FrameError as error:
            yield error

    def _packets(self) -> Iterator[Any]:
        streams = [self._stream] if self._stream.duration else list(self._opened.container.streams)
        packets = self.window.packets(iter(self._opened.container.demux(streams)))
        with closing(_Sums(self._opened)) as sums:
            while packet := self._ahead.popleft() if self._ahead else self._next_packet(packets):
                if packet.stream_index != self._stream.index:
                    self._note_end(packet)
                    continue
                self._refuse_packet(packet)
                doubtful = not sums.fit(packet)
                self._doubtful += doubtful
                if (packet.is_corrupt and not self._is_joint(packet, packets)) or (
                    doubtful and self._decoder.name not in EXACT
                ):
                    self._note_damage(packet)
                yield packet

    def _is_joint(self, packet: Any, packets: Iterator[Any]) -> bool:
        # Where one file was hung behind another FFmpeg finds a gap, too: nothing is lost there.
        while len(self._ahead) < JOINT_PACKETS and (following := self._next_packet(packets)):
            self._ahead.append(following)
        begins = [other.pts for other in self._ahead if other.is_keyframe and other.pts is not None]
        return packet.pts is not None and any(pts < packet.pts for pts in begins)

    def _next_packet(self, packets: Iterator[Any]) -> Any:
        at_s = float(self._opened.times.end * self._time_base)
        with refusing_video(FrameError, f"{self._name}: cannot be read behind {at_s:.2f} s"):
            return next(packets, None)

    def _of_packet(self, packet: Any) -> Iterator[TimedFrame | FrameError]:
        if self._renewing is not None and packet.is_keyframe:
            self._renewing.add(packet.pts)
        if self._scans is not None and packet.size and not self._scans.fit(bytes(packet)):
            self._spoilt = 1
            yield from self._lost_here(packet.pts)
            return
        for _ in range(1 if packet.size else MOST_FLUSHED):
            try:
                with refusing_video(FrameError, self._name):
                    decoded = self._decoder.decode(packet)
            except FrameError as error:
                if isinstance(error.__cause__, MemoryError):
                    raise
                if isinstance(error.__cause__, EOFError):
                    return
                if self.window.place(packet.pts) < 0:
                    continue  # it looks back past where this part begins
                self._spoilt = 1
                self._renewing = set() if self._decoder.name in HANDS_ON else None
                yield from self._lost_here(packet.pts)
                continue  # at the end the threads hold more
            if packet.is_keyframe and self._decoder.name == LIBVPX:
                self._spoilt = 0
            for frame in decoded:
                yield from self._of_frame(frame)
            return

    def _of_frame(self, frame: Any) -> Iterator[TimedFrame | FrameError]:
        place = self.window.place(frame.pts)
        if place < 0:
            return
        if self._is_spoilt(frame):
            yield from self._lost_here(frame.pts)
            return
        if place > 0:
            self.window.look(frame.pts, displayed(frame, self._upright.matrix(frame)))
            return
        if (frame.height, frame.width) != self._size:
            self._size = (frame.height, frame.width)
            self._refuse_size(*self._size)
        for whole in self.fields.frames(frame):
            yield self._timed(whole)
        if self.fields.interlaced and not self.window.is_whole:
            raise FrameError(f"{self._name}: is interlaced, of which no part can be made whole by itself")

    def _is_spoilt(self, frame: Any) -> bool:
        if frame.is_corrupt or frame.pts in self._damaged:
            self._damaged.discard(frame.pts)  # another frame of that time may come, where the clock starts anew
            self._spoilt = 1
            return True
        # All that follows is made from what was lost, until a frame that is made from nothing.
        renewed = frame.key_frame and (self._renewing is None or frame.pts in self._renewing)
        self._spoilt = 0 if renewed or not 0 < self._spoilt < MOST_SPOILT else self._spoilt + 1
        if not self._spoilt:
            self._renewing = None
        return self._spoilt > 0

    def _note_damage(self, packet: Any) -> None:
        if packet.pts is None:
            self._spoilt = 1
        else:
            self._damaged.add(packet.pts)

    def _note_end(self, packet: Any) -> None:
        if packet.pts is not None and packet.time_base:
            self._sound_end_s = max(self._sound_end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def _timed(self, frame: Any) -> TimedFrame:
        self._shown += 1
        matrix, aspect = self._upright.matrix(frame), self._opened.aspect
        if aspect != 1 and turns_sideways(matrix):
            aspect = 1 / aspect
        pixels = displayed(frame, matrix)
        self.window.look(frame.pts, pixels)
        return TimedFrame(pixels, self._opened.times.shown(frame.pts), aspect)

    def _lost_here(self, pts: int | None) -> Iterator[FrameError]:
        if self.window.place(pts) == 0:
            yield self._lost(pts)

    def _lost(self, pts: int | None) -> FrameError:
        self._told += 1
        start = self._stream.start_time or 0
        at = float((self._opened.times.end if pts is None else pts - start) * self._time_base)
        why = "is damaged" if self._spoilt < 2 else "is made from a damaged one"
        return FrameError(f"{self._name}: the frame at {at:.2f} s {why} and left out")

    def _refuse_packet(self, packet: Any) -> None:
        if self._decoder.height * self._decoder.width > most_pixels():
            self._refuse_size(self._decoder.height, self._decoder.width)
        if self._decoder.name == LIBVPX:
            height, width = largest_size(bytes(packet))
            self._refuse_size(max(height, 1), max(width, 1), smallest=1)
        if self._decoder.name not in PICTURES:
            return
        data = bytes(packet)
        try:
            header = read_header(data)
        except FrameError:
            return  # the decoder says what is wrong with it
        self._refuse_size(header.height, header.width, smallest=1)
        try:
            refuse_costly_packet(data, header)
        except FrameError as error:
            raise FrameError(f"{self._name}: {error}") from None

    def _refuse_size(self, height: int, width: int, **bounds: int) -> None:
        try:
            refuse_size(height, width, **bounds)
        except FrameError as error:
            raise FrameError(f"{self._name}: {error}") from None

    def _ended(self) -> Iterator[FrameError]:
        end_s, seconds = float(self._opened.times.end * self._time_base), self._opened.seconds
        if self.window.part.stop is None and self._is_cut(end_s):
            of = f" of {seconds:.2f} s" if seconds else ""
            yield FrameError(f"{self._name}: ends at {end_s:.2f} s{of}: cut off or damaged")
        elif self._doubtful and not self._told:
            what = f"{self._doubtful} of its frames are under checksums that do not fit"
            yield FrameError(f"{self._name}: {what}: damaged, though the decoder found nothing; they were read")
        elif not self._shown and not self._told:
            yield FrameError(f"{self._name}: holds no frame that can be decoded")

    def _is_cut(self, end_s: float) -> bool:
        path, seconds = self._opened.path, self._opened.seconds
        with refusing_video(FrameError, f"{self._name}: cannot be read"):
            cut = None if path is None else is_cut(path)
        if cut or seconds is None or (cut is False and self._opened.container.format.name == MATROSKA):
            return bool(cut)
        return max(end_s, self._sound_end_s) - self._begin_s() < seconds - END_SLACK_S

    def _begin_s(self) -> float:
        return float((self._stream.start_time or 0) * self._time_base)


class _Sums:
    """Whether a packet's bytes are as they were written, where the file has checksums of them."""

    def __init__(self, opened: Opened) -> None:
        known = opened.path is not None and opened.container.format.name == MATROSKA
        self._sums = Checksums(opened.path) if known and opened.path else None

    def fit(self, packet: Any) -> bool:
        return self._sums is None or self._sums.fit(packet.pos)

    def close(self) -> None:
        if self._sums is not None:
            self._sums.close()
