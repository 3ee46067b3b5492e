"""`python -m streetseg`, and the command `streetseg`."""

import sys
from pathlib import Path

HOME = Path(__file__).parents[1]


def forget_the_users_folder() -> None:
    """Python searches the current folder first with -m: a `runtime.py` of the user's would be taken for our package."""
    searched = not getattr(sys.flags, "safe_path", False)
    if searched and sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd() != HOME:
        del sys.path[0]


def start() -> None:
    """Do what the command line asks, and exit."""
    from runtime.cli import run
    from streetseg.cli import main

    run(main)


if __name__ == "__main__":
    forget_the_users_folder()
    start()
