"""`python -m runtime.regress`: `runtime.measure.gate.regress`."""

from runtime.cli import run
from runtime.measure.gate.regress import main

if __name__ == "__main__":
    run(main)
