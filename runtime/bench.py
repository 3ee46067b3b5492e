"""`python -m runtime.bench`: `runtime.measure.bench.latency`."""

from runtime.cli import run
from runtime.measure.bench.latency import main

if __name__ == "__main__":
    run(main)
