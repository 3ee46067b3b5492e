"""What a file may leave open, as options of a command; it loads no library, so that no `--help` waits for one."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, NamedTuple

from runtime.cli import number_from_text, size_from_text
from runtime.errors import ModelError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# As the frames of most networks are brought to their input; `none` leaves the bytes.
PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {"scale": 1 / 255, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "channel_order": "RGB"},
    "minus1to1": {"scale": 1 / 255, "mean": (0.5,) * 3, "std": (0.5,) * 3, "channel_order": "RGB"},
    "0to1": {"scale": 1 / 255, "mean": (0.0,) * 3, "std": (1.0,) * 3, "channel_order": "RGB"},
    "none": {"scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3, "channel_order": "RGB"},
}
ORDERS = ("RGB", "BGR")
OF_FILES = ("output", "name")

Three = tuple[float, float, float]


class Given(NamedTuple):
    """What a user says of the normalisation; None where nothing is said."""

    preprocess: str | None = None  # a preset, or the path of a JSON file
    scale: float | None = None
    mean: Three | None = None
    std: Three | None = None
    order: str | None = None


class Asked(NamedTuple):
    """What is asked of a file, where it does not tell itself."""

    precision: str = "fp32"  # fp32 or fp16
    size: tuple[int, int] | None = None  # (height, width); None: the file's own
    given: Given = Given()
    classes: Path | None = None  # a classes.json
    output: str | None = None  # that segments
    name: str | None = None  # of the network; None: the file's


NOTHING_ASKED = Asked()


def add_options(parser: ArgumentParser, *, size: bool = False, classes: bool = True) -> None:
    """The options, and those of size and classes where the command has none."""
    add_normalization(parser)
    add = parser.add_argument_group("of an ONNX file, what it does not tell").add_argument
    if size:
        add("--size", type=size_from_text, help="HEIGHTxWIDTH of its input, where its axes are free (1024x2048)")
    if classes:
        add("--classes", type=Path, metavar="JSON", help="names and colours, as own data sets have them")
    add("--output", help="which output segments, where several could")
    add("--name", help="of the network (the file's)")


def add_normalization(parser: ArgumentParser) -> None:
    """How frames are normalised, where neither an ONNX file, nor a network's code, nor its weights say it."""
    add = parser.add_argument_group("of an ONNX file or a network of one's own: how frames are normalised").add_argument
    add("--preprocess", metavar="FILE", help=f"the JSON of a Preprocess, or {', '.join(PRESETS)}")
    add("--mean", type=number_from_text, nargs=3, metavar="M", help="of each channel, in units of the scaled value")
    add("--std", type=number_from_text, nargs=3, metavar="S", help="of each channel")
    add("--scale", type=number_from_text, help="what bytes are multiplied with first, such as 0.00392157")
    add("--order", choices=ORDERS, help="of the channels")


def given_by(options: Namespace) -> Given:
    """What `add_normalization` parsed."""
    mean, std = (_three(values) for values in (options.mean, options.std))
    return Given(options.preprocess, options.scale, mean, std, options.order)


def asked_from(options: Namespace, precision: str) -> Asked:
    """What `add_options` parsed."""
    return Asked(precision, options.size, given_by(options), options.classes, options.output, options.name)


def refuse_options(options: Namespace, what: str) -> None:
    """Of a network that is none of another's files neither output nor name is asked.

    Raises:
        ModelError: one of the options was given.
    """
    given = [f"--{name}" for name in OF_FILES if getattr(options, name) is not None]
    if given:
        raise ModelError(f"{' and '.join(given)}: of an ONNX file (--onnx) alone, but {what} was given")


def _three(values: list[float] | None) -> Three | None:
    return None if values is None else (values[0], values[1], values[2])
