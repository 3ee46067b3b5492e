"""From S3 to S3, on a server of this machine: without Ray and on it, the bytes of from folder to folder."""

import logging
import re

import pytest

from runtime import cli
from runtime.errors import FrameError, OutputError
from runtime.fleet import main
from runtime.fleet.listing import listed
from tests.helpers.buckets import fill_bucket, hold_runs_to_folder, hold_what_is_missing_to_a_line
from tests.helpers.engines import built_engine
from tests.helpers.fleet import results
from tests.helpers.fleet_runs import running

pytestmark = pytest.mark.fleet


@pytest.fixture(scope="module")
def server():
    """Its address and what botocore reads of the environment; it ends with the tests."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    server.stop()


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    """s3://archive with inputs in `in`, the same beside in the current folder, and an engine."""
    import s3fs

    monkeypatch.chdir(tmp_path)
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fill_bucket(fs, tmp_path)
    yield fs, built_engine(tmp_path / "engines")
    fs.invalidate_cache()


def test_from_bucket_to_bucket_is_from_folder_to_folder(bucket, tmp_path):
    fs, engine = bucket
    words = hold_runs_to_folder("s3", fs, engine, tmp_path)
    with running(tmp_path, *words) as run:
        said = run.ended([cli.FAILED])
    assert re.search(r"^(\d+) items, \1 done before$", said, re.M) and "worker" not in said


def test_what_is_not_in_the_store_is_one_line(bucket):
    hold_what_is_missing_to_a_line("s3")


def test_a_server_that_is_not_there_and_keys_that_are_missing_are_one_line(bucket, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(FrameError, match=r"s3://archive/in/: cannot be listed"):
        listed(["s3://archive/in/"], [], "out")
    with pytest.raises(OutputError, match=r"s3://archive/out.* cannot be"):
        main(["plan", "in", "-o", "s3://archive/out"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(FrameError, match=r"s3://archive/in/: cannot be listed"):
        listed(["s3://archive/in/"], [], "out")
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_object_that_was_replaced_is_done_again(bucket, capsys):
    fs, engine = bucket
    how = ["-o", "s3://archive/out", "--part-seconds", "0"]
    for count in (7, 0, 1):
        main(["plan", "s3://archive/in/?.png", "s3://archive/in/0.mp4", *how])
        capsys.readouterr()
        assert main([*how, "--item", "1/1", "--engine", str(engine)]) == cli.DONE
        assert capsys.readouterr().out.startswith(f"{count} items done")
        if count == 0:
            fs.copy("archive/in/2.png", "archive/in/1.png")


def test_a_key_that_is_a_path_of_another_object_is_a_row_with_its_error_and_has_no_masks_of_that_one(bucket, tmp_path):
    fs, engine = bucket
    keys = ("in/a/b/../../0.png", "in/../../../0.png", "in/a//1.png", "in//1.png", "in/./1.png")
    other = (tmp_path / "in" / "1.png").read_bytes()
    for key in keys:
        fs.call_s3("put_object", Bucket="archive", Key=key, Body=other)
    main(["plan", "s3://archive/in/", "-o", "out", "--part-seconds", "0"])
    assert main(["-o", "out", "--item", "1/1", "--engine", str(engine)]) == cli.FAILED
    assert main(["merge", "-o", "out"]) == cli.FAILED
    rows = {row.input.removeprefix("s3://archive/"): row for row in results(tmp_path / "out")}
    listed_by_server = {key for key in keys if key in rows}
    assert len(listed_by_server) >= 3  # the server of the tests makes one key of some
    assert all("its key has a part that no file or folder is called" in rows[key].error for key in listed_by_server)
    assert all(row.outputs for key, row in rows.items() if key not in listed_by_server and not key.endswith("bad.png"))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "engines", "out"}
