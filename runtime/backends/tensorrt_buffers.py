"""Memory of the TensorRT backend: page-locked and on the device, made once for an engine and once for a frame size."""

from typing import Any, NamedTuple

import numpy as np

from runtime.backends.tensorrt_engine import TensorType
from runtime.errors import LibraryError
from runtime.fit import box_of
from runtime.kernels.cuda import (
    Axes,
    Blend,
    Launch,
    Pixels,
    Tensor,
    coarse_winner,
    confidence,
    gain_bias,
    resize_normalize,
    samples_of,
    upsample_argmax,
)
from runtime.reference import CONFIDENCE_STEPS, AxisTable, cut_table, fitted_table
from runtime.spec import ModelSpec

NUMPY: dict[str, np.dtype[Any]] = {"fp16": np.dtype("f2"), "fp32": np.dtype("f4")}


class Memory:
    """Owns what it hands out; `free` gives all of it back, with the context current in which it was made."""

    def __init__(self, driver: Any, stream: Any) -> None:
        """Start empty.

        Args:
            driver: `pycuda.driver`.
            stream: on which all that is handed out is used.
        """
        self._driver, self._stream = driver, stream
        self._allocations: list[Any] = []
        self._uploaded: list[np.ndarray] = []  # the driver may read them later than when it is asked to

    def device(self, nbytes: int) -> int:
        """The address of new device memory, uninitialised.

        Raises:
            LibraryError: the GPU has too little left.
        """
        try:
            allocation = self._driver.mem_alloc(nbytes)
        except self._driver.MemoryError:
            raise LibraryError(
                f"the GPU has no {nbytes} bytes left; close what else uses it (see nvidia-smi)"
            ) from None
        self._allocations.append(allocation)
        return int(allocation)

    def upload(self, array: np.ndarray) -> int:
        """The address of a copy of `array` on the device, made before what is enqueued next.

        Raises:
            LibraryError: the GPU has too little left.
        """
        address = self.device(array.nbytes)
        self._uploaded.append(array)
        self._driver.memcpy_htod_async(address, array, self._stream)
        return address

    def pinned(self, shape: tuple[int, ...]) -> np.ndarray:
        """A new page-locked uint8 array, valid until `free`: write into it, a rebound name would be pageable again.

        Raises:
            LibraryError: the system locks no more memory.
        """
        array = self.pinned_for_others(shape)
        self._allocations.append(array.base)
        return array

    def pinned_for_others(self, shape: tuple[int, ...]) -> np.ndarray:
        """The same, but valid as long as it is referenced; the last name goes best where the context is current.

        Raises:
            LibraryError: the system locks no more memory.
        """
        try:
            array: np.ndarray = self._driver.pagelocked_empty(shape, np.uint8)
        except self._driver.MemoryError:
            raise LibraryError(f"no page-locked memory is left for an array of {shape} bytes") from None
        return array

    def free(self) -> None:
        """Give everything back, with nothing on the stream that uses it; a second call does nothing."""
        self._uploaded.clear()
        while self._allocations:
            self._allocations.pop().free()

    def close(self) -> None:
        """Give everything back for good, and drop the stream: a traceback that keeps this would keep that, too."""
        self.free()
        self._stream = None


class NetworkBuffers:
    """What an engine reads and writes, whatever the frame's size."""

    def __init__(self, memory: Memory, spec: ModelSpec, network_input: TensorType, logits: TensorType) -> None:
        """Allocate on the device.

        Args:
            memory: owns it.
            spec: gives block and normalisation.
            network_input: the engine's input.
            logits: the engine's output.
        """
        self.spec = spec
        self.input = _tensor(memory, network_input, spec.batch)  # the first of a batch; the others follow
        self.logits = _tensor(memory, logits, spec.batch)
        self.gain_bias = memory.upload(gain_bias(spec.preprocess))
        self.coarse_size = (logits.shape[1] * spec.block, logits.shape[2] * spec.block)
        self.winners = memory.device(self.coarse_size[0] * self.coarse_size[1])

    def slot(self, index: int) -> tuple[Tensor, Tensor]:
        """Input and logits of one frame of a batch."""
        return _following(self.input, index), _following(self.logits, index)

    def empty_logits(self) -> np.ndarray:
        """An array for a copy of the logits as they lie on the device, uninitialised."""
        channels, height, width = self.logits.shape
        shape = (1, height, width, channels) if self.logits.channels_last else (1, channels, height, width)
        return np.empty(shape, NUMPY[self.logits.dtype])

    def float_planes(self, copied: np.ndarray) -> np.ndarray:
        """Such a copy as `Backend.logits` gives it, float32 (1, channels, h, w)."""
        planes = copied.transpose(0, 3, 1, 2) if self.logits.channels_last else copied
        return np.ascontiguousarray(planes, np.float32)


class Shades(NamedTuple):
    """What `reference.overlay_shades` gives, as something that can be compared."""

    keep: int
    values: bytes


class Pinned:
    """A frame and a mask of one size in page-locked memory, which callers may hold: it goes with its last name."""

    def __init__(self, memory: Memory, height: int, width: int) -> None:
        """Allocate both; `memory` does not own them."""
        self.size = (height, width)
        self.frame, self.mask = memory.pinned_for_others((height, width, 3)), memory.pinned_for_others((height, width))


class FrameBuffers:
    """What a frame of one size needs: its buffers, and the launches that know their addresses."""

    def __init__(self, memory: Memory, network: NetworkBuffers, pinned: Pinned, shades: Shades | None = None) -> None:
        """Allocate device memory, and upload the tables of both resizings.

        Args:
            memory: owns it.
            network: must outlive these.
            pinned: where the frame comes from and the mask goes to.
            shades: of an overlay, where one is made with the mask.
        """
        height, width = pinned.size
        self.key = (height, width, shades)
        self._memory = memory
        self._confidence: tuple[np.ndarray, int, int] | None = None
        self._network, preprocess = network, network.spec.preprocess
        self.frame_pinned, mask_pinned = pinned.frame, pinned.mask
        self.frame_dev, self._mask_dev = memory.device(height * width * 3), memory.device(height * width)
        self.results = [(mask_pinned, self._mask_dev)]  # where each is copied to, and from
        self._blend = None
        if shades:
            values = memory.upload(np.frombuffer(shades.values, np.uint16))
            self._blend = Blend(self.frame_dev, values, shades.keep, memory.device(height * width * 3))
            self.results.append((memory.pinned((height, width, 3)), self._blend.overlay))
        self._box, (h, w), upsample = box_of(preprocess, height, width), network.coarse_size, network.spec.upsample
        down, across = self._box
        self._inward = _axes(memory, fitted_table(height, down), fitted_table(width, across))
        self._outward = _axes(memory, cut_table(h, height, down, upsample), cut_table(w, width, across, upsample))
        self.resize_normalize, self.postprocess = self.launches()

    def launches(
        self, frame_dev: int | None = None, mask_dev: int | None = None, slot: int = 0
    ) -> tuple[Launch, tuple[Launch, ...]]:
        """What comes before the network, and what after it.

        Args:
            frame_dev: where the frame is read; None: in the memory here.
            mask_dev: where the mask is written; None: in the memory here.
            slot: which of the engine's batch the frame is.
        """
        input_, logits = self._network.slot(slot)
        network, (height, width, _) = self._network, self.key
        frame, block = Pixels(frame_dev or self.frame_dev, height, width), network.spec.block
        mask = Pixels(mask_dev or self._mask_dev, height, width)
        bgr = network.spec.preprocess.channel_order == "BGR"
        before = resize_normalize(frame, self._inward, network.gain_bias, input_, bgr=bgr)
        if network.coarse_size == (height, width) and self._box.is_whole and not self._blend:
            # Each logit is a pixel's, its winner the mask.
            return before, (coarse_winner(logits, block, mask.address, undecided=False),)
        return before, (
            coarse_winner(logits, block, network.winners),
            upsample_argmax(logits, block, network.winners, self._outward, mask, self._blend),
        )

    def confidence(self, made_dev: int | None = None) -> tuple[Launch, np.ndarray, int]:
        """The launch that comes after those for the mask, and where its result lies: page-locked, and on the device.

        Args:
            made_dev: where it is written; None: in the memory here, which is allocated when it is asked for first.
        """
        height, width, _ = self.key
        if self._confidence is None:
            pinned, device = self._memory.pinned((height, width)), self._memory.device(height * width)
            self._confidence = pinned, device, self._memory.upload(CONFIDENCE_STEPS)
        pinned, device, steps = self._confidence
        network, made = self._network, Pixels(made_dev or device, height, width)
        return confidence(network.logits, network.spec.block, self._outward, steps, made), pinned, device


def _tensor(memory: Memory, kind: TensorType, batch: int) -> Tensor:
    tensor = Tensor(0, *kind)
    return tensor._replace(address=memory.device(tensor.nbytes * batch))


def _following(tensor: Tensor, index: int) -> Tensor:
    return tensor._replace(address=tensor.address + index * tensor.nbytes)


def _axes(memory: Memory, down: AxisTable, across: AxisTable) -> Axes:
    return Axes(memory.upload(samples_of(across)), memory.upload(samples_of(down)))
