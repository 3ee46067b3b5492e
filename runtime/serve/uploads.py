"""Bodies of requests, within bounds of size and time; what is not wanted is read and dropped, so that answers arrive.

A server that closes while its client still sends resets the connection, and the client never sees why.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

from runtime.serve.limits import MIB, Limits
from runtime.serve.replies import LeftError, Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
T = TypeVar("T")

LINGER_S = 2.0  # for a client that was too slow, to see that it was
STOPPING_S = 0.5  # for one that was on its way when the server stopped


class Uploads:
    """How many bodies come in at once. For the thread of the event loop alone."""

    def __init__(self, limits: Limits) -> None:
        """None yet."""
        self.limits = limits
        self.closed = False
        self.reading: set[Ending] = set()
        self.dropping: set[Ending] = set()

    def stop(self) -> None:
        """Take no more: what has not come by now is not accepted, and what is dropped is not waited for."""
        self.closed = True
        for each in self.reading | self.dropping:
            each.end()


class Ending:
    """Ends what the task that makes it waits for, which can tell that from a cancellation by others."""

    def __init__(self) -> None:
        """Of the task that runs."""
        self._task, self.ended = asyncio.current_task(), False

    def end(self, _: object = None) -> None:
        """Cancel it, once; as a callback, too."""
        task, self._task = self._task, None
        if task is not None:
            self.ended = True
            task.cancel()

    def over(self) -> None:
        """It waits no more: whoever comes now is too late."""
        self._task = None


class Upload:
    """The body of one request."""

    def __init__(self, receive: Receive, uploads: Uploads) -> None:
        """Nothing is read yet; its time begins."""
        self._receive, self._uploads, self._limits = receive, uploads, uploads.limits
        self._until = time.monotonic() + uploads.limits.upload_s
        self.whole = False  # whether its last byte has come

    async def body(self, announced: int | None) -> bytes:
        """All of it.

        Args:
            announced: its Content-Length, where it has one.

        Raises:
            Refusal: 413 it is too large, 408 too slow, 503 too many come in at once, or the server stops.
            LeftError: the client is gone.
        """
        if announced is not None and announced > self._limits.body_bytes:
            raise self._too_large()
        uploads = self._uploads
        if uploads.closed or len(uploads.reading) >= self._limits.uploads:
            raise self._not_now()
        try:
            return await self._in_time(self._all(), uploads.reading)
        except TimeoutError:
            if uploads.closed:
                self._until = time.monotonic() + STOPPING_S
                raise self._not_now() from None
            self._until = time.monotonic() + LINGER_S
            raise Refusal(408, "slow", f"the body did not come within {self._limits.upload_s:g} s") from None

    async def drop(self) -> None:
        """Read the rest and forget it, as long as its time lasts."""
        try:
            await self._in_time(self._rest(), self._uploads.dropping)
        except (TimeoutError, LeftError):
            return

    async def unless_left(self, work: Awaitable[T]) -> T:
        """What the work gives; it is cancelled when the client leaves. The body is whole.

        Raises:
            LeftError: it has left.
        """
        ending, watching = Ending(), asyncio.ensure_future(self._left())
        watching.add_done_callback(ending.end)
        try:
            return await work
        except asyncio.CancelledError:
            if ending.ended:
                raise LeftError from None
            raise
        finally:
            ending.over()
            watching.cancel()

    async def _in_time(self, work: Awaitable[T], among: set[Ending]) -> T:
        # What it gives; a TimeoutError when its time is over, or who stops these has ended it.
        ending = Ending()
        late = asyncio.get_running_loop().call_later(max(0.0, self._until - time.monotonic()), ending.end)
        among.add(ending)
        try:
            return await work
        except asyncio.CancelledError:
            if ending.ended:
                raise TimeoutError from None
            raise
        finally:
            late.cancel()
            ending.over()
            among.discard(ending)

    async def _all(self) -> bytes:
        parts: list[bytes] = []
        length = 0
        while not self.whole:
            part = await self._part()
            length += len(part)
            if length > self._limits.body_bytes:
                raise self._too_large()
            parts.append(part)
        return b"".join(parts)

    async def _rest(self) -> None:
        while not self.whole:
            await self._part()

    async def _part(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            raise LeftError
        self.whole = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    async def _left(self) -> None:
        while (await self._receive())["type"] == "http.request":
            pass

    def _not_now(self) -> Refusal:
        if self._uploads.closed:
            return Refusal(503, "stopping", "the server is stopping", {"Retry-After": "1"})
        going = len(self._uploads.reading)
        return Refusal(503, "uploads", f"{going} uploads are going on; come again", {"Retry-After": "1"})

    def _too_large(self) -> Refusal:
        most = self._limits.body_bytes / MIB
        return Refusal(413, "body", f"the body is larger than {most:g} MiB (--max-body)")
