"""What pycuda does not wrap of the CUDA driver: work captured once as a graph, and events that are part of it."""

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from runtime.errors import EngineError
from runtime.kernels import nvidia

# cuda.h: CUstreamCaptureMode, CUevent_record_flags. In thread-local mode other threads may go on as they like.
CAPTURE_THREAD_LOCAL = 1
RECORD_DEFAULT, RECORD_EXTERNAL = 0, 1
# CUstream_flags. Work on the null stream waits for every other stream but these, and to wait for one that captures is
# an error: with it, other lanes may use the null stream while one captures.
NON_BLOCKING = 1
Handle = ctypes.c_void_p
_COLLECTING = threading.Lock()  # held while nothing is collected, which is one switch for all threads


@cache
def library() -> Any:
    """The driver's library, the one that pycuda uses as well."""
    return ctypes.CDLL(nvidia.DRIVER)


def call(name: str, *arguments: Any) -> None:
    """Call the driver, with the context current on this thread.

    Raises:
        EngineError: it answers an error.
    """
    code = getattr(library(), name)(*arguments)
    if code:
        raise EngineError(f"the NVIDIA driver refuses {name} (CUDA error {code})")


def current_context() -> int:
    """The handle of the context that is current on this thread, 0 for none."""
    context = Handle()
    call("cuCtxGetCurrent", ctypes.byref(context))
    return context.value or 0


def pointer_attribute(which: int, address: int, kind: Any = ctypes.c_int) -> int:
    """What the driver knows of an address, a CUpointer_attribute of a ctypes kind.

    Raises:
        EngineError: it knows nothing.
    """
    value = kind()
    call("cuPointerGetAttribute", ctypes.byref(value), ctypes.c_int(which), ctypes.c_uint64(address))
    return int(value.value)


class Event:
    """A moment on a stream. Owned by who made it: `close` it with the context current."""

    def __init__(self) -> None:
        """Make it, with the context current."""
        self._handle = Handle()
        call("cuEventCreate", ctypes.byref(self._handle), ctypes.c_uint(0))

    def record(self, stream: int, *, captured: bool) -> None:
        """Enqueue it; in a capture it is recorded whenever the graph runs, and else would only order the graph's work.

        Raises:
            EngineError: the driver refuses.
        """
        flags = RECORD_EXTERNAL if captured else RECORD_DEFAULT
        call("cuEventRecordWithFlags", self._handle, Handle(stream), ctypes.c_uint(flags))

    def awaited_by(self, stream: int) -> None:
        """What is enqueued next on that stream waits for it; it may be recorded anew at once.

        Raises:
            EngineError: the driver refuses.
        """
        call("cuStreamWaitEvent", Handle(stream), self._handle, ctypes.c_uint(0))

    def ms_since(self, earlier: "Event") -> float:
        """Milliseconds on the GPU's clock; both have happened.

        Raises:
            EngineError: one has not.
        """
        ms = ctypes.c_float()
        call("cuEventElapsedTime", ctypes.byref(ms), earlier._handle, self._handle)
        return ms.value

    def close(self) -> None:
        """Give it back; what the driver says to that is not worth hiding another error."""
        with suppress(EngineError):
            call("cuEventDestroy_v2", self._handle)


class Graph:
    """Work of one stream, enqueued by one call as often as it is wanted; the memory that it names must outlive it."""

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        """Capture what `enqueue` puts on the stream, which nothing runs by that.

        Args:
            stream: its handle; made `NON_BLOCKING`.
            enqueue: has been called before, so that the library behind it is past what it does the first time.

        Raises:
            EngineError: the driver cannot capture it; the stream is as it was. What `enqueue` raises comes through.
        """
        self._stream, self._runnable = Handle(stream), Handle()
        with _nothing_collected():
            graph = self._captured(enqueue)
        try:
            call("cuGraphInstantiateWithFlags", ctypes.byref(self._runnable), graph, ctypes.c_ulonglong(0))
        finally:
            call("cuGraphDestroy", graph)

    def _captured(self, enqueue: Callable[[], None]) -> Handle:
        graph = Handle()
        call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(CAPTURE_THREAD_LOCAL))
        try:
            enqueue()
        except BaseException:
            with suppress(EngineError):  # of a capture that is lost already; until this call the stream runs nothing
                call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
                call("cuGraphDestroy", graph)
            raise
        call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        return graph

    def launch(self) -> None:
        """Enqueue all of it.

        Raises:
            EngineError: the driver refuses.
        """
        call("cuGraphLaunch", self._runnable, self._stream)

    def close(self) -> None:
        """Give it back, with the context current and nothing of it running; as `Event.close`."""
        with suppress(EngineError):
            call("cuGraphExecDestroy", self._runnable)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    # A destructor that frees memory or a module on this thread would end the capture.
    with _COLLECTING:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()
