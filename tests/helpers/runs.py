"""What the parts of a document were measured on and of: each belongs to the run that it is from."""

from collections.abc import Mapping
from typing import Any

from tests.helpers.earlier import weights_told


def with_parts(before: Mapping[str, Any], run: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """These parts, measured in this run, beside those of before, which keep the runs that they are from.

    Args:
        before: what this gave before; empty: nothing.
        run: machine, software, engine, date, lanes, picture.
        parts: by name, as JSON values.
    """
    runs = [
        {**old, "parts": [name for name in old["parts"] if name not in parts]}
        for old in (before["runs"] if before else [])
    ]
    runs = [old for old in runs if old["parts"]]
    kept = {name: before[name] for old in runs for name in old["parts"]}
    return {"runs": [*runs, {**run, "parts": list(parts)}], **kept, **parts}


def run_of(found: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The run that a part is from."""
    run: dict[str, Any]
    (run,) = (run for run in found["runs"] if part in run["parts"])
    return run


def conditions(run: Mapping[str, Any]) -> str:
    """Engine, weights where they are not the shipped ones, lanes, machine and date, in words."""
    engine, machine = run["engine"], run["machine"]
    size = "x".join(map(str, engine["network_size"]))
    weights = weights_told(engine["model"], engine["weights_sha256"])
    return (
        f"{engine['model']} {engine['precision']} at {size}{weights and ' with '}{weights}, {run['lanes']} lanes, on "
        f"{machine['cpu']}, {machine['threads']} threads, {run['measured']}"
    )


def unlike(found: Mapping[str, Any], part: str, other: str, what: str) -> str:
    """A sentence that tells what a part was measured on and of, where that is not what another one's is."""
    own = conditions(run_of(found, part))
    return "" if own == conditions(run_of(found, other)) else f" {what}: {own}."
