"""`make check` runs the tests that a change can break, and no others."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "changed.py"
specification = importlib.util.spec_from_file_location("changed", SCRIPT)
changed = importlib.util.module_from_spec(specification)
specification.loader.exec_module(changed)

IMPORTS = {
    "tests/conftest.py": set(),
    "tests/helpers/engines.py": {"runtime.spec"},
    "tests/runtime/media/conftest.py": set(),
    "tests/runtime/media/test_video.py": {"runtime.media.video"},
    "tests/runtime/media/test_video_rates.py": set(),
    "tests/runtime/test_spec.py": {"runtime.spec", "tests.helpers.engines"},
    "tests/engines/test_build.py": {"engines", "engines.build", "tests.helpers", "tests.helpers.engines"},
    "tests/test_house.py": set(),
}


@pytest.mark.parametrize(
    ("files", "tests"),
    [
        ([], []),
        (["LICENSE"], []),
        (["runtime/media/video.py"], ["runtime/media/test_video.py", "runtime/media/test_video_rates.py"]),
        (["runtime/spec.py"], ["runtime/test_spec.py"]),
        (["engines/__init__.py"], ["engines/test_build.py"]),
        (["tests/helpers/engines.py"], ["engines/test_build.py", "runtime/test_spec.py"]),
        (["tests/runtime/media/conftest.py"], ["runtime/media/test_video.py", "runtime/media/test_video_rates.py"]),
        (["tests/engines/test_build.py"], ["engines/test_build.py"]),
    ],
)
def test_a_change_runs_the_tests_that_hold_it(files, tests):
    code = any(path.endswith(".py") for path in files)
    assert changed.tests_of(files, IMPORTS) == sorted(f"tests/{name}" for name in [*tests, *["test_house.py"] * code])


@pytest.mark.parametrize("path", changed.EVERYTHING)
def test_what_everything_hangs_on_is_told(path):
    assert changed.tests_of([path, "runtime/spec.py"], IMPORTS) == ["all"]


def test_every_place_that_is_named_is_there():
    named = [*changed.EVERYTHING, *changed.ALWAYS, *changed.READERS]
    named += [test for tests in changed.READERS.values() for test in tests]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_a_base_that_is_not_there_is_one_line():
    done = subprocess.run([sys.executable, SCRIPT, "no-such"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: there is no revision no-such to compare with; name one: make check BASE=HEAD~1\n"
