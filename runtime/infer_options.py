"""The options of `runtime.infer`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime import cli
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS
from runtime.fit import add_fit
from runtime.json_values import TOLD
from runtime.media.camera import is_camera
from runtime.media.frames import add_max_pixels
from runtime.media.inputs import Shard
from runtime.media.jpeg import BEST, QUALITY
from runtime.media.outputs import CONFIDENCE, OVERLAY_SUFFIX, SAVES
from runtime.media.reconnecting import PATIENCE_S
from runtime.signature import add_require_signed

DESCRIPTION = "`python -m runtime.infer INPUT...`: pictures, videos, a camera in; class ids, colours and overlays out."

MOST_CAMERAS = 16
MOST_FPS = 1000


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The options of one run; what contradicts itself is usage."""
    parser = _parser()
    options = parser.parse_args(argv)
    if any(map(is_camera, options.inputs)) and (options.list or not all(map(is_camera, options.inputs))):
        parser.error("cameras and addresses are segmented by themselves: no file, folder or --list beside them")
    if len(options.inputs) > MOST_CAMERAS and any(map(is_camera, options.inputs)):
        parser.error(f"{len(options.inputs)} cameras are given, at most {MOST_CAMERAS} are taken in one run")
    if options.json and options.jsonl:
        parser.error("--json is one document, --jsonl a line an input: give one of them")
    if options.regions and not options.stats:
        parser.error("--regions are counted for --stats FILE")
    if options.quality and options.overlay_format != "jpeg":
        parser.error("--quality is that of --overlay-format jpeg")
    if options.overlay_format == "jpeg":
        options.quality = options.quality or QUALITY
    if options.confidence:
        options.save = (*(options.save or ()), CONFIDENCE)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m runtime.infer", description=DESCRIPTION)
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="image, video, glob, folder (searched to the bottom), or "
        "cameras: camera:0, /dev/video0, rtsp://HOST/PATH, gst:PIPELINE")  # fmt: skip
    add("--list", action="append", default=[], metavar="FILE", help="inputs, one a line; - is standard input")
    add("--shard", type=shard_from_text, metavar="I/N", help="do the I-th of N equal shares of the inputs")
    add("--resume", action="store_true", help="keep outputs that are whole, of this engine, options and input")
    add("-o", "--output", type=Path, default=ARTIFACTS / "masks", help="folder (default: %(default)s)")
    add("--engine", type=Path, help="default: this machine's newest under artifacts/engines")
    add("--save", type=saves_from_text, help="which of ids,color,overlay (default: all; of videos the overlay)")
    add("--confidence", action="store_true", help="also write how far each pixel's class is ahead of the second, "
        "0..255, as a grey picture or video")  # fmt: skip
    add("--void-below", type=cli.byte_from_text, metavar="N", help="pixels of less confidence (0..255) are of "
        "no class: 255 among the ids, without colour in the overlay (default: 0, none)")  # fmt: skip
    add("--alpha", type=alpha_from_text, default=0.5, help="colours in the overlay, 0..1 (default: 0.5)")
    add("--overlay-format", choices=tuple(OVERLAY_SUFFIX), default="png", help="of pictures: jpeg takes a third of the "
        "time and a twelfth of the bytes, and loses a little (default: png)")  # fmt: skip
    add("--quality", type=quality_from_text, metavar="N", help=f"of overlays as JPEG, 1..{BEST} (default: {QUALITY})")
    add("--colors", choices=("own", "cityscapes"), default="own", help="of the classes: their data set's own, or "
        "Cityscapes', which show more over a street (default: own)")  # fmt: skip
    add("--warmup", type=cli.amount_from_text, default=0, metavar="N", help="untimed runs on the first frame, and its "
        "masks written once (default: 0)")  # fmt: skip
    add("--seconds", type=_seconds_from_text, metavar="S", help="stop after so much of a video, of its "
        "own time, or so long of a camera")  # fmt: skip
    add_fit(parser)
    add_cameras(parser)
    add_max_pixels(parser)
    add_require_signed(parser)
    add("--lanes", type=cli.lanes_from_text, metavar="N", help="frames in the engine at once (default: 1 for one "
        "picture or a camera, else what the engine does best)")  # fmt: skip
    cli.add_threads(parser)
    add("--sequential", action="store_true", help="one frame at a time the whole way, to compare with")
    add("--stages", action="store_true", help="mean ms per stage, the busy share of each and frames a second; for one "
        "image the ms are always printed")  # fmt: skip
    add("--json", action="store_true", help="one JSON document on stdout; times in ms, shares 0..1")
    add("--jsonl", action="store_true", help="a line of JSON on stdout for each input as it is done")
    add("--stats", type=Path, metavar="FILE", help="pixels and shares of each class by input: CSV, or .parquet")
    add("--regions", type=Path, metavar="FILE", help="polygons in which --stats counts, too: JSON "
        '{"size": [height, width], "regions": {"NAME": [[x, y], ...]}}')  # fmt: skip
    return parser


def add_cameras(parser: argparse.ArgumentParser) -> None:
    """The options of cameras, and of looking on."""
    add = parser.add_argument
    add("--camera-size", type=_camera_size_from_text, metavar="WxH", help="ask the camera for frames so wide and high, "
        "for example 1280x720")  # fmt: skip
    add("--camera-fps", type=_fps_from_text, metavar="N", help="ask it for so many frames a second")
    add("--camera-format", type=_format_from_text, metavar="XXXX", help="ask it for a format of V4L2: MJPG, YUYV")
    add("--reconnect", type=_patience_from_text, default=PATIENCE_S, metavar="S", help="try what is lost again "
        "for so many seconds; 0: not at all (default: 60)")  # fmt: skip
    add("--show", action="store_true", help="a page of what is seen, for the browser of this machine")
    add("--show-port", type=port_from_text, metavar="PORT", help="its port (default: any that is free)")
    add("--window", action="store_true", help="show it in windows, where this OpenCV has them")


class _Parser(Parser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # argparse has no word for "one or more, or else this option".
        options, rest = super().parse_known_args(args, namespace)
        if not (options.inputs or options.list):
            self.error("the following arguments are required: INPUT, or --list FILE")
        return options, rest


def shard_from_text(text: str) -> Shard:
    """'2/8' -> the second of eight shares; an argparse type.

    Raises:
        argparse.ArgumentTypeError: it has another form.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and len(count) < 7 and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 <= I <= N, for example 2/8")
    return Shard(int(number), int(count))


def saves_from_text(text: str) -> tuple[str, ...]:
    """'overlay,ids' -> (ids, overlay); an argparse type.

    Raises:
        argparse.ArgumentTypeError: one of them is not of `SAVES`.
    """
    asked = text.split(",")
    if not set(asked) <= set(SAVES):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {','.join(SAVES)}")
    return tuple(kind for kind in SAVES if kind in asked)


def alpha_from_text(text: str) -> float:
    """'0.5' -> 0.5; an argparse type, of the colours' part in an overlay.

    Raises:
        argparse.ArgumentTypeError: it is no number from 0 to 1.
    """
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise argparse.ArgumentTypeError(f"alpha {text!r} is not a number from 0 to 1")
    return alpha


def quality_from_text(text: str) -> int:
    """'90' -> 90; an argparse type, of a JPEG.

    Raises:
        argparse.ArgumentTypeError: it is no whole number from 1 to `BEST`.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= BEST):
        raise argparse.ArgumentTypeError(f"{text[:TOLD]!r} is not a quality of JPEG, 1 to {BEST}")
    return int(text)


def _seconds_from_text(text: str) -> float:
    return _number_from_text(text, f"{text!r} is not a number of seconds, more than 0")


def _patience_from_text(text: str) -> float:
    return 0.0 if text == "0" else _number_from_text(text, f"{text!r} is not a number of seconds, 0 or more")


def _fps_from_text(text: str) -> float:
    wrong = f"{text!r} is not a number of frames a second, more than 0 and at most {MOST_FPS}"
    fps = _number_from_text(text, wrong)
    if fps > MOST_FPS:
        raise argparse.ArgumentTypeError(wrong)
    return fps


def _number_from_text(text: str, wrong: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(wrong)
    return number


def _camera_size_from_text(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    sides = [int(side) if side.isascii() and side.isdecimal() and len(side) < 6 else 0 for side in (height, width)]
    if not all(sides):
        raise argparse.ArgumentTypeError(f"{text[:TOLD]!r} is not WIDTHxHEIGHT, as cameras say it, such as 1280x720")
    return sides[0], sides[1]


def _format_from_text(text: str) -> str:
    if not (len(text) == 4 and text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(f"{text[:TOLD]!r} is not four letters, as V4L2 has formats: MJPG, YUYV")
    return text.upper()


def port_from_text(text: str) -> int:
    """'8000' -> 8000; an argparse type.

    Raises:
        argparse.ArgumentTypeError: it is no port, 1 to 65535.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text[:TOLD]!r} is not a port, 1 to 65535")
    return int(text)
