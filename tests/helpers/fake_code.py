"""Trees of code that stand in for a revision of the project: their engines sleep for a given time a frame."""

from pathlib import Path

BACKEND = """
import os
import time
import numpy as np
from runtime.errors import EngineError

class Sleeping:
    stages_ms = {"network": 1.0}

    def segment(self, frame):
        time.sleep(MILLISECONDS / 1e3)  # a loaded machine wakes a sleeper at once, where it would share out a busy core
        return np.zeros(frame.shape[:2], np.uint8)

def open_backend(path):
    print("a library says hello on standard output")
    if "forks" in str(path) and os.fork() == 0:
        time.sleep(60)
    if "refused" in str(path):
        raise EngineError("this engine is refused")
    return Sleeping()
"""
ERRORS = """
class PipelineError(Exception):
    pass

class EngineError(PipelineError):
    pass
"""


def sleeping_code(folder: Path, milliseconds: float) -> Path:
    """A tree whose `runtime` takes that long a frame, whatever the engine."""
    package = folder / f"takes-{milliseconds}" / "runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "errors.py").write_text(ERRORS)
    (package / "backend.py").write_text(BACKEND.replace("MILLISECONDS", str(milliseconds)))
    return package.parent
