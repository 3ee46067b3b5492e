"""What `tensorrt.TensorRT` does beside a frame of the host: frames and masks on the GPU, and several frames at once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from runtime.arrays import host_array, on_gpu, paired
from runtime.backend import Stopwatch
from runtime.backends.tensorrt_buffers import FrameBuffers, Pinned
from runtime.backends.tensorrt_places import GpuMask, Places, new_mask
from runtime.forks import Guard
from runtime.spec import ModelSpec


class Groups:
    """A part of `TensorRT`, which has what is declared here."""

    spec: ModelSpec
    at_once: int
    stages_ms: dict[str, float]
    _guard: Guard
    _driver: Any
    _stream: Any
    _event: Any
    _engine: Any
    _kernels: Any
    _clock: Any
    _pinned: Pinned | None

    def segment_batch(self, frames: Sequence[Any], outs: Sequence[Any] | None = None) -> list[Any]:
        """As many at once as the engine takes; see `Backend.segment_batch`."""
        pairs, size = self._apart(paired(frames, outs)), self.at_once
        if size == 1:
            return [self.segment(frame, out) for frame, out in pairs]
        groups = (pairs[start : start + size] for start in range(0, len(pairs), size))
        return [mask for group in groups for mask in self._group(group)]

    def segment(self, frame: Any, out: Any = None) -> Any:
        """See `Backend.segment`."""
        raise NotImplementedError

    def _apart(self, pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        # Every frame of the host is copied to the one page-locked frame, and every mask comes from the one mask.
        held = self._pinned
        if held is None or len(pairs) < 2:
            return pairs
        if any(isinstance(out, np.ndarray) and np.may_share_memory(out, held.mask) for _, out in pairs):
            raise ValueError("mask_buffer holds one mask: give each frame of a batch an array of its own")
        return [(_copied(frame, held.frame), out) for frame, out in pairs]

    def _segment_on_gpu(self, frame: Any, out: Any) -> Any:
        with self._guard, self._current_of_open():
            places = Places(frame, out, self._stream.handle, self._event)
            made = self._made(places, out)
            buffers = self._buffers_of(*places.size)
            with self._refusing():
                self._take(1)
                self._clock.start()
                if places.host_frame is not None:
                    self._pin(places.host_frame, buffers)
                self._clock.frame_pinned()
                self._run(buffers, places.frame_dev, made.address if made else places.mask_dev)
                if places.host_mask is not None:
                    np.copyto(places.host_mask, buffers.results[0][0])
                self.stages_ms = self._clock.stop()
            return out if made is None else made

    def _run(self, buffers: FrameBuffers, frame_dev: int | None, mask_dev: int | None) -> None:
        # The host waits in the end, so that frame and mask are the caller's again, on every stream.
        try:
            self._enqueue(buffers, frame_dev, mask_dev)
        finally:
            self._stream.synchronize()
        self._engine.keep_compiled()

    def _group(self, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
        with self._guard, self._current_of_open():
            places = [Places(*pair, self._stream.handle, self._event) for pair in pairs]
            made = [self._made(place, out) for place, (_, out) in zip(places, pairs, strict=True)]
            watch = Stopwatch()
            with self._refusing():
                try:
                    for slot, place in enumerate(places):
                        self._put_in(slot, place)
                    watch.lap("preprocess")
                    self._take(len(pairs))
                    self._engine.enqueue(self._stream.handle)
                    self._stream.synchronize()
                    watch.lap("network")
                    masks = [self._taken_out(*each) for each in zip(range(len(pairs)), places, made, strict=True)]
                finally:
                    self._stream.synchronize()
                watch.lap("postprocess")
                self._engine.keep_compiled()
            self.stages_ms = watch.laps_ms
            return [mask if out is None else out for mask, (_, out) in zip(masks, pairs, strict=True)]

    def _take(self, frames: int) -> None:
        # With nothing on the stream that is the network's. An open batch is as large as its frames; a graph that was
        # captured of another number is not launched again.
        if self._engine.take(frames, self._stream.handle):
            self._forget_graph()

    def _put_in(self, slot: int, place: Places) -> None:
        # The frame becomes that one of the network's inputs. The next one is written over its memory: it is waited for.
        buffers = self._buffers_of(*place.size)
        if place.host_frame is not None:
            self._pin(place.host_frame, buffers)
            self._driver.memcpy_htod_async(buffers.frame_dev, buffers.frame_pinned, self._stream)
        before, _ = buffers.launches(place.frame_dev, None, slot)
        self._kernels.launch(before, self._stream)
        self._stream.synchronize()

    def _taken_out(self, slot: int, place: Places, made: GpuMask | None) -> Any:
        buffers = self._buffers_of(*place.size)
        mask_dev = made.address if made else place.mask_dev
        for launch in buffers.launches(None, mask_dev, slot)[1]:
            self._kernels.launch(launch, self._stream)
        if mask_dev is not None:
            return made
        pinned, device = buffers.results[0]
        self._driver.memcpy_dtoh_async(pinned, device, self._stream)
        self._stream.synchronize()
        mask = np.empty_like(pinned) if place.host_mask is None else place.host_mask
        np.copyto(mask, pinned)
        return mask

    def _made(self, places: Places, out: Any) -> GpuMask | None:
        # The mask of a frame on the GPU is made there.
        if out is not None or places.frame_dev is None:
            return None
        return new_mask(places.size, self._driver, self._pushing())

    def _forget_graph(self) -> None:
        raise NotImplementedError

    def _pushing(self) -> Callable[[], AbstractContextManager[None]]:
        raise NotImplementedError

    def _pin(self, frame: np.ndarray, buffers: FrameBuffers) -> None:
        raise NotImplementedError

    def _enqueue(
        self,
        buffers: FrameBuffers,
        frame_dev: int | None = None,
        mask_dev: int | None = None,
        *,
        captured: bool = False,
    ) -> None:
        raise NotImplementedError

    def _current_of_open(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _buffers_of(self, height: int, width: int) -> FrameBuffers:
        raise NotImplementedError

    def _refusing(self) -> AbstractContextManager[None]:
        raise NotImplementedError


def _copied(frame: Any, held: np.ndarray) -> Any:
    if on_gpu(frame) or not np.may_share_memory(host := host_array(frame), held):
        return frame
    return host.copy()
