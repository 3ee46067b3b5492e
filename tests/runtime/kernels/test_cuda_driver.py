"""All of tests/gpu over an NVIDIA driver that is imitated on the CPU, and that the imitation holds its rules."""

import itertools
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


def test_all_tests_for_a_gpu_pass_on_the_imitated_driver(on_the_driver, shipped):
    for model, precision in itertools.product(("enet", "icnet"), ("fp32", "fp16")):
        shipped(model, precision)  # which are found there: not traced once more
    pytest_ = ("-m", "pytest", "-o", "addopts=--strict-markers", "-p", "no:cacheprovider")
    passed(on_the_driver(*pytest_, "-m", "gpu", "tests/gpu"))


# The rule, what the program sees of it, and what the driver says.
RULES = [
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
]


@pytest.fixture(scope="module")
def broken(on_the_driver):
    """What was seen and what was said of each rule that was broken."""
    done = on_the_driver("-m", "tests.helpers.cuda_driver.rules", *(rule for rule, _, _ in RULES))
    assert done.returncode == 0, done.stderr
    parts = (text.split(f"{cuda_driver.BETWEEN}\n") for text in (done.stdout, done.stderr))
    return dict(zip((rule for rule, _, _ in RULES), zip(*parts, strict=True), strict=False))


@pytest.mark.parametrize(("rule", "seen", "said"), RULES, ids=[rule for rule, _, _ in RULES])
def test_a_rule_that_is_broken_shows(broken, rule, seen, said):
    out, err = broken[rule]
    lines = [line for line in err.splitlines() if line.startswith(SAID)]
    assert seen in out and len(lines) == bool(said) and all(said in line for line in lines), err
