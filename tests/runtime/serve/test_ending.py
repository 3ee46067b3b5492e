"""How the server ends: what was accepted is answered, within a bound, and whatever hangs."""

import http.client
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.helpers.fake_backend import PICTURE, write_fake_engine
from tests.helpers.fake_server import server
from tests.runtime.serve.test_answers import decoded
from tests.runtime.serve.test_server import MASK, until_in_flight

pytestmark = pytest.mark.serve
HANGS = 2  # frames that an engine does before one hangs: those that open it


def test_after_sigterm_what_was_accepted_is_answered_and_the_exit_code_is_0(slow):
    with ThreadPoolExecutor(2) as pool:
        going = [pool.submit(slow.segment, PICTURE) for _ in range(2)]
        until_in_flight(slow, 2)
        assert slow.end() == 0
        assert [np.array_equal(decoded(each.result().body), MASK) for each in going] == [True, True]
    with pytest.raises(ConnectionRefusedError):
        slow.ask("GET", "/v2/health/ready")


def test_neither_slow_senders_nor_slow_readers_keep_it_from_ending(tmp_path):
    engine = write_fake_engine(tmp_path)
    large = np.zeros((2000, 3000, 3), np.uint8)
    with server("--engine", engine, "--grace-seconds", 1, folder=tmp_path) as found:
        sender = socket.create_connection(("127.0.0.1", found.port), timeout=20)
        sender.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", found.port))
        head = f"Host: localhost\r\nX-Frame-Size: 2000x3000\r\nContent-Length: {large.size}\r\n\r\n"
        reader.sendall(f"POST /segment?as=raw HTTP/1.1\r\n{head}".encode() + large.tobytes())
        reader.recv(1, socket.MSG_PEEK)
        start = time.monotonic()
        assert found.end() == 0 and time.monotonic() - start < 10
        assert sender.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert "Traceback" not in found.log.read_text()
        sender.close()
        reader.close()


def test_what_is_not_done_when_its_time_is_over_is_told_so(tmp_path):
    engine = write_fake_engine(tmp_path, delay_s=2.5)
    with server("--engine", engine, "--grace-seconds", 1, folder=tmp_path) as found, ThreadPoolExecutor(1) as pool:
        going = pool.submit(found.segment, PICTURE)
        until_in_flight(found, 1)
        assert found.end() == 0
        assert going.result().status == 503 and "stopped" in going.result().values["error"]
        assert "Traceback" not in found.log.read_text()


@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_it_at_once_whatever_hangs(tmp_path, first, second):
    engine = write_fake_engine(tmp_path, delay_s=60.0, late_from=HANGS)
    with server("--engine", engine, "--lanes", 1, folder=tmp_path) as found, ThreadPoolExecutor(1) as pool:
        going = pool.submit(found.segment, PICTURE)
        until_in_flight(found, 1)
        found.process.send_signal(first)
        time.sleep(1.0)
        assert found.process.poll() is None
        start = time.monotonic()
        assert found.end(second) == 128 + second and time.monotonic() - start < 2
        with pytest.raises((OSError, http.client.HTTPException)):
            going.result()
        assert "Traceback" not in found.log.read_text()


def test_a_frame_that_hangs_holds_the_end_for_no_longer_than_what_was_accepted_has(tmp_path):
    engine = write_fake_engine(tmp_path, delay_s=60.0, late_from=HANGS)
    options = ("--engine", engine, "--lanes", 1, "--grace-seconds", 1)
    with server(*options, folder=tmp_path) as found, ThreadPoolExecutor(2) as pool:
        going = [pool.submit(found.segment, PICTURE) for _ in range(2)]
        until_in_flight(found, 2)
        start = time.monotonic()
        assert found.end() == 0 and time.monotonic() - start < 5
        for each in going:  # the one that hangs, and the one behind it
            assert each.result().status == 503 and "stopped" in each.result().values["error"]
        assert "Traceback" not in found.log.read_text()


def test_a_body_that_is_dropped_does_not_keep_it_from_ending(tmp_path):
    with server("--engine", write_fake_engine(tmp_path), folder=tmp_path) as found:
        with socket.create_connection(("127.0.0.1", found.port), timeout=20) as sender:
            sender.sendall(b"POST /nix HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            assert sender.recv(4096).startswith(b"HTTP/1.1 404 ")
            start = time.monotonic()
            assert found.end() == 0 and time.monotonic() - start < 5
        assert "Traceback" not in found.log.read_text()


def test_ctrl_c_ends_it_as_it_ends_every_command(slow):
    assert slow.end(signal.SIGINT) == 130
    assert "Traceback" not in slow.log.read_text()
