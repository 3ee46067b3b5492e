"""`python -m runtime.fleet`: `runtime.fleet.command`."""

from runtime.cli import run
from runtime.fleet.command import main

if __name__ == "__main__":
    run(main)
