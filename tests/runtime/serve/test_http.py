"""What clients of many kinds send over HTTP, and pictures of many kinds, to a whole server over loopback."""

import http.client
import io
import socket
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageOps

from runtime.media.frames import read_frame
from tests.helpers.fake_backend import PICTURE, expected_mask, write_fake_engine
from tests.helpers.fake_server import answer_on, server
from tests.helpers.pictures import gradient
from tests.runtime.serve.test_answers import decoded

pytestmark = pytest.mark.serve
FRAME = gradient()
MASK = expected_mask(FRAME)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("http")
    options = ("--engine", write_fake_engine(folder), "--upload-seconds", 3, "--max-body", 1)
    with server(*options, folder=folder) as found:
        yield found
        assert found.process.poll() is None
        assert found.log.read_text().count("error") == 0


def on_socket(found, *parts):
    """All that comes back for bytes as they are."""
    with socket.create_connection(("127.0.0.1", found.port), timeout=20) as one:
        one.sendall(b"".join(parts))
        return b"".join(iter(lambda: one.recv(1 << 16), b""))


def test_a_whole_address_is_found_as_its_path_is(running):
    for target in (b"http://localhost/v2/health/live", b"http://localhost:80/v2/health/live?x=1"):
        assert on_socket(running, b"GET " + target + b" HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    for target in (b"http://localhost/nix", b"x:nix", b"http://localhost"):
        answer = on_socket(running, b"PUT " + target + b" HTTP/1.0\r\n\r\n")
        assert answer.split()[1] in (b"404", b"405") and b'{"error": ' in answer
    assert on_socket(running, b"OPTIONS * HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 405 ")


def test_a_probe_of_http_1_0_without_a_host_is_answered(running):
    assert on_socket(running, b"GET /v2/health/ready HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_several_headers_of_one_name_are_one_list(running):
    size = b"X-Frame-Size: %dx%d\r\nContent-Length: %d\r\n" % (*MASK.shape, FRAME.size)
    head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + size
    several = b"Accept: application/json;q=0.9\r\nAccept: image/png;q=0.1\r\n\r\n"
    assert b"content-type: application/json" in on_socket(running, head, several, FRAME.tobytes())
    two = b"Origin: http://localhost\r\nOrigin: http://evil.org\r\n\r\n"
    assert on_socket(running, head, two, FRAME.tobytes()).startswith(b"HTTP/1.1 403 ")


def test_a_body_is_asked_for_before_it_is_sent_where_the_client_waits(running):
    head = f"POST /segment HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(PICTURE)}\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as one:
        one.sendall(head.encode() + b"Connection: close\r\n\r\n")
        assert one.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.sendall(PICTURE)
        answer = b"".join(iter(lambda: one.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    large = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"
    assert on_socket(running, large).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks_with_a_trailer_gives_the_mask(running):
    half = len(PICTURE) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (PICTURE[:half], PICTURE[half:]))
    head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = on_socket(running, head, chunks, b"0\r\nX-Sum: 1\r\n\r\n")
    assert np.array_equal(decoded(answer.partition(b"\r\n\r\n")[2]), MASK)


def test_a_connection_goes_on_after_an_error_and_head_has_no_body(running):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    for method, path, body, status in (
        ("POST", "/segment", b"garbage", 400), ("HEAD", "/segment", None, 405), ("HEAD", "/", None, 200),
        ("HEAD", "/metrics", None, 200), ("HEAD", "/nix", None, 404), ("POST", "/segment", PICTURE, 200),
    ):  # fmt: skip
        connection.request(method, path, body)
        found = answer_on(connection)
        assert found.status == status and bool(found.body) == (method != "HEAD") and found.headers["content-length"]
    connection.close()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_seen_as_it_is_held(running, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(FRAME).save(buffer, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))))
    assert np.array_equal(decoded(running.segment(buffer.getvalue()).body), expected_mask(upright))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pictures_of_other_colours_are_taken_as_runtime_infer_takes_them(running, tmp_path, mode):
    pixels = Image.fromarray(FRAME)
    made = Image.fromarray(FRAME[..., 0].astype(np.uint16) * 257) if mode == "I;16" else pixels.convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    made.save(path)
    assert np.array_equal(decoded(running.segment(path.read_bytes()).body), expected_mask(read_frame(path)))


def test_ipv6_is_this_machine_too_where_it_is_listened_on(tmp_path):
    if not socket.has_ipv6 or not _binds_to_ipv6():
        pytest.skip("this machine has no ::1")
    options = ("--engine", write_fake_engine(tmp_path), "--host", "::1", "--allow-host", "street.example.org")
    with server(*options, folder=tmp_path) as found:
        connection = http.client.HTTPConnection("::1", found.port, timeout=20)
        for host, status in (("[::1]", 200), ("localhost", 200), ("street.example.org", 200), ("evil.org", 403)):
            connection.request("GET", "/engines", headers={"Host": host})
            assert answer_on(connection).status == status
        connection.close()


def test_a_name_that_is_this_machines_own_address_is_held_to_it_too(tmp_path):
    with server("--engine", write_fake_engine(tmp_path), "--host", "localhost", folder=tmp_path) as found:
        for host, status in (("localhost", 200), ("127.0.0.1", 200), ("evil.org", 403)):
            assert found.ask("GET", "/engines", headers={"Host": host}).status == status


def test_a_host_that_was_forgotten_does_not_open_the_server_to_all(tmp_path):
    with pytest.raises(RuntimeError, match="is no address to listen on"), server("--host", "", folder=tmp_path):
        pass


def _binds_to_ipv6():
    with suppress(OSError), socket.socket(socket.AF_INET6) as one:
        one.bind(("::1", 0))
        return True
    return False
