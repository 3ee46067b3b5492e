"""`python -m export.prune`: `export.training.prune`."""

from export.training.prune import main
from runtime.cli import run

if __name__ == "__main__":
    run(main)
