"""The options of `python -m export.train`, and the recipe that they ask for."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from export.adopting.options import add_normalization, given_by
from export.checkpoints.sources import check_file
from export.own_normalization import agreed, said_by
from export.registry import Network, find, names, nearest_size
from export.training.losses import LossAt
from export.training.recipe import DEFAULTS, OTHERS, Recipe
from runtime.accuracy.datasets import DATASETS
from runtime.arguments import Parser
from runtime.artifacts import sha256_of
from runtime.cli import count_from_text, seed_from_text, size_from_text
from runtime.errors import LibraryError
from runtime.media.frames import add_max_pixels

# Both ends may be given. An offset of 1 would weigh a class that is nowhere infinitely; NumPy takes no negative seed.
RANGES: dict[str, tuple[float, float]] = {
    "minutes": (0, 1_000_000),
    "seed": (0, 2**32 - 1),
    "lr": (1e-9, 1000),
    "weight_decay": (0, 1000),
    "weight_offset": (1.001, 1_000_000),
    "dice": (0, 1000),
    "ohem": (0, 1),
    "wide": (0, 1),
    "large": (0, 1024),
    "color": (0, 1),
    "dropout": (0, 1),
}
AS_GIVEN = ("batch", "seed", "epochs", "minutes", "encoder_only", "decoder_only", "qat")  # by no model's defaults
MOST_WIDTH = 1024
FOLDERS = ("--data", "--out", "--start")


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Recipe]:
    """The options, and the recipe: the model's defaults with what the options change.

    Raises:
        LibraryError: cuda is asked, and torch finds no CUDA device.
        WeightsError: what is given with --start is no file.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    said = agreed(said_by(given_by(args)), args.start)
    if wrong := refused(args, find(args.model, said)) or out_of_range(args):
        parser.error(wrong)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise LibraryError(
            "training on cuda was asked, but torch finds no CUDA device; --device cpu is slower but works"
        )
    defaults = DEFAULTS.get(args.model, OTHERS)
    chosen = {key: value if (value := getattr(args, key)) is not None else defaults[key] for key in OTHERS}
    if args.start:
        check_file(args.start)
        chosen["start_sha256"] = sha256_of(args.start)
    return args, Recipe(
        normalization=(*said,) if said else None, **{key: getattr(args, key) for key in AS_GIVEN}, **chosen
    )


def make_parser() -> argparse.ArgumentParser:
    """The options with their defaults; those without one here have a default of their model, in `recipe.py`."""
    description = "Train a network on labelled frames, on from the checkpoint in --out where there is one."
    parser = Parser(prog="python -m export.train", description=description)
    parser.add_argument("--model", required=True, help=f"one of {', '.join(names())}, or path/to/net.py:build")
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--data", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--out", required=True, type=Path, help="folder of checkpoint, log and weights")
    parser.add_argument("--epochs", type=count_from_text, default=300, help="passes over the frames (%(default)s)")
    parser.add_argument("--minutes", type=float, default=0.0, help="instead of --epochs: end after this much time")
    parser.add_argument("--batch", type=count_from_text, default=8, help="frames a step (default %(default)s)")
    parser.add_argument("--seed", type=seed_from_text, default=0, help="(default %(default)s)")
    parser.add_argument("--validate-every", type=count_from_text, default=5, help="epochs (default %(default)s)")
    add_max_pixels(parser)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default %(default)s)")
    parser.add_argument("--workers", type=count_from_text, default=1, help="threads that make batches (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="the loss; of ENet the network too, after minutes")
    add_recipe(parser)
    add_normalization(parser)
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The options that decide the weights and have a default a model, or none."""
    parser.add_argument("--optimizer", choices=("sgd", "adamw", "muon"), help=f"({default_of('optimizer')})")
    parser.add_argument("--lr", type=float, help=f"peak learning rate ({default_of('lr')}; whatever the optimizer)")
    parser.add_argument(
        "--weight-decay",
        type=float,
        help=f"of kernels ({default_of('weight_decay')}); with muon of those that give logits alone",
    )
    parser.add_argument(
        "--weight-offset",
        type=float,
        help=f"of the class weights 1 / ln(offset + share) ({default_of('weight_offset')})",
    )
    parser.add_argument("--dice", type=float, help=f"weight of a dice loss beside cross-entropy ({default_of('dice')})")
    parser.add_argument("--ohem", type=float, help="learn pixels whose class has less than this probability (off; 0.7)")
    parser.add_argument("--loss-at", choices=get_args(LossAt), help=f"size of the loss ({default_of('loss_at')})")
    parser.add_argument(
        "--wide", type=float, help="share of wide views, as large as the deployed size's (1/3; 0 for frames as large)"
    )
    parser.add_argument(
        "--large", type=int, help="frames of every fourth step, of views twice as high and wide (a quarter of --batch)"
    )
    parser.add_argument("--color", type=float, help="0 to 1: how far hue and saturation of a view are moved (0)")
    parser.add_argument("--width", type=int, help="of an ICNet: 64 is unpruned, 32 as released (default)")
    parser.add_argument("--dropout", type=float, help="rate of every spatial dropout (enet 0, others their paper's)")
    parser.add_argument("--encoder-only", action="store_true", help="ENet: its encoder alone, the first of two stages")
    parser.add_argument("--decoder-only", action="store_true", help="ENet: its decoder alone, the second of the stages")
    parser.add_argument("--start", type=Path, help="weights to start from, such as those of --encoder-only")
    parser.add_argument("--qat", action="store_true", help="round as INT8 will while training on; needs --start")
    parser.add_argument("--crop", type=size_from_text, help="HEIGHTxWIDTH of the views (enet 240x320, others 352x480)")


def default_of(key: str) -> str:
    """What an option is where it is not given, for its help: of each model that has its own, and of the others."""
    own = [f"{model} {values[key]}" for model, values in DEFAULTS.items() if values[key] != OTHERS[key]]
    return ", ".join([*own, f"{'others ' if own else 'default '}{OTHERS[key]}"])


def refused(args: argparse.Namespace, network: Network) -> str:
    """What is wrong with options that do not go together or with the network; empty where nothing is."""
    if (args.encoder_only or args.decoder_only) and network.name != "enet":
        return "--encoder-only and --decoder-only are for --model enet"
    if args.encoder_only and args.decoder_only:
        return "--encoder-only and --decoder-only are two stages: give one, and the second stage --start"
    if network.size_offset:
        return f"{network.name} aligns corners and cannot be trained, since its views double in size: --model icnet can"
    if args.crop and nearest_size(network, *args.crop) != args.crop:
        near = "x".join(map(str, nearest_size(network, *args.crop)))
        return (
            f"--crop: height and width are multiples of {network.size_multiple} for {network.name}; nearest is {near}"
        )
    if args.width is not None and (not network.width_of or not 1 <= args.width <= MOST_WIDTH):
        return (
            f"--width {args.width} is for a network that can have several, 1 to {MOST_WIDTH}: --model icnet --width 64"
        )
    if args.qat and not args.start:
        return "--qat trains on what was trained without it: give --start WEIGHTS, few --epochs and a small --lr"
    if args.width is not None and args.start:
        return "--width is for random weights; those of --start have a width of their own"
    return ""


def out_of_range(args: argparse.Namespace) -> str:
    """The first number that is out of its range, NaN too; empty where none is."""
    for name, (lowest, highest) in RANGES.items():
        value = getattr(args, name)
        if value is not None and not lowest <= value <= highest:
            return f"--{name.replace('_', '-')} is {value}, expected {lowest} to {highest}"
    return ""


def command_of(argv: Sequence[str]) -> str:
    """The command as the weights file keeps it, without the folders of the machine that it ran on."""
    shown = list(argv)
    for i in range(1, len(shown)):
        if shown[i - 1] in FOLDERS:
            shown[i] = Path(shown[i]).name
    return shlex.join(["python", "-m", "export.train", *shown])
