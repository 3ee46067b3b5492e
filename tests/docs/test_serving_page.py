"""What the page of serving says of the server's bounds is what the server does."""

import re

from runtime.serve.limits import MIB
from runtime.serve.options import limits_of, options_of
from tests.helpers.project import ROOT

# The defaults of --wait-seconds and --max-pixels are told in words.
ROW = re.compile(r"^\| `--([a-z-]+)` \| (\d+)(?: MiB)? \|", re.M)
NO_OPTIONS = {"header_s", "idle_s"}


def test_the_table_of_bounds_has_every_one_with_its_default():
    rows = ROW.findall((ROOT / "docs/serving.md").read_text())
    told = {name.replace("-", "_"): int(default) for name, default in rows}
    options = options_of([])
    assert told == {name: vars(options)[name] for name in told}
    limits = {**limits_of(options)._asdict(), "body_bytes": limits_of(options).body_bytes // MIB}
    bounds = sorted(value for name, value in limits.items() if name not in NO_OPTIONS and value is not None)
    assert bounds == sorted(told.values())
