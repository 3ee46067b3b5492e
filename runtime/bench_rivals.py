"""`python -m runtime.bench_rivals`: `runtime.measure.bench.beside`."""

from runtime.cli import run
from runtime.measure.bench.beside import main

if __name__ == "__main__":
    run(main)
