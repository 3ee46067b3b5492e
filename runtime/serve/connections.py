"""One connection, held to its bounds: how many there are, and how long headers may take."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from runtime.serve.limits import Limits
from runtime.serve.replies import JSON

LINGER_S = 1.0

Count = Callable[[int, str], None]  # of an answer that no route gives: its status, and one word why


def _answer(status: str, error: str) -> bytes:
    body = json.dumps({"error": error})
    lines = (f"HTTP/1.1 {status}", f"Content-Type: {JSON}", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join((*lines, "", body)).encode()


FULL = _answer("503 Service Unavailable\r\nRetry-After: 1", "too many connections are open; come again")
NO_HTTP = _answer("400 Bad Request", "what came is no HTTP/1.1")


class Connection(asyncio.Protocol):
    """uvicorn's protocol for HTTP/1.1, which bounds neither: it is told what comes, within bounds."""

    def __init__(self, inner: Any, limits: Limits, count: Count) -> None:
        """Of an `H11Protocol`."""
        self._inner, self._limits, self._count = inner, limits, count
        inner.send_400_response = self._garbage
        self._transport: Any = None
        self._waiting: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, if there are not too many."""
        self._transport = transport
        self._inner.connection_made(transport)
        if len(self._inner.connections) > self._limits.connections:
            self._refuse()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Hand it on; headers that are not whole yet have a time to be."""
        if self._refused:
            return
        self._inner.data_received(data)
        if self._waiting is None and self._is_partial():
            self._wait()

    def eof_received(self) -> None:
        """The client sends no more: the connection is closed."""
        self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        if self._waiting is not None:
            self._waiting.cancel()
        del self._inner.send_400_response  # each would keep the other until someone looks for cycles
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The client reads slower than it is sent to."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        self._inner.resume_writing()

    def _refuse(self) -> None:
        self._transport.write(FULL)
        self._count(503, "connections")
        # Of those that linger there are as many as of others, or the process runs out of files.
        self._end(0.0 if len(self._inner.connections) > 2 * self._limits.connections else LINGER_S)

    def _garbage(self, message: str) -> None:
        # Called by uvicorn where what came is no HTTP: it would answer within an answer, too, which h11 refuses.
        cycle = self._inner.cycle
        asked = cycle is not None and not cycle.response_complete
        if not (asked and cycle.response_started):
            self._transport.write(NO_HTTP)
            self._count(400, "http")
        if asked:
            cycle.disconnected = True  # whoever answers is told that nobody is there any more
            cycle.message_event.set()
        self._transport.resume_reading()
        self._end(LINGER_S)

    def _end(self, late_s: float) -> None:
        # What the client still sends is read and dropped for a while: closed at once, the system would tell it of a
        # reset, and not of the answer.
        self._refused = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = asyncio.get_running_loop().call_later(late_s, self._transport.close)

    def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().call_later(self._limits.header_s, self._look)

    def _look(self) -> None:
        self._waiting = None
        if self._inner.cycle is None or self._is_partial():
            self._transport.close()

    def _is_partial(self) -> bool:
        # Between two requests, with some bytes of the next.
        cycle = self._inner.cycle
        between = cycle is None or cycle.response_complete
        return bool(between and self._inner.conn.trailing_data[0])
