"""`python -m runtime.triton`."""

from runtime.cli import run
from runtime.triton import main

if __name__ == "__main__":
    run(main)
