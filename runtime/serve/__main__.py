"""`python -m runtime.serve`."""

from runtime.cli import run
from runtime.serve import main

if __name__ == "__main__":
    run(main)
