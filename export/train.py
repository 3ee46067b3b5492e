"""`python -m export.train`: `export.training.train`."""

from export.training.train import main
from runtime.cli import run

if __name__ == "__main__":
    run(main)
