"""The confidence of a mask on TensorRT: one more kernel over the logits that the network has left on the GPU."""

from typing import Any

import numpy as np

from runtime.backend import refuse_ids
from runtime.backends.tensorrt_buffers import FrameBuffers
from runtime.backends.tensorrt_groups import Groups
from runtime.backends.tensorrt_places import Places


class Confident(Groups):
    """A part of `TensorRT`."""

    def confidence(self, frame: Any, out: Any = None, confidence_out: Any = None) -> tuple[Any, Any]:
        """The mask of one frame and its confidence, calls made one by one; see `Backend.confidence`."""
        refuse_ids(self.spec)
        with self._guard, self._current_of_open():
            places, others = self._both_places(frame, out, confidence_out)
            mask, found = self._made(places, out), self._made(others, confidence_out)
            buffers = self._buffers_of(*places.size)
            with self._refusing():
                self._clock.start()
                if places.host_frame is not None:
                    self._pin(places.host_frame, buffers)
                self._clock.frame_pinned()
                self._run(buffers, places.frame_dev, mask.address if mask else places.mask_dev)
                host_mask = _kept(places, mask, buffers.results[0][0])
                pinned = self._confide(buffers, found.address if found else others.mask_dev)
                host_found = _kept(others, found, pinned)
                self.stages_ms = self._clock.stop()
            return (
                (mask or host_mask) if out is None else out,
                (found or host_found) if confidence_out is None else confidence_out,
            )

    def _both_places(self, frame: Any, out: Any, confidence_out: Any) -> tuple[Places, Places]:
        stream = self._stream.handle
        places = Places(frame, out, stream, self._event)
        try:
            others = Places(frame, confidence_out, stream, self._event)
        except ValueError as error:
            raise ValueError(f"confidence_out: {error}") from None
        if _overlap(places, others):
            raise ValueError("confidence_out: it would be written over the mask")
        return places, others

    def _confide(self, buffers: FrameBuffers, made_dev: int | None) -> np.ndarray | None:
        # Waits, as `_run` does; page-locked memory, or None where it is written to the caller's on the GPU.
        launch, pinned, device = buffers.confidence(made_dev)
        try:
            self._kernels.launch(launch, self._stream)
            if made_dev is None:
                self._driver.memcpy_dtoh_async(pinned, device, self._stream)
        finally:
            self._stream.synchronize()
        return pinned if made_dev is None else None


def _kept(places: Places, made: Any, pinned: np.ndarray | None) -> np.ndarray | None:
    # What was copied to the host, as the caller's; None where it stays on the GPU.
    if made is not None or places.mask_dev is not None or pinned is None:
        return None
    kept = np.empty_like(pinned) if places.host_mask is None else places.host_mask
    np.copyto(kept, pinned)
    return kept


def _overlap(one: Places, other: Places) -> bool:
    if one.mask_dev is not None and other.mask_dev is not None:
        return abs(one.mask_dev - other.mask_dev) < one.size[0] * one.size[1]
    if one.host_mask is None or other.host_mask is None:
        return False
    return bool(np.shares_memory(one.host_mask, other.host_mask))
