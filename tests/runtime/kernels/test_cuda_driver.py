"""All of tests/gpu over an NVIDIA driver that is imitated on the CPU, and that the imitation holds its rules."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import cuda_driver

ROOT = Path(__file__).parents[3]
SAID = "[imitated CUDA]"
pytestmark = pytest.mark.skipif(cuda_driver.missing() is not None, reason=str(cuda_driver.missing()))


@pytest.fixture(scope="module")
def on_the_driver():
    """Run Python with these arguments on the imitated driver."""
    environment = cuda_driver.environment()

    def run(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


def passed(done):
    """No test failed, nothing was left and no rule was broken: what says otherwise is shown."""
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert SAID not in done.stdout + done.stderr, done.stderr[-2000:]
    assert " passed" in done.stdout, done.stdout[-2000:]


PYTEST = ("-m", "pytest", "-o", "addopts=--strict-markers", "-p", "no:cacheprovider")


def test_the_gpu_tests_of_engines_pass_on_the_imitated_driver(on_the_driver):
    which = "stand-in or tensorrt and not rtx"  # the imitated libraries are one
    passed(on_the_driver(*PYTEST, "-m", "gpu and not slow", "-k", which, "tests/gpu"))


@pytest.mark.slow
def test_all_tests_for_a_gpu_pass_on_the_imitated_driver(on_the_driver):
    passed(on_the_driver(*PYTEST, "-m", "gpu", "tests/gpu"))


@pytest.mark.parametrize(
    ("rule", "seen", "said"),
    [
        ("nothing", "None", ""),
        ("missing_wait", "(9, 9)", ""),  # the copy in came after both lines
        ("free_in_use", "None", "VIOLATION cuMemFree_v2: of what a stream still uses"),
        ("beyond_an_allocation", "cuMemcpyHtoDAsync failed", "VIOLATION cuMemcpyHtoDAsync_v2: beyond an allocation"),
        ("without_a_context", "201", "VIOLATION cuMemFree_v2: no context is current"),
        ("allocation_in_a_capture", "error 900", ""),
        ("other_threads_allocate", "True", ""),
        ("freed_memory_in_a_graph", "CUDA error 700", "VIOLATION cuGraphLaunch: htod uses memory that was freed"),
        ("unknown_call", "error 801", "VIOLATION cuMemsetD8_v2: is not imitated"),
        ("write_beyond", "None", "VIOLATION cuMemFree_v2: something wrote before or after the allocation"),
        ("leak", "None", "LEAK 1 events"),
    ],
)
def test_a_rule_that_is_broken_shows(on_the_driver, rule, seen, said):
    done = on_the_driver("-m", "tests.helpers.cuda_driver.rules", rule)
    assert done.returncode == 0 and seen in done.stdout, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(SAID)]
    assert len(lines) == bool(said) and all(said in line for line in lines), done.stderr
