"""A camera of this machine, or a GStreamer pipeline, through OpenCV; the size, rate and format that are asked of it."""

import re
from typing import Any, NamedTuple

from runtime.errors import FrameError, LibraryError
from runtime.media.frames import quiet_opencv
from runtime.media.jpeg_scan import Scans

LOCAL = re.compile(r"(?:camera:|/dev/video)(\d+)")
PIPELINE = "gst:"
MOST_DAMAGED = 100  # frames in a row, after which a camera gives none
NEAR = 0.01  # 29.97 frames a second are 30 to who asks


class Asked(NamedTuple):
    """What a camera is asked for; None: what it does by itself.

    Args:
        size: (height, width) in pixels.
        fps: frames a second.
        format: four letters as V4L2 has them, such as MJPG or YUYV.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None


def is_local(given: str) -> bool:
    """Whether that is a camera whose size and rate can be asked for."""
    return LOCAL.fullmatch(given) is not None


def open_local(given: str) -> Any | None:
    """The cv2.VideoCapture of camera:0, /dev/video0 or gst:PIPELINE; None where there is none.

    Raises:
        LibraryError: a pipeline, and this OpenCV is built without GStreamer.
    """
    import cv2

    found = LOCAL.fullmatch(given)
    with quiet_opencv():
        if found is None:
            refuse_without_gstreamer()
            capture = cv2.VideoCapture(given.removeprefix(PIPELINE), cv2.CAP_GSTREAMER)
        else:
            capture = cv2.VideoCapture(int(found[1]))
    if not capture.isOpened():
        return None
    # One frame in the driver's queue, not four: the newest is what is wanted.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def refuse_without_gstreamer() -> None:
    """Look whether OpenCV runs pipelines: the wheels do not, a JetPack's or a Debian's does.

    Raises:
        LibraryError: it does not.
    """
    import cv2

    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise LibraryError(
            "this OpenCV is built without GStreamer: give the camera by itself (camera:0, rtsp://HOST/PATH), or run "
            "with an OpenCV that has it, such as Debian's python3-opencv or JetPack's"
        )


def ask(capture: Any, asked: Asked) -> list[str]:
    """Ask a camera for what is wanted, and tell what it does not give, a text each.

    Args:
        capture: a cv2.VideoCapture that is open.
        asked: what is wanted; the format goes first, as the sizes that there are depend on it.
    """
    import cv2

    if asked.format:
        capture.set(cv2.CAP_PROP_FOURCC, float(_number(asked.format)))
    if asked.size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, float(asked.size[1]))
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, float(asked.size[0]))
    if asked.fps:
        capture.set(cv2.CAP_PROP_FPS, asked.fps)
    return [f"was asked for {want} and gives {got}" for want, got in _differences(capture, asked)]


class Compressed:
    """A camera's MJPEG as the camera sends it, so that a damaged frame is seen before a decoder paints over it.

    `damaged` counts those; they are left out.
    """

    def __init__(self, capture: Any) -> None:
        """`capture` gives compressed frames, or some that its driver decoded all the same."""
        self._capture, self._scans, self.damaged = capture, Scans(), 0

    def read(self) -> tuple[bool, Any]:
        """Whether there is a frame, and it, uint8 (H, W, 3) BGR; damaged ones are passed over."""
        import cv2

        for _ in range(MOST_DAMAGED):
            there, pixels = self._capture.read()
            if not there or (pixels.ndim == 3 and pixels.shape[2] == 3):
                return there, pixels
            whole = self._scans.fit(pixels.tobytes())
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            with quiet_opencv():
                picture = cv2.imdecode(pixels.reshape(-1), flags) if whole else None
            if picture is not None:
                return True, picture
            self.damaged += 1
        return False, None

    def release(self) -> None:
        """Let go of the camera."""
        self._capture.release()


def as_it_comes(capture: Any) -> Any:
    """The cv2.VideoCapture of a camera, behind `Compressed` where it sends MJPEG and OpenCV hands that on."""
    import cv2

    sends = hasattr(capture, "getBackendName") and capture.getBackendName() == "V4L2"
    if sends and int(capture.get(cv2.CAP_PROP_FOURCC)) == _number("MJPG"):
        return Compressed(capture) if capture.set(cv2.CAP_PROP_CONVERT_RGB, 0.0) else capture
    return capture


def rate_of(capture: Any) -> float:
    """Frames a second that an open camera announces; 0 where it does not."""
    import cv2

    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0 < rate <= 1000 else 0.0


def refuse_asked(given: str, asked: Asked) -> None:
    """Look whether something is asked of what cannot be asked.

    Raises:
        FrameError: it is.
    """
    if asked != Asked() and not is_local(given):
        what = "a pipeline says it itself" if given.startswith(PIPELINE) else "a stream is as its camera sends it"
        raise FrameError(f"--camera-size, --camera-fps and --camera-format are of a camera such as camera:0; {what}")


def _differences(capture: Any, asked: Asked) -> list[tuple[str, str]]:
    import cv2

    width, height = (round(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    found = []
    if asked.size and asked.size != (height, width):
        found.append((f"{asked.size[1]}x{asked.size[0]}", f"{width}x{height}"))
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    if asked.fps and abs(fps - asked.fps) > NEAR * asked.fps:
        found.append((f"{asked.fps:g} frames a second", f"{fps:g}"))
    number = int(capture.get(cv2.CAP_PROP_FOURCC))
    if asked.format and number != _number(asked.format):
        letters = bytes(number >> 8 * i & 0xFF for i in range(4)).decode("ascii", "replace")
        found.append((asked.format, letters if letters.isprintable() else "another format"))
    return found


def _number(letters: str) -> int:
    return int.from_bytes(letters.encode("ascii"), "little")
