"""`streetseg engines` and `streetseg models`: what `streetseg.listing` finds as a table, or as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.arguments import Parser
from runtime.cli import DONE, log, show, size_from_text
from runtime.commands import command
from runtime.manifest import ENGINES
from streetseg import listing
from streetseg.stages import SIZE

AGES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def engines(argv: Sequence[str]) -> int:
    """Print the engines on disk, the newest first."""
    parser = Parser(
        prog="streetseg engines", description="Engines on disk, newest first, and which this machine opens."
    )
    parser.add_argument("--folder", type=Path, default=ENGINES, help="where they are kept (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout; ages in seconds")
    asked = parser.parse_args(argv)
    found = listing.engines(asked.folder)
    if asked.json:
        show(_as_json([{"name": engine.name, **dataclasses.asdict(engine)} for engine in found]))
    elif found:
        show(_table(["engine", "network", "size", "precision", "backend", "age", "fits"], map(_engine_row, found)))
    else:
        build = command("engine", model="icnet", precision="fp16")
        log(f"no engine in {asked.folder}. Build one: {build}")
    return DONE


def models(argv: Sequence[str]) -> int:
    """Print the networks, with what each costs, its weights and their licence.

    Raises:
        PipelineError: torch is not installed, or a network is unknown.
    """
    parser = Parser(prog="streetseg models", description="Networks, with their cost, shipped weights and licence.")
    parser.add_argument("names", nargs="*", metavar="MODEL", help="only these (all)")
    parser.add_argument("--size", type=size_from_text, default=SIZE, help="HEIGHTxWIDTH that GMAC is of (1024x2048)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    asked = parser.parse_args(argv)
    found = listing.models(asked.size, asked.names)
    if asked.json:
        show(_as_json([dataclasses.asdict(model) for model in found]))
    else:
        heads = ["network", "parameters", "GMAC", "at", "weights", "licence of the weights", "source"]
        show(_table(heads, map(_model_row, found)))
    return DONE


def age_text(age_s: float | None) -> str:
    """Seconds in their largest whole unit: '3 h'."""
    if age_s is None:
        return "-"
    unit, length_s = next((each for each in AGES if age_s >= each[1]), AGES[-1])
    return f"{age_s / length_s:.0f} {unit}"


def _engine_row(engine: listing.Engine) -> list[str]:
    told = [engine.model or "-", _size(engine.size), engine.precision or "-", engine.backend or "-"]
    return [engine.name, *told, age_text(engine.age_s), "yes" if engine.fits else f"no: {engine.fault}"]


def _model_row(model: listing.Model) -> list[str]:
    weights = model.weights.name if model.weights else "none shipped"
    cost = [f"{model.parameters:,}", f"{model.gmac:.1f}", _size(model.size)]
    return [model.name, *cost, weights, model.licence or "-", model.source]


def _size(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size)) if size else "-"


def _table(heads: list[str], rows: Any) -> str:
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads) - 1)]
    padded = [[*(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)), line[-1]] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _as_json(found: list[dict[str, Any]]) -> str:
    return json.dumps(found, indent=1, default=str)
