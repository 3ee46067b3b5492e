"""`python -m runtime.bench_scaling`: `runtime.measure.bench.scaling`."""

from runtime.cli import run
from runtime.measure.bench.scaling import main

if __name__ == "__main__":
    run(main)
