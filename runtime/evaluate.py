"""`python -m runtime.evaluate`: `runtime.accuracy.evaluate`."""

from runtime.accuracy.evaluate import main
from runtime.cli import run

if __name__ == "__main__":
    run(main)
