"""Videos of masks and overlays, through PyAV: playable whatever ends the run."""

import math
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backend import ClosedOnExit
from runtime.errors import LibraryError, OutputError
from runtime.forks import Guard
from runtime.media.claims import Claim
from runtime.media.ffmpeg import file_name, library, refusing_video
from runtime.media.outputs import Look, Seen, part_path
from runtime.media.packets import TimedFrame
from runtime.texts import shown
from runtime.threads import bound

# Without B-frames a fragment starts at its first frame. 40 overlays of 1024x2048 take 33 ms of CPU each and 2912 KB in
# all with superfast, 53 ms and 2043 KB with veryfast, 69 ms and 2056 KB with faster.
X264 = {"preset": "veryfast", "crf": "20", "bf": "0"}
# A fragment is closed at every key frame: so much is lost at most when the process is killed or the power fails.
KEY_FRAME_S = 1
MP4 = {"movflags": "hybrid_fragmented+frag_keyframe"}
BT709, LIMITED_RANGE = 1, 1
# swscale may read so much beyond the last row, with vectors of the widest kind.
BEYOND_BYTES = 64
# What makes a file the same bytes wherever it is written: no random numbers, and threads that are not the machine's.
REPEATABLE = {"fflags": "+bitexact"}
REPEATABLE_FFV1 = {"level": "3", "slices": "4"}
# With AVX-512 x264 165 gave other bytes for the same frames in 1 of 50 to 100 files, in a process that has OpenVINO in
# it, by its tree of macroblocks; none of 540 files without the tree, nor of 540 held to AVX2. 150 overlays of 720x960
# take 1666 KB so at 38.1 dB, and 1485 KB at 37.8 dB with the tree and crf 20.
REPEATABLE_X264 = {**X264, "crf": "22", "x264-params": "mbtree=0"}
REPEATABLE_THREADS = 2


class VideoWriter(ClosedOnExit):
    """One video file: colours as H.264 in MP4, class ids as lossless FFV1 in Matroska. For one thread at a time.

    While it grows it is `NAME.XXXXXXXX.part.mp4`, a fragmented MP4 that plays up to its last fragment even after a
    kill; `close` completes it and gives it its name, over an older file of that name. The next writer of the same
    name deletes what a killed one left.
    """

    def __init__(
        self,
        path: Path,
        pixels: np.ndarray,
        rate: Fraction,
        time_base: Fraction,
        aspect: Fraction = Fraction(1),
        *,
        repeatable: bool = False,
    ) -> None:
        """Make the file.

        Args:
            path: its suffix says what it is: .mp4, or .mkv for ids.
            pixels: a frame as will be written, uint8 (H, W, 3) RGB, or (H, W) for ids.
            rate: frames a second, about.
            time_base: the unit of every `pts`, in seconds.
            aspect: width of a pixel over its height.
            repeatable: the same frames are the same bytes on every machine, with the same FFmpeg.

        Raises:
            OutputError: it cannot be made, or another process writes it.
            LibraryError: PyAV is not installed, or without the H.264 encoder.
        """
        self.path = path
        self._av: Any = library()
        self._time_base, self._key_frame = time_base, round(KEY_FRAME_S / time_base)
        self._first: int | None = None
        self._key_frame_due = 0
        self._last = -1
        self._ids, self._repeatable = pixels.ndim == 2, repeatable
        self._to_yuv = self._av.video.reformatter.VideoReformatter()
        self._even: np.ndarray | None = None
        with self._telling():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._claim = Claim(path)
            self._growing = self._claim.growing
            options = {"flush_packets": "1", **({} if self._ids else MP4), **(REPEATABLE if repeatable else {})}
            self._container = self._av.open(file_name(self._growing), "w", options=options)
        self._guard = Guard(shown(path), self)
        with self._telling():
            self._stream = self._make_stream(pixels, rate)
            self._stream.codec_context.sample_aspect_ratio = aspect

    def write(self, pixels: np.ndarray, pts: int) -> None:
        """Add a frame of the first one's size.

        Args:
            pixels: uint8 (H, W, 3) RGB, or (H, W) for ids.
            pts: when it is shown; what is not later than the frame before it comes one unit after it.

        Raises:
            OutputError: the disk is full, or gone.
            EngineError: another process, which this one was forked from, writes this file.
        """
        self._guard.refuse_foreign()
        frame = self._gray(pixels) if self._ids else self._yuv(pixels)
        self._first = pts if self._first is None else self._first
        self._last = frame.pts = max(pts - self._first, self._last + 1)
        frame.time_base = self._time_base
        if self._last >= self._key_frame_due:
            frame.pict_type = self._av.video.frame.PictureType.I
            self._key_frame_due = self._last + self._key_frame
        self._mux(frame)

    def close(self) -> None:
        """Complete the file and give it its name; a second call does nothing, nor does one in a forked child.

        Raises:
            OutputError: the disk is full, or gone; what was written until then has its name and plays.
        """
        if self._container is None or self._guard.foreign:
            return
        container, self._container = self._container, None
        try:
            with self._telling():
                if self._last >= 0:
                    container.mux(self._stream.encode())
                container.close()
        finally:
            if self._last >= 0:
                self._growing.replace(self.path)
            else:
                self._growing.unlink(missing_ok=True)
            self._claim.release()

    def _make_stream(self, pixels: np.ndarray, rate: Fraction) -> Any:
        codec = "ffv1" if self._ids else "libx264"
        if codec not in self._av.codec.codecs_available:
            raise LibraryError(f"this PyAV has no {codec} encoder: pip install av, whose wheels have it")
        stream = self._container.add_stream(codec, rate=rate, options=self._codec_options())
        stream.height, stream.width = (size if self._ids else size + size % 2 for size in pixels.shape[:2])
        stream.pix_fmt = "gray" if self._ids else "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.thread_count = REPEATABLE_THREADS if self._repeatable else bound() or 0
        if not self._ids:
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED_RANGE
        return stream

    def _codec_options(self) -> dict[str, str]:
        if self._ids:
            return REPEATABLE_FFV1 if self._repeatable else {}
        return REPEATABLE_X264 if self._repeatable else X264

    def _mux(self, frame: Any) -> None:
        with self._telling():
            self._container.mux(self._stream.encode(frame))

    def _gray(self, ids: np.ndarray) -> Any:
        return self._av.VideoFrame.from_ndarray(np.ascontiguousarray(ids), format="gray")

    def _yuv(self, rgb: np.ndarray) -> Any:
        # Into the same memory each time, through one converter: new ones cost three times as much as the conversion.
        frame = self._av.VideoFrame.from_numpy_buffer(self._evened(rgb), format="rgb24")
        return self._to_yuv.reformat(frame, format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)

    def _evened(self, rgb: np.ndarray) -> np.ndarray:
        # H.264's usual form has colours for two by two pixels: an odd side gets its last row or column twice.
        height, width = rgb.shape[:2]
        if self._even is None:
            shape = (height + height % 2, width + width % 2, 3)
            self._even = np.empty(math.prod(shape) + BEYOND_BYTES, np.uint8)[:-BEYOND_BYTES].reshape(shape)
        self._even[:height, :width] = rgb
        self._even[:height, width:] = rgb[:, -1:]
        self._even[height:] = self._even[height - 1]
        return self._even

    def _telling(self) -> AbstractContextManager[None]:
        hint = ": free some space or give another folder with -o; it plays as far as it was written"
        return refusing_video(OutputError, f"{shown(self.path)} cannot be written", hint)


class Recording(ClosedOnExit):
    """The videos of one source, one for each kind that is saved. A frame of another size begins the next files."""

    def __init__(
        self, outputs: dict[str, Path], look: Look, rate: Fraction, time_base: Fraction, *, repeatable: bool = False
    ) -> None:
        """Nothing is made before the first frame is here.

        Args:
            outputs: a kind, such as overlay -> where.
            look: how they look.
            rate, time_base, repeatable: see `VideoWriter`.
        """
        self.written: list[tuple[str, Path]] = []
        self._outputs, self._look = outputs, look
        self._rate, self._time_base, self._repeatable = rate, time_base, repeatable
        self._writers: dict[str, VideoWriter] = {}
        self._shape: tuple[object, ...] = ()
        self._part = 0

    def write(self, frame: TimedFrame, seen: Seen) -> None:
        """Add what is saved of one frame and what was seen in it.

        Raises:
            OutputError: the disk is full, or gone.
        """
        shape = (*seen.mask.shape, frame.aspect)
        if shape != self._shape:
            self.close()
            self._shape = shape
            self._part += 1
        for kind, path in self._outputs.items():
            pixels = self._look.pixels(kind, frame.pixels, seen)
            if kind not in self._writers:
                self._begin(kind, part_path(path, self._part), pixels, frame.aspect)
            self._writers[kind].write(pixels, frame.pts)

    def close(self) -> None:
        """Complete all files; a second call does nothing.

        Raises:
            OutputError: one of them could not be completed; the others are.
        """
        failures = []
        while self._writers:
            try:
                self._writers.popitem()[1].close()
            except OutputError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _begin(self, kind: str, path: Path, pixels: np.ndarray, aspect: Fraction) -> None:
        how = (self._rate, self._time_base, aspect)
        self._writers[kind] = VideoWriter(path, pixels, *how, repeatable=self._repeatable)
        self.written.append((kind, path))
