"""segment.cu: compiled once for a GPU, loaded and launched through pycuda."""

import hashlib
import math
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.artifacts import is_sealed, user_cache, write_sealed
from runtime.bars import say
from runtime.errors import LibraryError
from runtime.kernels.nvcc import nvcc
from runtime.reference import AxisTable, axis_table, border, gain_and_bias
from runtime.spec import Preprocess, Upsample

SOURCE = Path(__file__).with_name("segment.cu")
HEADER = Path(__file__).with_name("layout.cuh")  # that it includes
CACHE = user_cache()
# Without -fmad=false the compiler contracts a * u + b * v, and masks differ from reference.py on ties.
FLAGS = ("-cubin", "-fmad=false", "-O3", "--std=c++17")

# As in segment.cu.
PIXELS = 4  # of one row, for each thread
BLOCK = (32, 8)  # threads across and down; a warp lies along a row, so that its loads and stores are one piece
POSITIONS = 2  # of one row of logits, for each thread of `coarse_winner`
STAGED_BYTES = 20 << 10  # of logits, in shared memory
VALUE_BYTES = {"fp16": 2, "fp32": 4}

AXIS_SAMPLE = np.dtype([("first", "<i4"), ("second", "<i4"), ("weight_first", "<f4"), ("weight_second", "<f4")])


class Launch(NamedTuple):
    """A kernel with everything it is launched with; `types` are the `struct` codes of `arguments`.

    `nbytes` is what it reads and writes, each once; logits at boundaries aside, which the frame decides.
    """

    kernel: str
    types: str
    grid: tuple[int, int]
    block: tuple[int, int, int]
    arguments: tuple[int, ...]
    nbytes: int = 0


class Tensor(NamedTuple):
    """A tensor on the device: where it lies, and how; (channels, height, width) whatever the order in memory."""

    address: int
    shape: tuple[int, int, int]
    dtype: str  # "fp16" or "fp32"
    channels_last: bool = False  # (height, width, channels) in memory

    @property
    def nbytes(self) -> int:
        """Of the whole tensor."""
        return math.prod(self.shape) * VALUE_BYTES[self.dtype]

    @property
    def kernels(self) -> str:
        """How the names of the kernels for it end."""
        return f"{'_last' if self.channels_last else ''}_{self.dtype}"


class Pixels(NamedTuple):
    """A frame or a mask on the device: where it lies, and its size."""

    address: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """How many there are."""
        return self.height * self.width


class Axes(NamedTuple):
    """Where the `axis_samples` across and down lie on the device."""

    across: int
    down: int


class Blend(NamedTuple):
    """What `upsample_argmax` makes an overlay with, on the device; all zero where it makes none."""

    frame: int = 0  # uint8 (H, W, 3), of the mask's size
    shades: int = 0  # uint16 (256, 3), from `reference.overlay_shades`, and
    keep: int = 0
    overlay: int = 0  # uint8 (H, W, 3), written


def axis_samples(n_in: int, n_out: int, upsample: Upsample = "half_pixel") -> np.ndarray:
    """`reference.axis_table` as segment.cu reads it: AXIS_SAMPLE (n_out,)."""
    return samples_of(axis_table(n_in, n_out, upsample))


def samples_of(table: AxisTable) -> np.ndarray:
    """An axis table as segment.cu reads it: AXIS_SAMPLE (n_out,)."""
    samples = np.empty(len(table.first), AXIS_SAMPLE)
    samples["first"], samples["weight_first"] = table.first, table.weight_first
    samples["second"] = np.where(table.weight_second == 0, table.first, table.second)
    samples["weight_second"] = table.weight_second
    return samples


def gain_bias(preprocess: Preprocess) -> np.ndarray:
    """The normalisation as segment.cu reads it: float32 (9,), three gains, three biases, `reference.border`."""
    return np.concatenate([*gain_and_bias(preprocess), border(preprocess).astype(np.float32)])


def resize_normalize(frame: Pixels, axes: Axes, gain_bias: int, input_: Tensor, *, bgr: bool) -> Launch:
    """The launch that makes the network's input, as `reference.preprocess` does.

    Args:
        frame: uint8 (H, W, 3).
        axes: from the frame's size to the input's.
        gain_bias: where `gain_bias()` lies.
        input_: (3, height, width), or (4, height, width) with channels last, of which the fourth is 0; written.
        bgr: the network's channels are in the other order.
    """
    channels, height, width = input_.shape
    if channels != (4 if input_.channels_last else 3):
        raise ValueError(f"an input has 3 channels, or 4 where they are last; got {input_}")
    arguments = (*frame, *axes, gain_bias, int(bgr), height, width, input_.address)
    nbytes = 3 * frame.area + input_.nbytes
    return _launch(f"resize_normalize{input_.kernels}", "PiiPPPiiiP", -(-width // PIXELS), height, arguments, nbytes)


def coarse_winner(logits: Tensor, block: int, winners: int, *, undecided: bool = True) -> Launch:
    """The launch that takes the class of every coarse logit, for `upsample_argmax`.

    Args:
        logits: (classes * block**2, h, w).
        block: as in `ModelSpec`.
        winners: where uint8 (h * block, w * block) is written.
        undecided: mark where a lower class may still win between two logits; without, the winners are the mask of
            that size, as `reference.postprocess` gives it.
    """
    channels, height, width = logits.shape
    nbytes = logits.nbytes + height * width * block**2
    network = (logits.address, channels // block**2, block, height, width, int(undecided))
    name = f"coarse_winner{logits.kernels}"
    if not logits.channels_last:
        across, down = -(-width // POSITIONS), height * block
        return _launch(name, "PiiiiiP", across, down, (*network, winners), nbytes)
    tile = _tile(channels * VALUE_BYTES[logits.dtype], block)
    grid = (-(-height * width // tile), 1)
    return Launch(name, "PiiiiiiP", grid, (*BLOCK, 1), (*network, tile, winners), nbytes)


def _tile(position_bytes: int, block: int) -> int:
    # How many positions a block takes: a winner a thread, as far as their logits fit, and in whole vectors.
    most = max(1, min(BLOCK[0] * BLOCK[1] // block**2, STAGED_BYTES // position_bytes))
    return most // 8 * 8 or most


def upsample_argmax(
    logits: Tensor, block: int, winners: int, axes: Axes, mask: Pixels, blend: Blend | None = None
) -> Launch:
    """The launch that makes the mask, as `reference.postprocess` does; `coarse_winner` comes before it.

    With `blend` it makes the overlay in the same pass, as `reference.overlay` does.

    Args:
        logits: (classes * block**2, h, w).
        block: as in `ModelSpec`.
        winners: what `coarse_winner` wrote.
        axes: from (h * block, w * block) to the mask's size.
        mask: uint8 (H, W), written.
        blend: where frame, colours and overlay lie.
    """
    channels, height, width = logits.shape
    network = (logits.address, winners, channels // block**2, block, height, width)
    arguments = (*network, *axes, mask.height, mask.width, mask.address, *(blend or Blend()))
    across = -(-mask.width // PIXELS)
    nbytes = height * width * block**2 + mask.area * (7 if blend else 1)
    return _launch(f"upsample_argmax{logits.kernels}", "PPiiiiPPiiPPPiP", across, mask.height, arguments, nbytes)


def confidence(logits: Tensor, block: int, axes: Axes, steps: int, made: Pixels) -> Launch:
    """The launch that tells how far the mask's classes are ahead, as `reference.confidence` does.

    Args:
        logits: (classes * block**2, h, w).
        block: as in `ModelSpec`.
        axes: from (h * block, w * block) to the mask's size.
        steps: where `reference.CONFIDENCE_STEPS` lie.
        made: uint8 (H, W), written.
    """
    channels, height, width = logits.shape
    network = (logits.address, channels // block**2, block, height, width)
    arguments = (*network, *axes, made.height, made.width, steps, made.address)
    across = -(-made.width // PIXELS)
    return _launch(f"confidence{logits.kernels}", "PiiiiPPiiPP", across, made.height, arguments, made.area)


class Kernels:
    """segment.cu on the current context's GPU; dropped with that context."""

    def __init__(self, driver: Any, capability: str) -> None:
        """Load the kernels.

        Args:
            driver: `pycuda.driver`, with a context pushed.
            capability: of its GPU, such as "9.0".

        Raises:
            LibraryError: they cannot be compiled.
        """
        self._module = driver.module_from_buffer(compiled(capability))
        self._functions: dict[str, Any] = {}

    def launch(self, launch: Launch, stream: Any) -> None:
        """Enqueue one launch on `stream`; what its arguments point to must live until the stream has run it."""
        function = self._functions.get(launch.kernel)
        if function is None:
            function = self._functions[launch.kernel] = self._module.get_function(launch.kernel).prepare(launch.types)
        # Not its prepared_async_call: that and every other public call of pycuda's also make the deprecated
        # cuFuncSetBlockShape, which cuda.h does not say a capture allows. This one is cuLaunchKernel and nothing else.
        packed = struct.pack(function.arg_format, *launch.arguments)
        function._launch_kernel(launch.grid, launch.block, packed, 0, stream)


def compiled(capability: str, *, cache: Path = CACHE) -> bytes:
    """segment.cu as a cubin for a compute capability: from the cache, or compiled into it.

    Raises:
        LibraryError: there is no nvcc, or it refuses the capability or the source.
    """
    compiler = nvcc()
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LibraryError(f"{compiler} does not work ({error}): install the CUDA toolkit again") from None
    command = [compiler, *FLAGS, f"-arch=sm_{capability.replace('.', '')}"]
    parts = [SOURCE.read_bytes(), HEADER.read_bytes(), version, " ".join(command).encode()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()
    cubin = cache / f"segment-{key[:32]}.cubin"
    if is_sealed(cubin):
        return cubin.read_bytes()
    made = _compile(command)
    try:
        write_sealed(cubin, made)
    except OSError as error:
        say(f"{SOURCE.name} as compiled is not kept, the next start compiles it again: {error}")
    return made


def _compile(command: list[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "segment.cubin"
        done = subprocess.run([*command, str(SOURCE), "-o", str(out)], capture_output=True, text=True, check=False)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}")
            raise LibraryError(f"nvcc cannot compile {SOURCE.name} ({command[-1]}): {first}")
        return out.read_bytes()


def _launch(
    kernel: str, types: str, threads_across: int, threads_down: int, arguments: tuple[int, ...], nbytes: int
) -> Launch:
    grid = (-(-threads_across // BLOCK[0]), -(-threads_down // BLOCK[1]))
    return Launch(kernel, types, grid, (*BLOCK, 1), arguments, nbytes)
