"""`python -m export.ablation`: `export.training.ablation`."""

from export.training.ablation import main
from runtime.cli import run

if __name__ == "__main__":
    run(main)
