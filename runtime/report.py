"""`python -m runtime.report`: `runtime.measure.bench.report`."""

from runtime.cli import run
from runtime.measure.bench.report import main

if __name__ == "__main__":
    run(main)
