"""A model repository for Triton, and what its python backend loads: `python -m runtime.triton`."""

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """The command; see `runtime.triton.command.main`."""
    from runtime.triton.command import main as triton  # not above: Triton loads `runtime.triton.model` alone

    return triton(argv)
