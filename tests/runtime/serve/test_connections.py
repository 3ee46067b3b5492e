import asyncio
import socket
from types import SimpleNamespace

import pytest

from runtime.serve.connections import FULL, Connection
from runtime.serve.limits import Limits
from runtime.serve.server import listening

LIMITS = Limits(connections=1, header_s=0.05)


class Inner:
    """What uvicorn's protocol has of it: the cycle of a request, and h11's connection with bytes that wait."""

    def __init__(self, connections):
        self.connections, self.cycle, self.conn = connections, None, SimpleNamespace(trailing_data=(b"", False))

    def connection_made(self, transport):
        self.connections.add(self)

    def send_400_response(self, message):
        raise AssertionError(message)

    def data_received(self, data):
        self.conn.trailing_data = (data, False)

    def connection_lost(self, error):
        self.connections.discard(self)


class Transport:
    def __init__(self):
        self.written, self.closed = b"", False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True


def connected(connections=None, counted=None):
    inner, count = Inner(set() if connections is None else connections), [] if counted is None else counted
    connection, transport = Connection(inner, LIMITS, lambda *what: count.append(what)), Transport()
    connection.connection_made(transport)
    return connection, transport


def cycle(complete):
    return SimpleNamespace(response_complete=complete)


@pytest.mark.parametrize(
    ("before", "sent", "closed"),
    [
        (None, b"", True),
        (None, b"GET / HT", True),
        (cycle(False), b"a body that comes slowly", False),
        (cycle(True), b"", False),
        (cycle(True), b"GET / HT", True),
    ],
    ids=["silent", "headers cut", "in a request", "idle", "headers cut, of a second request"],
)
def test_headers_that_are_not_whole_in_time_end_the_connection(before, sent, closed):
    async def run():
        connection, transport = connected()
        if before is not None:
            connection._inner.cycle = before
            await asyncio.sleep(0.1)
            assert not transport.closed
        if sent:
            connection.data_received(sent)
        await asyncio.sleep(0.1)
        assert transport.closed is closed

    asyncio.run(run())


def test_one_connection_too_many_is_told_so_and_what_it_sends_is_dropped_until_it_is_closed(monkeypatch):
    monkeypatch.setattr("runtime.serve.connections.LINGER_S", 0.05)

    async def run():
        connections, counted = set(), []
        first, _ = connected(connections, counted)
        second, transport = connected(connections, counted)
        assert transport.written == FULL and not transport.closed and counted == [(503, "connections")]
        second.data_received(b"POST / HTTP/1.1")
        assert second._inner.conn.trailing_data == (b"", False)
        await asyncio.sleep(0.1)
        assert transport.closed
        for each in (first, second):
            each.connection_lost(None)
        assert connected(connections)[1].written == b""

    asyncio.run(run())


def test_of_very_many_the_last_are_closed_at_once():
    async def run():
        connections = set()
        transports = [connected(connections)[1] for _ in range(4)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [each.closed for each in transports[1:]] == [False, True, True]

    asyncio.run(run())


def test_an_answer_is_not_held_back_until_its_client_acknowledges_the_one_before():
    async def run():
        with listening("127.0.0.1", 0, LIMITS) as listener:
            accepted = asyncio.get_running_loop().create_future()
            server = await asyncio.get_running_loop().create_server(lambda: Accepted(accepted), sock=listener)
            _, writer = await asyncio.open_connection(*listener.getsockname())
            transport = await accepted
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            transport.close()
            server.close()

    asyncio.run(run())


class Accepted(asyncio.Protocol):
    def __init__(self, future):
        self._future = future

    def connection_made(self, transport):
        self._future.set_result(transport)
