"""The gate, run quickly."""

from collections.abc import Callable

from runtime.measure.gate.regress import main

QUICK = ["--rounds", "12", "--frames", "3"]
Speeds = Callable[..., None]


def run(*arguments: object) -> int:
    """The exit code of rounds that are few and short."""
    return main([*QUICK, *map(str, arguments)])
