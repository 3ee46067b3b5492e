"""What the GPU kernels need, held to what lets enough of them run at once."""

import shutil

import pytest

from runtime.kernels import cuda
from tests import kernel_registers
from tests.helpers import cuda_on_cpu
from tests.kernel_registers import ARCHITECTURES, Needs, needs

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
QUICK = (75, 120)  # the first and the last
MOST_REGISTERS = 64  # more than that, and two blocks of a 90's eight are gone
LEAST_OCCUPANCY = 0.5  # loads wait for memory some 500 cycles; fewer warps than half would not hide that


@needs_nvcc
@pytest.mark.parametrize(
    "architecture", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in ARCHITECTURES]
)
def test_kernels_spill_nothing_and_leave_room_for_each_other(architecture):
    found = needs(architecture)
    assert len(found) == 16
    for one in found:
        assert (one.stack, one.spilled) == (0, 0), one
        assert one.registers <= MOST_REGISTERS, one
        assert one.occupancy(architecture) >= LEAST_OCCUPANCY, one


@needs_nvcc
def test_a_kernel_that_spills_is_told(tmp_path, monkeypatch):
    source = tmp_path / "segment.cu"
    source.write_text(cuda_on_cpu.source().replace("BLOCKS = 4;", "BLOCKS = 6;"))
    monkeypatch.setattr(cuda, "SOURCE", source)
    assert any(one.spilled and one.stack for one in needs(120))


def test_occupancy_is_what_the_scarcest_allows():
    assert Needs("registers", 64, 0, 0, 0).occupancy(90) == 0.5
    assert Needs("registers", 33, 0, 0, 0).occupancy(90) == 0.75  # in pieces of 256 a warp
    assert Needs("shared", 32, 0, 0, 100 << 10).occupancy(90) == 0.25
    assert Needs("warps", 16, 0, 0, 0).occupancy(75) == 1


def test_what_the_compiler_tells_is_read():
    told = """ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas info    : Function properties for a
    24 bytes stack frame, 20 bytes spill stores, 56 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 24 bytes cumulative stack size, 20480 bytes smem
ptxas info    : Compiling entry function 'b' for 'sm_90'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers
"""
    found = [kernel_registers._needs(one) for one in kernel_registers.USED.finditer(told)]
    assert found == [Needs("a", 40, 24, 56, 20480), Needs("b", 32, 0, 0, 0)]
