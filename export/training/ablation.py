"""What each option of the training brings: `python -m export.ablation --dataset camvid --data DIR` prints a table.

Short trainings from the same weights, each with one option changed, measured alike. They tell which way an option
pulls in its first steps, and how far two seeds lie apart; not what it brings in a whole training.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.checkpoints.sources import SHIPPED, default_weights
from export.registry import find
from export.training import train as training
from export.training.recipe import plan_epoch
from runtime.accuracy.datasets import DATASETS
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS, sha256_of, write_atomically
from runtime.cli import DONE, MOST_COUNTED, count_from_text, log, number_from_text, progress, seed_from_text, show
from runtime.errors import WeightsError
from runtime.json_values import read_json

START = "the start, not trained"
VARIANTS: dict[str, tuple[str, ...]] = {
    START: (),
    "the defaults": (),
    "dice loss, weight 3": ("--dice", "3"),
    "hard pixels alone (below 0.7)": ("--ohem", "0.7"),
    "class weights of ENet's paper (offset 1.02)": ("--weight-offset", "1.02"),
    "classes weighed alike (offset 1000)": ("--weight-offset", "1000"),
    "no wide views": ("--wide", "0"),
    "loss at the logits' size": ("--loss-at", "logits"),
    "Muon, learning rate 0.02": ("--optimizer", "muon", "--lr", "0.02"),
    "hue and saturation moved": ("--color", "1"),
}
VERSION = 1
RESULT = "result.json"
NEVER = MOST_COUNTED  # epochs


def options_of(args: argparse.Namespace, variant: str, seed: int) -> list[str]:
    """The options of one training, as `export.train` takes them."""
    given: dict[str, Any] = {"model": args.model, "dataset": args.dataset, "data": args.data, "start": args.start}
    given["out"] = args.out / f"{list(VARIANTS).index(variant)}-seed{seed}"
    given |= {"epochs": args.epochs, "lr": args.lr, "crop": args.crop, "seed": seed, "validate-every": NEVER}
    return [*(word for name, value in given.items() for word in (f"--{name}", str(value))), *VARIANTS[variant]]


def measure(options: Sequence[str], every: int, *, trained: bool) -> dict[str, Any]:
    """Train by these options and measure; or what was measured, where that has been done.

    Args:
        options: of `export.train`.
        every: one validation frame in so many is measured.
        trained: or else the weights are measured as they start.

    Returns:
        steps, frames and mIoU by size; JSON values.
    """
    args, recipe = training.parse(options)
    path, command = args.out / RESULT, training.command_of(options)
    # The recipe too, since the command does not tell the defaults; as it comes back from JSON.
    whole = {"command": command, "every": every, "trained": trained, "recipe": dataclasses.asdict(recipe)}
    asked = json.loads(json.dumps(whole))
    if (kept := _kept(path)).get("asked") == asked:
        found: dict[str, Any] = kept["found"]
        return found
    args.out.mkdir(parents=True, exist_ok=True)
    job = training.job_of(args, recipe, command)
    job = job._replace(val=job.val.every(every))
    steps = recipe.epochs * len(plan_epoch(len(job.data), job.recipe, 0)) if trained else 0
    found = {"steps": steps, "frames": len(job.val), "miou": training.train(job) if trained else as_started(job)}
    write_atomically(path, json.dumps({"asked": asked, "found": found}).encode())
    return found


def _kept(path: Path) -> dict[str, Any]:
    # What an earlier run measured; nothing where that cannot be read, and it is measured again.
    try:
        kept = read_json(path) if path.is_file() else {}
        return kept if isinstance(kept, dict) and isinstance(kept.get("found"), dict) else {}
    except (ValueError, OSError) as error:
        log(f"warning: {path} is passed over ({error}): it is measured again")
        return {}


def as_started(job: training.Job) -> dict[str, float]:
    """The mIoU of the weights that a training would start from, by size."""
    state = training.begin(job.network, len(job.classes), job.recipe, job.start)
    return training.validate(job, state, training.sizes_of(job))


def ablate(args: argparse.Namespace) -> dict[str, Any]:
    """Every variant with every seed; the JSON file is written after each, so that an interrupted one has its rows."""
    kept = {key: getattr(args, key) for key in ("model", "dataset", "epochs", "lr", "crop")}
    result: dict[str, Any] = {"version": VERSION, **kept, "start_sha256": sha256_of(args.start), "rows": []}
    trainings = [
        (variant, seed)
        for seed in args.seeds
        for variant in (name for name in VARIANTS if name != START or seed == args.seeds[0])
    ]
    for variant, seed in progress(trainings, "ablate", unit="training"):
        found = measure(options_of(args, variant, seed), args.every, trained=variant != START)
        result["rows"].append({"variant": variant, "options": list(VARIANTS[variant]), "seed": seed, **found})
        write_atomically(args.json, (json.dumps(result, indent=1) + "\n").encode())
        log(f"{variant}, seed {seed}: {shown(result['rows'][-1])}")
    return result


def shown(row: dict[str, Any]) -> str:
    """The mIoU of a training at each size, in words."""
    return ", ".join(f"{100 * miou:.2f} at {size}" for size, miou in row["miou"].items())


def table_of(result: dict[str, Any]) -> str:
    """The Markdown table of what `ablate` returned: a row a variant, its seeds beside each other."""
    rows = result["rows"]
    sizes = list(rows[0]["miou"])
    lines = [
        f"| variant | {' | '.join(f'mIoU at {size}' for size in sizes)} | steps |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        same = [row for row in rows if row["variant"] == variant]
        cells = [", ".join(f"{100 * row['miou'][size]:.2f}" for row in same) for size in sizes]
        lines.append(f"| {variant} | {' | '.join(cells)} | {same[0]['steps']} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """The command; prints the table, and keeps its figures as JSON."""
    parser = Parser(prog="python -m export.ablation", description=__doc__)
    parser.add_argument("--model", default="icnet", help="(default %(default)s)")
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--data", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--start", type=Path, help="weights that all start from (by default those shipped)")
    parser.add_argument(
        "--out", type=Path, default=ARTIFACTS / "ablation", help="folder of the trainings (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="where the figures are kept (export/weights/MODEL-ablation.json)")
    parser.add_argument("--seeds", type=seed_from_text, nargs="+", default=[0, 1], help="(default 0 1)")
    parser.add_argument("--epochs", type=count_from_text, default=1, help="of each training (default %(default)s)")
    parser.add_argument("--lr", type=number_from_text, default=0.01, help="(default %(default)s)")
    parser.add_argument("--crop", default="192x256", help="HEIGHTxWIDTH of the views (default %(default)s)")
    parser.add_argument(
        "--every", type=count_from_text, default=4, help="one validation frame in so many (default %(default)s)"
    )
    args = parser.parse_args(argv)
    find(args.model)
    args.start = args.start or default_weights(args.model)
    if args.start is None:
        raise WeightsError(f"no weights are shipped for {args.model}; give a checkpoint: --start FILE")
    args.json = args.json or SHIPPED / f"{args.model}-ablation.json"
    show(table_of(ablate(args)))
    return DONE
