"""What pyproject.toml says of the project."""

from pathlib import Path
from typing import Any

try:
    import tomllib  # novm: came with 3.11
except ModuleNotFoundError:
    import tomli as tomllib  # what pytest brings on 3.10

ROOT = Path(__file__).parents[2]


def project() -> dict[str, Any]:
    """Its [project] table."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table
