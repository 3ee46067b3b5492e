"""tests.as_cpu: what every library is told of the CPU, and what a program notices."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.as_cpu import BITS, KINDS
from tests.helpers.project import ROOT

TOLD = """
import numpy as np, openvino, llvmlite.binding, runtime.cpu
print(*runtime.cpu.cpu_features(), sep=",")
print(*openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), sep=",")
print(*(name for name, has in llvmlite.binding.get_host_cpu_features().items() if has), sep=",")
print(*(name for name, has in np._core._multiarray_umath.__cpu_features__.items() if has), sep=",")
print(runtime.cpu.cpu_name())
"""


def flags_here() -> set[str]:
    path = Path("/proc/cpuinfo")
    found = re.search(r"^flags\s*:(.*)$", path.read_text(), re.M) if path.is_file() else None
    return set(found[1].split()) if found else set()


def lacks(kind: str) -> set[str]:
    return {"cpuid_fault", "avx2", *KINDS[kind]} - flags_here()


def as_cpu(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tests.as_cpu", *command], cwd=ROOT, capture_output=True, text=True)


needs = {
    kind: pytest.mark.skipif(bool(lacks(kind)), reason=f"this CPU lacks {' '.join(sorted(lacks(kind)))}")
    for kind in KINDS
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs[kind]) for kind in KINDS])
def test_every_library_is_told_of_the_older_cpu(kind: str) -> None:
    done = as_cpu(kind, sys.executable, "-c", TOLD)
    assert done.returncode == 0, done.stderr
    ours, openvino, llvm, numpy, name = done.stdout.splitlines()
    kept = {flag.replace("_", "") for flag in KINDS[kind]}
    for told in (ours, llvm):
        wide = {
            word.replace("_", "").replace("-", "") for word in told.split(",") if re.match("avx512|amx|avx.?vnni", word)
        }
        assert wide <= kept and ("avx512f" in wide) == ("avx512f" in kept)
    assert ("BF16" in openvino.split(",")) == ("avx512_bf16" in KINDS[kind])
    assert ("AVX512F" in numpy.split(",")) == ("avx512f" in KINDS[kind])
    assert name.endswith(f" as {kind}")


@needs["avx2"]
def test_what_the_command_starts_is_on_the_same_cpu() -> None:
    told = "import runtime.cpu; print(runtime.cpu.cpu_features())"
    inner = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {told!r}], text=True))"
    done = as_cpu("avx2", sys.executable, "-c", inner)
    assert done.stdout.split() == ["('avx2',)"], done.stderr


@needs["avx2"]
def test_a_fault_of_the_programs_own_is_still_its_own() -> None:
    fault = "import ctypes; ctypes.string_at(8)"
    done = as_cpu("avx2", sys.executable, "-X", "faulthandler", "-c", fault)
    assert "Segmentation fault" in done.stderr and "string_at" in done.stderr
    assert done.returncode == 128 + signal.SIGSEGV


@needs["avx2"]
def test_a_commands_exit_code_is_passed_on() -> None:
    assert as_cpu("avx2", "sh", "-c", "exit 7").returncode == 7


def test_what_cannot_be_is_one_line() -> None:
    done = as_cpu("avx2", "no-such-command")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_kinds_are_made_of_known_flags() -> None:
    assert {flag for flags in KINDS.values() for flag in flags} <= BITS.keys()
