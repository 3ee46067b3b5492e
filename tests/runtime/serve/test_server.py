"""The whole server over loopback, with an engine made of NumPy."""

import http.client
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from runtime.labels import CAMVID, palette
from runtime.media.outputs import Look, Seen
from tests.helpers.fake_backend import PICTURE, expected_confidence, expected_mask, write_fake_engine
from tests.helpers.fake_server import answer_on, server
from tests.helpers.pictures import gradient
from tests.runtime.serve.test_answers import decoded, mask_of
from tests.runtime.serve.test_bodies import bomb

pytestmark = pytest.mark.serve
FRAME = gradient()
MASK = expected_mask(FRAME)
QUICK = ("--upload-seconds", 3, "--max-body", 1)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    engine = write_fake_engine(folder)
    other = write_fake_engine(folder, name="other", tells_stages=False)
    with server("--engine", f"street={engine}", "--engine", other, *QUICK, folder=folder) as found:
        yield found
        assert found.process.poll() is None
        assert found.log.read_text().count("error") == 0


def test_a_picture_gives_the_mask_bit_for_bit_in_every_form(running):
    assert np.array_equal(decoded(running.segment(PICTURE).body), MASK)
    raw = running.segment(PICTURE, Accept="application/octet-stream")
    assert raw.body == MASK.tobytes() and raw.headers["x-frame-size"] == "{}x{}".format(*MASK.shape)
    assert np.array_equal(mask_of(running.segment(PICTURE, Accept="application/json").values), MASK)
    both = running.segment(PICTURE, "?as=raw&confidence=1")
    assert both.body == MASK.tobytes() + expected_confidence(FRAME).tobytes()
    overlay = Look(palette(CAMVID), 0.25).pixels("overlay", FRAME, Seen(MASK))
    assert np.array_equal(decoded(running.segment(PICTURE, "?as=overlay&alpha=0.25").body), overlay)


def test_raw_pixels_give_the_same_mask(running):
    size = "{}x{}".format(*MASK.shape)
    found = running.segment(FRAME.tobytes(), X_Frame_Size=size, Accept="application/octet-stream")
    assert found.body == MASK.tobytes()


def test_an_answer_tells_its_stages_and_its_engine(running):
    headers = running.segment(PICTURE).headers
    names = [each.partition(";")[0] for each in headers["server-timing"].split(", ")]
    assert names == ["decode", "queue", "preprocess", "network", "postprocess", "encode"]
    assert headers["x-engine"].startswith("street; sha256=") and headers["x-content-type-options"] == "nosniff"
    untold = running.segment(PICTURE, "?engine=other").headers
    assert untold["x-engine"].startswith("other;") and "segment;dur=" in untold["server-timing"]


def test_doubtful_pixels_are_void_where_that_is_asked(running):
    found = np.frombuffer(running.segment(PICTURE, "?as=raw&void_below=100").body, np.uint8).reshape(MASK.shape)
    assert np.array_equal(found, np.where(expected_confidence(FRAME) < 100, 255, MASK))


@pytest.mark.parametrize(
    ("body", "query", "headers", "status"),
    [
        (b"garbage", "", {}, 400),
        (b"", "", {}, 400),
        (PICTURE[:-30], "", {}, 400),
        (bomb(10000, 10000), "", {}, 400),
        (PICTURE, "?fit=squeeze", {}, 400),
        (PICTURE, "?engine=nix", {}, 404),
        (PICTURE, "", {"Accept": "text/html"}, 406),
        (PICTURE, "", {"Content-Encoding": "gzip"}, 415),
        (PICTURE, "", {"Origin": "http://evil.org"}, 403),
        (PICTURE, "", {"Host": "evil.org"}, 403),
    ],
)
def test_what_is_refused_is_one_line_of_json_and_the_next_is_answered(running, body, query, headers, status):
    found = running.segment(body, query, **headers)
    assert found.status == status and set(found.values) == {"error"} and "\n" not in found.values["error"]
    assert running.segment(PICTURE).status == 200


def test_an_address_or_a_method_that_is_not_there_is_refused_alike(running):
    assert running.ask("GET", "/nix").status == 404
    found = running.ask("PUT", "/segment", PICTURE)
    assert found.status == 405 and found.headers["allow"] == "POST"


def test_a_body_over_the_limit_is_a_413_that_arrives_though_all_of_it_is_sent_first(running):
    for announced in (True, False):
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        parts = (b"x" * (1 << 16) for _ in range(200))
        headers = {"Content-Length": str(200 << 16)} if announced else {}
        connection.request("POST", "/segment", parts, headers, encode_chunked=not announced)
        found = answer_on(connection)
        connection.close()
        assert found.status == 413 and "1 MiB" in found.values["error"]


def test_a_body_that_does_not_come_is_a_408_that_arrives_and_holds_nobody_up(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as slow:
        slow.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        assert running.segment(PICTURE).status == 200
        assert not select.select([slow], [], [], 0)[0]  # the good one was answered meanwhile
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # the beginning of TLS
        b"GET /segment\r\n\r\n",
        b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /segment HTTP/1.1\r\nHost: localhost\r\nX-Frame-Size: \xff\r\nContent-Length: 1\r\n\r\nx",
        b"POST /%ff%00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_or_nearly_is_refused_and_the_next_is_answered(running, data):
    address = ("127.0.0.1", running.port)
    # What is far too long is cut off.
    with suppress(OSError), socket.create_connection(address, timeout=20) as rude:
        rude.sendall(data)
        rude.shutdown(socket.SHUT_WR)
        assert rude.recv(4096).split(b" ")[:2] in ([b""], [b"HTTP/1.1", b"400"], [b"HTTP/1.1", b"404"])
    assert running.segment(PICTURE).status == 200


NO_HTTP = 'streetseg_requests_total{code="400",route="none"}'
CHUNKED = b"HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (b"POST /nix ", b"", b"404"),
        (b"POST /segment ", b"Origin: http://evil.org\r\n", b"403"),
        (b"GET /segment ", b"", b"405"),
        (b"POST /engine ", b"", b"403"),
    ],
)
def test_garbage_behind_an_answer_costs_nobody_the_answer_and_the_log_no_line(running, request_line, headers, status):
    before, said = metrics(running).get(NO_HTTP, 0), running.log.read_text()
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as rude:
        rude.sendall(request_line + CHUNKED + headers + b"\r\n")
        answer = rude.recv(4096)
        assert answer.split(b" ")[1] == status
        rude.sendall(b"xyz\r\n")
        rude.sendall(b"and more of it" * 1000)
        while rude.recv(4096):
            pass
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as rude:
        rude.sendall(request_line + CHUNKED + headers + b"\r\nxyz\r\n")  # at once: the answer has not begun
        assert rude.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert running.segment(PICTURE).status == 200
    assert running.log.read_text() == said
    assert metrics(running)[NO_HTTP] == before + 1


def test_a_400_of_what_is_no_request_is_counted(running):
    before = metrics(running).get(NO_HTTP, 0)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as rude:
        rude.sendall(b"no HTTP at all\r\n\r\n")
        answer = rude.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b'{"error": "what came is no HTTP/1.1"}')
    assert metrics(running)[NO_HTTP] == before + 1


def test_one_connection_takes_one_request_after_the_other(running):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    for _ in range(3):
        connection.request("POST", "/segment", PICTURE)
        assert answer_on(connection).status == 200
    connection.close()


def test_metrics_count_requests_frames_refusals_and_stages(running):
    before = metrics(running)
    running.segment(PICTURE)
    running.segment(b"garbage")
    after = metrics(running)
    for name in (
        'streetseg_requests_total{code="200",route="/segment"}', 'streetseg_frames_total{engine="street"}',
        'streetseg_stage_seconds_count{stage="network"}', 'streetseg_refused_total{reason="frame"}',
    ):  # fmt: skip
        assert after[name] == before.get(name, 0) + 1
    assert after["streetseg_in_flight"] == after["streetseg_queue"] == 0 and after["streetseg_ready"] == 1
    assert sum(name.startswith("streetseg_engine_info{") for name in after) == 2
    assert after["process_resident_memory_bytes"] > 0


def metrics(found):
    lines = found.ask("GET", "/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_the_engines_are_listed_with_their_classes(running):
    first, second = running.ask("GET", "/engines").values
    assert (first["name"], second["name"], first["size"]) == ("street", "other", [64, 128])
    assert [each["name"] for each in first["classes"]] == [label.name for label in CAMVID]


def test_the_v2_protocol_is_answered_as_it_is_written(running):
    assert running.ask("GET", "/v2/health/live").status == running.ask("GET", "/v2/health/ready").status == 200
    assert running.ask("GET", "/v2").values["extensions"] == ["binary_tensor_data"]
    told = running.ask("GET", "/v2/models/street").values
    assert told["inputs"] == [{"name": "frame", "datatype": "UINT8", "shape": [-1, -1, 3]}]
    assert told["parameters"]["engine_sha256"] and told["parameters"]["classes"][0]["name"] == CAMVID[0].name
    assert running.ask("GET", "/v2/models/street/versions/1/ready").status == 200
    assert running.ask("GET", "/v2/models/street/versions/2").status == 404
    assert running.ask("GET", "/v2/models/nix").status == running.ask("GET", "/v2/models/nix/ready").status == 404
    wrong = running.ask("POST", "/v2/models/street/infer", b"[]")
    assert wrong.status == 400 and "object" in wrong.values["error"]


def test_tritonclient_gets_the_same_mask(running):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed: make test-serve does")
    with triton.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("street")
        assert client.get_model_metadata("street")["outputs"][0]["name"] == "mask"
        frame = triton.InferInput("frame", list(FRAME.shape), "UINT8")
        for binary in (True, False):
            frame.set_data_from_numpy(FRAME, binary_data=binary)
            outputs = [triton.InferRequestedOutput("mask", binary_data=binary)]
            assert np.array_equal(client.infer("street", [frame], outputs=outputs).as_numpy("mask"), MASK)
        every = client.infer("street", [frame], model_version="1", request_id="7")
        assert np.array_equal(every.as_numpy("confidence"), expected_confidence(FRAME))
        assert every.get_response()["id"] == "7"


def until_in_flight(found, count):
    """Wait until so many requests are let in, however busy the machine is."""
    end = time.monotonic() + 20
    while metrics(found)["streetseg_in_flight"] != count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_more_than_there_are_places_for_are_told_to_come_again(slow):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: slow.segment(PICTURE), range(8)))
    assert sorted(each.status for each in found) == [200] * 2 + [503] * 6
    assert all(int(each.headers["retry-after"]) >= 1 for each in found if each.status == 503)


def test_a_client_that_left_is_not_worked_for(tmp_path):
    engine = write_fake_engine(tmp_path, delay_s=2.0)
    with server("--engine", engine, "--lanes", 1, folder=tmp_path) as found:
        head = f"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
        for _ in range(3):  # the first is in the lane, the others wait
            with socket.create_connection(("127.0.0.1", found.port), timeout=20) as one:
                one.sendall(head.encode() + PICTURE)
                time.sleep(0.2)
        start = time.monotonic()
        assert found.segment(PICTURE).status == 200
        assert time.monotonic() - start < 5  # behind the one in the lane; behind all of them it would be eight
        assert metrics(found)['streetseg_requests_total{code="499",route="/segment"}'] == 3


def test_who_waited_too_long_is_not_worked_for(tmp_path):
    engine = write_fake_engine(tmp_path, delay_s=1.0)
    with server("--engine", engine, "--lanes", 1, "--wait-seconds", 0.5, folder=tmp_path) as found:
        with ThreadPoolExecutor(3) as pool:
            found_ones = list(pool.map(lambda _: found.segment(PICTURE), range(3)))
        assert sorted(each.status for each in found_ones) == [200, 503, 503]
        assert all("--wait-seconds" in each.values["error"] for each in found_ones if each.status == 503)
        assert metrics(found)['streetseg_refused_total{reason="late"}'] == 2
        assert found.segment(PICTURE).status == 200


def test_a_process_that_is_killed_is_not_ready_any_more(slow):
    slow.process.kill()
    slow.process.wait()
    with pytest.raises(ConnectionRefusedError):
        slow.ask("GET", "/v2/health/ready")


def test_a_frame_that_hangs_in_its_lane_makes_the_server_not_ready(tmp_path):
    engine = write_fake_engine(tmp_path, delay_s=4.0)
    with server("--engine", engine, "--lanes", 1, "--stall-seconds", 2, folder=tmp_path) as found:
        asking = threading.Thread(target=found.segment, args=(PICTURE,))
        asking.start()
        until_in_flight(found, 1)
        assert found.ask("GET", "/v2/health/ready").status == 200
        time.sleep(2.2)
        assert found.ask("GET", "/v2/health/ready").status == 503
        asking.join()
        assert found.ask("GET", "/v2/health/ready").status == 200


def test_with_a_token_only_health_is_open(tmp_path):
    (tmp_path / "token").write_text("a-token-of-many-letters\n")
    engine = write_fake_engine(tmp_path)
    with server("--engine", engine, "--token-file", tmp_path / "token", folder=tmp_path) as found:
        assert found.segment(PICTURE).status == found.ask("GET", "/metrics").status == 401
        assert found.ask("GET", "/v2/health/ready").status == 200
        assert found.segment(PICTURE, Authorization="Bearer a-token-of-many-letters").status == 200


def test_headers_that_do_not_come_and_connections_over_the_bound_end(tmp_path, monkeypatch):
    engine = write_fake_engine(tmp_path)
    with server("--engine", engine, "--connections", 2, folder=tmp_path) as found:
        held = [socket.create_connection(("127.0.0.1", found.port), timeout=20) for _ in range(2)]
        time.sleep(0.2)
        full = found.segment(b"")
        assert full.status == 503 and "too many connections" in full.values["error"]
        for one in held:
            one.close()
        time.sleep(0.2)
        assert found.segment(PICTURE).status == 200
        counted = metrics(found)
        assert counted['streetseg_requests_total{code="503",route="none"}'] == 1
        assert counted['streetseg_refused_total{reason="connections"}'] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--port", "0", "--engine", "nix.engine"), "does not exist"),
        (("--token-file", "nix"), "cannot be read"),
        (("--host", "203.0.113.7"), "cannot listen on 203.0.113.7"),
        (("--engine", "a.engine", "--engine", "a.engine"), "engines of one name"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, options, said):
    write_fake_engine(tmp_path, name="a")
    with pytest.raises(RuntimeError, match=said) as caught, server(*options, folder=tmp_path):
        pass
    assert "Traceback" not in str(caught.value)


def test_a_port_that_another_program_has_is_one_line(tmp_path, running):
    write_fake_engine(tmp_path, name="a")
    taken = ("--engine", "a.engine", "--port", running.port)
    with pytest.raises(RuntimeError, match="give another --port"), server(*taken, folder=tmp_path):
        pass
