"""One connection, held to its bounds: how many there are, and how long headers may take."""

import asyncio
from typing import Any

from runtime.serve.limits import Limits

FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


LINGER_S = 1.0


class Connection(asyncio.Protocol):
    """uvicorn's protocol for HTTP/1.1, which bounds neither: it is told what comes, within bounds."""

    def __init__(self, inner: Any, limits: Limits) -> None:
        """Of an `H11Protocol`."""
        self._inner, self._limits = inner, limits
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
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The client reads slower than it is sent to."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        self._inner.resume_writing()

    def _refuse(self) -> None:
        # What the client still sends is read and dropped for a while: closed at once, the system would tell it of a
        # reset, and not of the answer. Of those there are as many as of others, or the process runs out of files.
        self._refused = True
        self._transport.write(FULL)
        late_s = 0.0 if len(self._inner.connections) > 2 * self._limits.connections else LINGER_S
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
