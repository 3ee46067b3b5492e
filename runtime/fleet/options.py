"""The options of `runtime.fleet`."""

import argparse
import glob
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.arguments import Parser, meant
from runtime.artifacts import ARTIFACTS
from runtime.fit import add_fit
from runtime.fleet.plan import LIST
from runtime.fleet.stores import scheme_of
from runtime.infer_options import alpha_from_text, saves_from_text, shard_from_text
from runtime.media.frames import add_max_pixels
from runtime.signature import add_require_signed
from runtime.spec import BACKENDS, PRECISIONS

DESCRIPTION = """`python -m runtime.fleet INPUT... -o DIR`: masks of many pictures and videos, over many machines.

`plan INPUT...` lists the items and does none; `--item K/N` does a share of them here, without Ray; `merge` joins the
rows of such shares."""
PLAN, MERGE = "plan", "merge"
OF_A_PLAN = ("save", "alpha", "colors", "fit", "part_seconds")  # what items are, and what is made of them
PART_S, MOST_PART_S = 60.0, 86400.0


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The options of one run; what contradicts itself is usage.

    `word` is the `plan` or `merge` that it begins with, `given` those `OF_A_PLAN` that are typed.
    """
    parser = _parser()
    defaults = {name: parser.get_default(name) for name in OF_A_PLAN}
    parser.set_defaults(**dict.fromkeys(defaults))
    options = parser.parse_args(argv)
    options.given = tuple(name for name in OF_A_PLAN if getattr(options, name) is not None)
    for name in defaults.keys() - set(options.given):
        setattr(options, name, defaults[name])
    options.word = options.inputs.pop(0) if options.inputs[:1] in ([PLAN], [MERGE]) else None
    if options.word is None and options.inputs[:1] and (slip := _slip(options.inputs[0])):
        parser.error(f"{options.inputs[0]}: does not exist{slip}")
    if options.word and options.item:
        parser.error(f"{options.word} is of all items: no --item beside it")
    if options.word == MERGE and (options.inputs or options.list):
        # Inputs would be planned anew, by the options that are typed beside `merge`.
        where = next(filter(_is_run, options.inputs), options.output)
        parser.error(f"merge joins what was planned, where it lies, and takes no inputs: merge -o {where}")
    if options.word == PLAN and not (options.inputs or options.list):
        parser.error("plan lists inputs: name some")
    if options.word is None and options.item is None and not (options.inputs or options.list):
        parser.error("name inputs: files, folders, globs, or s3://BUCKET/PREFIX/")
    return options


def _slip(first: str) -> str:
    # Taken for an input, a word that is misspelt would do all that `plan` and `merge` are there to leave.
    is_input = glob.has_magic(first) or scheme_of(first) or Path(first).exists()
    return "" if is_input else meant(first.lower(), (PLAN, MERGE))


def _is_run(path: str) -> bool:
    return Path(path, LIST).is_file()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m runtime.fleet", description=DESCRIPTION)
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="image, video, glob, folder, or such in a store: "
        "s3://BUCKET/PREFIX/; the word plan or merge before them (a file of that name: ./plan)")  # fmt: skip
    add("--list", action="append", default=[], metavar="FILE", help="inputs, one a line; - is standard input")
    add("-o", "--output", default=str(ARTIFACTS / "fleet"), metavar="DIR", help="folder, or s3://BUCKET/PREFIX "
        "(default: %(default)s)")  # fmt: skip
    add(
        "--item",
        type=shard_from_text,
        metavar="K/N",
        help="do the K-th of N equal shares of the items here, without Ray",
    )
    add("--save", type=saves_from_text, default=("ids",), help="which of ids,color,overlay (default: ids)")
    add("--alpha", type=alpha_from_text, default=0.5, help="colours in the overlay, 0..1 (default: 0.5)")
    add("--colors", choices=("own", "cityscapes"), default="own", help="of the classes (default: own)")
    add_fit(parser)
    add("--part-seconds", type=_part_from_text, default=PART_S, metavar="S", help="film in an item, from a key frame "
        "on; 0: a video is one item (default: 60)")  # fmt: skip
    add("--retry-errors", action="store_true", help="do items again whose row has an error")
    _add_engines(parser)
    _add_machines(parser)
    add_max_pixels(parser)
    return parser


def _add_engines(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--engine", type=Path, nargs="+", default=[], metavar="FILE", help="one for each kind of machine (default: "
        "this machine's newest)")  # fmt: skip
    add("--graph", type=Path, metavar="ONNX", help="what a machine builds its engine of that none of them is for")
    add("--precision", choices=PRECISIONS, default="fp16", help="of what is built of --graph (default: fp16)")
    add("--backend", choices=("auto", *BACKENDS), default="auto", help="of what is built of --graph (default: auto)")
    add_require_signed(parser)


def _add_machines(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--address", metavar="HOST:PORT", help="of a Ray cluster's head (default: Ray on this machine alone)")
    add(
        "--workers",
        type=cli.count_from_text,
        metavar="N",
        help="engines that are open at once (default: one a machine)",
    )
    add("--worker-cpus", type=cli.count_from_text, default=1, metavar="N", help="CPUs that Ray counts for each; leave "
        "one a machine uncounted (default: 1)")  # fmt: skip
    add("--worker-gpus", type=cli.amount_from_text, default=0, metavar="N", help="GPUs that Ray counts for each "
        "(default: 0)")  # fmt: skip
    add(
        "--lanes",
        type=cli.lanes_from_text,
        metavar="N",
        help="frames in an engine at once (default: what it does best)",
    )
    cli.add_threads(parser)


def _part_from_text(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MOST_PART_S:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number of seconds, 0 to {MOST_PART_S:.0f}")
    return seconds
