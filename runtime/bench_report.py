"""`python -m runtime.bench_report`: `runtime.measure.bench.tables`."""

from runtime.cli import run
from runtime.measure.bench.tables import main

if __name__ == "__main__":
    run(main)
