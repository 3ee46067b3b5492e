"""`python -m export.balance`: `export.training.balance`."""

from export.training.balance import main
from runtime.cli import run

if __name__ == "__main__":
    run(main)
