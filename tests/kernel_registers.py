"""What the GPU kernels need of a multiprocessor, by their compiler: `python -m tests.kernel_registers`."""

import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from runtime.kernels import cuda

THREADS = cuda.BLOCK[0] * cuda.BLOCK[1]


class Multiprocessor(NamedTuple):
    """Of one compute capability: most warps and blocks at once, shared memory in KiB, and what each block loses of it.

    Source: CUDA C++ Programming Guide, technical specifications per compute capability.
    """

    warps: int
    blocks: int
    shared_kib: int
    reserved: int = 1024


REGISTERS, REGISTERS_AT_ONCE = 65536, 256  # of each multiprocessor; a warp gets them in such pieces
ARCHITECTURES = {
    75: Multiprocessor(32, 16, 64, 0),
    80: Multiprocessor(64, 32, 164),
    86: Multiprocessor(48, 16, 100),
    87: Multiprocessor(48, 16, 164),
    89: Multiprocessor(48, 24, 100),
    90: Multiprocessor(64, 32, 228),
    100: Multiprocessor(64, 32, 228),
    110: Multiprocessor(48, 24, 228),
    120: Multiprocessor(48, 24, 100),
}
USED = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers[^\n]*",
    re.DOTALL,
)
SHARED = re.compile(r"(\d+) bytes smem")


class Needs(NamedTuple):
    """Of one kernel on one architecture: registers a thread; bytes of stack, spilled, and of shared memory."""

    kernel: str
    registers: int
    stack: int
    spilled: int
    shared: int

    def occupancy(self, architecture: int) -> float:
        """The share of the warps of a multiprocessor that can be there at once."""
        limits = ARCHITECTURES[architecture]
        a_warp = -(-self.registers * 32 // REGISTERS_AT_ONCE) * REGISTERS_AT_ONCE
        blocks = min(limits.blocks, REGISTERS // a_warp // (THREADS // 32), limits.warps * 32 // THREADS)
        if self.shared:
            blocks = min(blocks, limits.shared_kib * 1024 // (self.shared + limits.reserved))
        return blocks * THREADS / 32 / limits.warps


def needs(architecture: int) -> list[Needs]:
    """What each kernel needs there, by `nvcc -Xptxas -v`."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["nvcc", *cuda.FLAGS, "-Xptxas", "-v", f"-arch=sm_{architecture}", str(cuda.SOURCE)]
        told = subprocess.run([*command, "-o", Path(folder) / "out"], capture_output=True, text=True, check=True).stderr
    return sorted(_needs(found) for found in USED.finditer(told))


def _needs(found: re.Match[str]) -> Needs:
    shared = SHARED.search(found[0])
    spilled = max(int(found["stores"]), int(found["loads"]))
    return Needs(
        found["kernel"], int(found["registers"]), int(found["stack"]), spilled, int(shared[1]) if shared else 0
    )


def main() -> int:
    """A Markdown table: a row a kernel, for each architecture registers, and what of the warps can be there at once."""
    with ThreadPoolExecutor() as pool:
        found = dict(zip(ARCHITECTURES, pool.map(needs, ARCHITECTURES), strict=True))
    print("| registers, occupancy | shared | " + " | ".join(f"sm_{number}" for number in found) + " |")
    print("|---|---|" + "---|" * len(found))
    for row in zip(*found.values(), strict=True):
        cells = [_cell(one, number) for number, one in zip(found, row, strict=True)]
        print(f"| `{row[0].kernel}` | {row[0].shared} | " + " | ".join(cells) + " |")
    return 0


def _cell(one: Needs, architecture: int) -> str:
    spilled = f", {one.stack} B of stack, {one.spilled} spilled" if one.stack or one.spilled else ""
    return f"{one.registers}, {one.occupancy(architecture):.0%}{spilled}"


if __name__ == "__main__":
    sys.exit(main())
