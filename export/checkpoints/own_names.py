"""What a user says of a checkpoint, as options of a command; it loads no library, so that no `--help` waits for one."""

from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import WeightsError

if TYPE_CHECKING:
    from runtime.labels import Label


def add_checkpoint(parser: ArgumentParser) -> None:
    """`--classes` and `--ema`."""
    parser.add_argument(
        "--classes", type=Path, metavar="JSON", help="names and colours of the checkpoint's classes (those it holds)"
    )
    parser.add_argument("--ema", action="store_true", help="the average of the weights, of a checkpoint with both")


def classes_from_file(path: Path) -> "tuple[Label, ...]":
    """The classes of a classes.json, as own data sets have them.

    Raises:
        WeightsError: it cannot be read, or is not of that form.
    """
    from runtime.accuracy.own import own_classes_from_values
    from runtime.json_values import read_json

    try:
        return own_classes_from_values(read_json(path)).classes
    except ValueError as error:
        raise WeightsError(f"classes {path}: {error}") from None
    except OSError as error:
        raise WeightsError(f"classes {path} cannot be read ({error.strerror})") from None
