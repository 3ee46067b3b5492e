"""segment.cu on a frame and on logits that are made up, beside `runtime.reference`."""

from typing import Any

import numpy as np

from runtime import reference
from runtime.backends.tensorrt_buffers import FrameBuffers, Memory, NetworkBuffers, Pinned
from runtime.backends.tensorrt_engine import TensorType, shapes
from runtime.errors import EngineError
from runtime.kernels.cuda import Kernels
from runtime.labels import CAMVID
from runtime.spec import ModelSpec, Preprocess

PREPROCESS = Preprocess(32, 64, 1 / 255, (0.3, 0.4, 0.5), (0.2, 0.3, 0.4), "BGR")
SPEC = ModelSpec("doctor", PREPROCESS, CAMVID, 4, 1, 1, "", "")


class KernelCase:
    """The kernels around a network, with the context current; logits lie where the network would have left them."""

    def __init__(self, driver: Any, stream: Any, memory: Memory, capability: str) -> None:
        """Compile and load the kernels.

        Args:
            driver: `pycuda.driver`.
            stream: on which nothing else runs.
            memory: on that stream; owns what this allocates.
            capability: of the GPU.

        Raises:
            LibraryError: they cannot be compiled, or the GPU has too little memory.
        """
        self._driver, self._stream, self._memory = driver, stream, memory
        self._kernels = Kernels(driver, capability)
        input_shape, logits_shape = shapes(SPEC)
        random = np.random.default_rng(0)
        self._logits = random.normal(size=(1, *logits_shape)).astype(np.float32)
        self._network = NetworkBuffers(memory, SPEC, TensorType(input_shape, "fp32"), TensorType(logits_shape, "fp32"))
        driver.memcpy_htod_async(self._network.logits.address, self._logits, stream)
        self._buffers: Any = None

    def agree(self, height: int, width: int) -> str:
        """One frame of that size; in words, what was compared.

        Raises:
            EngineError: the network's input, or the mask, is not the reference's.
        """
        self._frame = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
        self._buffers = FrameBuffers(self._memory, self._network, Pinned(self._memory, height, width))
        self._buffers.frame_pinned[...] = self._frame
        self.enqueue()
        self._stream.synchronize()
        found = np.empty((1, *self._network.input.shape), np.float32)
        self._driver.memcpy_dtoh(found, self._network.input.address)
        if not np.array_equal(found, reference.preprocess(self._frame, PREPROCESS)):
            raise EngineError("the GPU's kernels make another network input than the reference: report it")
        self.refuse_other_mask()
        return f"input and mask of a {height}x{width} frame equal to the reference to the last bit"

    def enqueue(self) -> None:
        """Frame in, both kernels, mask out, on the stream; after `agree`."""
        buffers = self._buffers
        self._driver.memcpy_htod_async(buffers.frame_dev, buffers.frame_pinned, self._stream)
        for launch in (buffers.resize_normalize, *buffers.postprocess):
            self._kernels.launch(launch, self._stream)
        for pinned, device in buffers.results:
            self._driver.memcpy_dtoh_async(pinned, device, self._stream)

    def refuse_other_mask(self) -> None:
        """Hold the mask that came last to the reference, and forget it.

        Raises:
            EngineError: it is another.
        """
        ((mask, _),) = self._buffers.results
        wanted = reference.postprocess(self._logits, *mask.shape)
        if not np.array_equal(mask, wanted):
            share = float((mask == wanted).mean())
            raise EngineError(f"the GPU's mask is the reference's in {share:.1%} of its pixels alone: report it")
        mask[...] = 255
