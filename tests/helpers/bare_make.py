"""A folder with the Makefile alone, and a Python in its place that only tells what it was asked."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bare_make(folder: Path, python: str) -> None:
    """Put the Makefile into a folder, with `python`, an executable's text, as the interpreter it calls."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    (folder / "constraints.txt").touch()
    path = folder / ".venv/bin/python"
    path.parent.mkdir(parents=True)
    path.write_text(python)
    path.chmod(0o755)
    (folder / ".venv/.installed").touch()
