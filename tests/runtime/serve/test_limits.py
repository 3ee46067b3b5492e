"""The bounds that are options, of a whole server over loopback."""

import socket
import time
from contextlib import suppress

import pytest

from tests.helpers.fake_backend import PICTURE, write_fake_engine
from tests.helpers.fake_server import server
from tests.runtime.serve.test_bodies import bomb

pytestmark = pytest.mark.serve
HEAD = (
    b"POST /segment?as=raw HTTP/1.1\r\nHost: localhost\r\nX-Frame-Size: 2000x3000\r\nContent-Length: 18000000\r\n\r\n"
)


def test_pictures_and_uploads_are_bounded_as_it_was_told(tmp_path):
    options = ("--engine", write_fake_engine(tmp_path), "--max-pixels", 1_000_000, "--uploads", 1)
    with server(*options, folder=tmp_path) as found:
        large = found.segment(bomb(1000, 1001))
        assert large.status == 400 and "pixels" in large.values["error"]
        with socket.create_connection(("127.0.0.1", found.port), timeout=20) as slow:
            slow.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            time.sleep(0.2)
            second = found.segment(PICTURE)
        assert second.status == 503 and "uploads" in second.values["error"] and second.headers["retry-after"] == "1"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system bounds no unread answer")
def test_an_answer_that_nobody_takes_is_given_up(tmp_path):
    with server("--engine", write_fake_engine(tmp_path), "--send-seconds", 1, folder=tmp_path) as found:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", found.port))
            reader.sendall(HEAD + bytes(18_000_000))
            reader.recv(1, socket.MSG_PEEK)
            time.sleep(5)
            came = 0
            with suppress(ConnectionError):
                while part := reader.recv(1 << 16):
                    came += len(part)
        assert came < 2000 * 3000
        assert found.segment(PICTURE).status == 200
