"""What the page of odd inputs says is held by tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_row_names_a_test_that_is_there():
    rows = [line for line in (ROOT / "docs/inputs.md").read_text().splitlines() if line.startswith("| ")][1:]
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)\(", sources, re.MULTILINE))
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 20 and sum(not each for each in named) <= 1  # one is a figure alone
    assert {name for each in named for name in each} <= there
