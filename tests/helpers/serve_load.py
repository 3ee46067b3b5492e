"""Clients of a server: good ones, too many, slow, rude and hostile."""

import asyncio
import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from tests.helpers.fake_server import Answer, Server, answer_on

SMALLEST_BUFFER = 4096
TRICKLE_S = 0.2


class Seen(NamedTuple):
    """What one of many requests got: its status (0: none), after so many seconds, with these stages in ms."""

    status: int
    seconds: float
    stages_ms: dict[str, float]


def good(server: Server, picture: bytes, count: int, at_once: int) -> float:
    """Seconds that so many requests took, by so many clients, each with a connection that stays."""
    left = iter(range(count))
    lock = threading.Lock()

    request = _request(picture)

    def client(_: int) -> None:
        # No library: what a client computes is taken from the server's cores.
        with _connected(server) as connection:
            while True:
                with lock:
                    if next(left, None) is None:
                        break
                connection.sendall(request)
                line, _ = _answer(connection)
                assert line.startswith(b"HTTP/1.1 200 "), line

    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(client, range(at_once)))
    return time.perf_counter() - start


def _answer(connection: socket.socket) -> tuple[bytes, bytes]:
    # The first line and the body of an answer that tells its length.
    got = bytearray()
    while b"\r\n\r\n" not in got:
        got += _received(connection)
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    parts, missing = [body], length - len(body)
    while missing > 0:
        parts.append(_received(connection))
        missing -= len(parts[-1])
    return head.partition(b"\r\n")[0], b"".join(parts)


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    assert data, "the server closed the connection in the midst of an answer"
    return data


def flood(server: Server, picture: bytes, rate: float, seconds: float) -> list[Seen]:
    """Requests at that rate, whether they are answered or not, each on a connection of its own."""
    head = f"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\nConnection: close\r\n\r\n"
    request = head.encode() + picture

    async def all_of_them() -> list[Seen]:
        begin = time.perf_counter()
        going = []
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            going.append(asyncio.ensure_future(_one(server.port, request)))
        return list(await asyncio.gather(*going))

    return asyncio.run(all_of_them())


async def _one(port: int, request: bytes) -> Seen:
    start = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read(-1)
        writer.close()
    except OSError:
        answer = b""
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1]) if lines[0].startswith("HTTP/") else 0
    timing = next((line.partition(": ")[2] for line in lines if line.startswith("server-timing: ")), "")
    stages = (part.split(";dur=") for part in timing.split(", ") if part)
    return Seen(status, time.perf_counter() - start, {name: float(ms) for name, ms in stages})


@contextmanager
def slow_uploaders(server: Server, count: int) -> Iterator[None]:
    """Clients that send a byte now and then of a body that never ends."""
    stop = threading.Event()
    sockets = [_connected(server) for _ in range(count)]
    for each in sockets:
        each.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")

    def trickle() -> None:
        while not stop.wait(TRICKLE_S):
            for each in sockets:
                try:
                    each.send(b"x")
                except OSError:
                    continue

    sending = threading.Thread(target=trickle)
    sending.start()
    try:
        yield
    finally:
        stop.set()
        sending.join()
        for each in sockets:
            each.close()


@contextmanager
def slow_readers(server: Server, picture: bytes, count: int) -> Iterator[None]:
    """Clients that ask for the largest answer and take none of it; when all are made."""
    sockets = []
    for _ in range(count):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST_BUFFER)
        each.settimeout(60)
        each.connect(("127.0.0.1", server.port))
        each.sendall(_request(picture, "/segment?as=overlay"))
        each.recv(1, socket.MSG_PEEK)
        sockets.append(each)
    try:
        yield
    finally:
        for each in sockets:
            each.close()


def killed_clients(server: Server, picture: bytes, count: int) -> None:
    """Clients that are gone in the midst of a body, or as soon as all of it is sent; without a goodbye."""
    for number in range(count):
        each = _connected(server)
        request = _request(picture)
        each.sendall(request if number % 2 else request[: len(request) // 2])
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.close()


def too_large(server: Server, mib: int) -> Answer:
    """What a client gets that sends all of a body of so many MiB before it reads."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/segment", (bytes(1 << 20) for _ in range(mib)), {"Content-Length": str(mib << 20)})
        return answer_on(connection)
    finally:
        connection.close()


def too_slow(server: Server, seconds: float) -> bytes:
    """The beginning of what a client gets that sends a byte now and then, until it is answered or time is up."""
    with _connected(server) as each:
        each.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        each.settimeout(TRICKLE_S)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                each.sendall(b"x")
                return each.recv(4096)
            except TimeoutError:
                continue
    return b""


def _connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def _request(picture: bytes, path: str = "/segment") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n".encode() + picture
