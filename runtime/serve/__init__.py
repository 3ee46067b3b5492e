"""Masks over HTTP: `python -m runtime.serve`; the extra `serve` brings what it needs."""

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """The command; see `runtime.serve.command.main`."""
    from runtime.serve.command import main as serve  # not above: the parts of this room are used by themselves, too

    return serve(argv)
