"""`python -m runtime.bench_files`: `runtime.measure.bench.files`."""

from runtime.cli import run
from runtime.measure.bench.files import main

if __name__ == "__main__":
    run(main)
