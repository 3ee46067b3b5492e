"""What the GPU kernels ask of memory on the street frame, counted on a CPU: `python -m tests.kernel_counts`.

A warp's access is one instruction for up to 32 lanes; a sector is the 32 bytes that a GPU moves at least. Accesses with
fewer lanes than 32 are where lanes wait for others. Caches are not counted: a sector is counted for each access.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engines.build import build_engine
from export.to_onnx import Request, export
from runtime import reference
from runtime.backend import open_backend
from runtime.kernels import cuda
from runtime.kernels.cuda import Axes, Launch, Pixels, Tensor
from runtime.media.frames import read_frame
from tests.helpers import cuda_on_cpu
from tests.helpers.project import ROOT

SIZE = (512, 1024)
STREET = ROOT / "runtime" / "samples" / "street.jpg"
SOURCE, HEADER = "runtime/kernels/segment.cu", "runtime/kernels/layout.cuh"
COUNTER = cuda_on_cpu.HERE / "cuda_counts.cpp"
# In the order of the source, so that an address tells what comes before what; nothing is called.
FLAGS = ("-std=c++17", "-O1", "-fno-reorder-blocks", "-fno-tree-ch", "-ffp-contract=off", "-fPIC", "-w")


class Count(NamedTuple):
    """Of one launch: accesses of warps, those of all 32 lanes, lanes of all accesses, sectors."""

    accesses: int
    lanes: int
    full: int
    sectors: int

    def as_text(self) -> str:
        """A row of a Markdown table."""
        share = self.lanes / max(1, self.accesses) / 32
        return f"{self.accesses} | {self.accesses - self.full} | {share:.0%} | {self.sectors}"


class Counted:
    """The place of `kernel_runs` that counts."""

    def __init__(self, source: str) -> None:
        self.counts: list[tuple[str, Count]] = []
        self._library = _compiled(source)
        self._arrays: dict[int, np.ndarray] = {}

    def put(self, array: np.ndarray) -> int:
        """The address of a copy of `array`, whose accesses are counted."""
        copy = cuda_on_cpu.aligned(array)
        self._arrays[copy.ctypes.data] = copy
        return copy.ctypes.data

    def get(self, address: int, like: np.ndarray) -> np.ndarray:
        """What lies there."""
        return self._arrays[address]

    def launch(self, launch: Launch) -> None:
        """Run it and add what it did."""
        for address, array in self._arrays.items():
            self._library.count_in(ctypes.c_size_t(address), ctypes.c_size_t(address + array.nbytes))
        cuda_on_cpu.run(launch, self._library)
        taken = (ctypes.c_ulonglong * 4)()
        self._library.take_counts(taken)
        self.counts.append((launch.kernel, Count(*taken)))


def _compiled(source: str) -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp(prefix="counted-"))
    (folder / "segment.cu").write_text(source)
    out, shim, counter = folder / "counted.so", folder / "shim.o", folder / "counter.o"
    last = () if "resize_normalize_last_##" in source else ("-DPLANAR_ALONE",)
    last += () if "confidence_last_##" in source else ("-DMASKS_ALONE",)
    define = f'-DSEGMENT_CU="{folder / "segment.cu"}"'
    compiler = cuda_on_cpu.compiler()
    told = ("-fsanitize=thread", "-DCOUNTED", define, *last)
    subprocess.run([compiler, *FLAGS, *told, "-c", cuda_on_cpu.SHIM, "-o", shim], check=True)
    subprocess.run([compiler, *FLAGS, "-O2", "-c", COUNTER, "-o", counter], check=True)
    subprocess.run([compiler, "-shared", shim, counter, "-o", out], check=True)
    return ctypes.CDLL(str(out))


def masks(place: Counted, logits: np.ndarray, block: int, *, old: bool, last: bool) -> np.ndarray:
    """The mask at `SIZE`, by the launches that the backend makes; `old`: of the kernels before other layouts."""
    channels, h, w = logits.shape[1:]
    ordered = np.ascontiguousarray(logits.transpose(0, 2, 3, 1)) if last else logits
    tensor = Tensor(place.put(ordered), (channels, h, w), "fp16", last)
    coarse = (h * block, w * block)
    winners, mask = place.put(np.zeros(coarse, np.uint8)), place.put(np.zeros(SIZE, np.uint8))
    if coarse == SIZE and not old:
        place.launch(cuda.coarse_winner(tensor, block, mask, undecided=False))
        return place.get(mask, logits)
    down, across = (place.put(cuda.axis_samples(*sizes)) for sizes in zip(coarse, SIZE, strict=True))
    place.launch(_old_coarse_winner(tensor, block, winners) if old else cuda.coarse_winner(tensor, block, winners))
    place.launch(cuda.upsample_argmax(tensor, block, winners, Axes(across, down), Pixels(mask, *SIZE)))
    return place.get(mask, logits)


def _old_coarse_winner(logits: Tensor, block: int, winners: int) -> Launch:
    channels, height, width = logits.shape
    arguments = (logits.address, channels // block**2, block, height, width, winners)
    grid = (-(-width // 32), -(-height // 8))
    return Launch("coarse_winner_fp16", "PiiiiP", grid, (*cuda.BLOCK, 1), arguments)


def logits_of(model: str, folder: Path) -> tuple[np.ndarray, int]:
    """float16 logits of the street frame by the shipped weights, and the network's block."""
    engine = build_engine(export(Request(model, "fp32", *SIZE)), "fp32", "onnxruntime", folder)
    with open_backend(engine) as backend:
        return backend.logits(read_frame(STREET)).astype(np.float16), backend.spec.block


def source_of(revision: str) -> str:
    """segment.cu of that revision, with its header where it had one."""
    show = [
        subprocess.run(["git", "show", f"{revision}:{name}"], cwd=ROOT, capture_output=True, text=True, check=False)
        for name in (SOURCE, HEADER)
    ]
    show[0].check_returncode()
    return cuda_on_cpu.with_header(show[0].stdout, show[1].stdout)


def main(argv: list[str]) -> int:
    """A table: a row a network, a source, a layout and a kernel."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel_counts", description=__doc__)
    parser.add_argument("--against", metavar="REVISION", help="count the kernels of that revision as well")
    parser.add_argument("models", nargs="*", default=["icnet", "enet"], help="default: icnet enet")
    given = parser.parse_args(argv)
    sources = {"now": cuda_on_cpu.source()}
    if given.against:
        sources = {given.against: source_of(given.against)} | sources
    print("| network | kernels | kernel | warp accesses | of fewer than 32 lanes | lanes busy | sectors |")
    print("|---|---|---|---|---|---|---|")
    for model in given.models:
        with tempfile.TemporaryDirectory() as folder:
            logits, block = logits_of(model, Path(folder))
        expected = reference.postprocess(logits, *SIZE, block=block)
        for name, source in sources.items():
            old = "resize_normalize_last_##" not in source
            for last in (False,) if old else (False, True):
                place = Counted(source)
                np.testing.assert_array_equal(masks(place, logits, block, old=old, last=last), expected)
                for kernel, count in place.counts:
                    print(f"| {model} | {name} | `{kernel}` | {count.as_text()} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
