"""What `make` says to a target that is not there, and where `bench-gpu` measures; its commands only told, not run."""

import os
import shutil
import subprocess

import pytest

from tests.helpers.bare_make import bare_make

# Keeps its arguments, and answers with the backend that was asked for, or else with what the test says.
PYTHON = """#!/bin/bash
echo "$@" >> calls
for last; do :; done
if [ "$last" = auto ]; then echo "$AUTO"; else echo "$last"; fi
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on the PATH")


@pytest.fixture
def make(tmp_path):
    """Runs `make` in a folder with the Makefile alone: (exit code, lines of stderr but make's own, commands)."""
    bare_make(tmp_path, PYTHON)

    def run(*words, auto="openvino"):
        environment = {"PATH": os.environ["PATH"], "AUTO": auto}
        done = subprocess.run(
            ["make", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        calls = tmp_path / "calls"
        return done.returncode, said, calls.read_text().splitlines() if calls.exists() else []

    return run


def test_a_target_that_is_not_there_is_one_line_that_says_where_they_are(make):
    assert make("bench-gup") == (2, ["error: there is no target bench-gup; make help lists them"], [])


@pytest.mark.parametrize("given", [(), ("BACKEND=openvino",)])
def test_a_gpus_figures_are_not_measured_on_a_cpu(make, given):
    code, said, calls = make("bench-gpu", *given)
    assert code == 2 and len(said) == 1 and " is openvino here; " in said[0]
    assert len(calls) == 1 and "--check" in calls[0]


@pytest.mark.parametrize(("given", "auto"), [((), "tensorrt"), (("BACKEND=tensorrt-rtx",), "openvino")])
def test_a_gpus_figures_are_of_the_backend_that_is_there_or_asked_for(make, given, auto):
    code, _, calls = make("bench-gpu", "MODEL=enet", "PRECISION=int8", *given, auto=auto)
    backend = given[0].partition("=")[2] if given else auto
    assert code == 0
    paths, kernels = calls[-2:]
    assert "--against torch-cuda-graph" in paths and paths.endswith(f"--json figures/bench-{backend}-enet-int8.json")
    assert "--kernels" in kernels and kernels.endswith(f"--json figures/kernels-{backend}-enet-int8.json")
    assert any("streetseg engine" in call and f"--backend {backend}" in call for call in calls[1:])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "engine model=enet",
            "make engine takes no model (did you mean MODEL?); it takes MODEL PRECISION BACKEND SIZE",
        ),
        ("engine BATCH=4", "make engine takes no BATCH; it takes MODEL"),
        ("demo size=64x128", "make demo takes no size; it takes no variable"),
        ("bench WEIGHTS=x", "make bench takes no WEIGHTS; it takes MODEL PRECISION BENCH_OPTIONS"),
        ("MODEL=enet", "make help takes no MODEL; it takes no variable"),
        ("lint test FOO=1", "make lint test takes no FOO; it takes no variable"),
    ],
)
def test_a_variable_that_no_target_takes_is_one_line_and_nothing_is_run(make, given, said):
    code, lines, calls = make(*given.split())
    assert code == 2 and len(lines) == 1 and said in lines[0] and not calls


def test_what_a_target_takes_by_the_targets_that_it_makes_is_taken(make):
    assert make("bench", "PRECISION=int8", "BENCH_OPTIONS=--rounds 1", "PYTHON=python3")[0] == 0


def test_a_revision_is_built_with_the_packages_of_another_tree(make):
    code, said, calls = make("--silent", "engine", "VENV=.venv", "MODEL=enet", "SIZE=64x128")  # `engines.revision`
    assert (code, said) == (0, []) and calls
