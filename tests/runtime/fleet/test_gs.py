"""From gs:// to gs://, on an emulator of this machine: without Ray and on it, the bytes of from folder to folder."""

import logging
import socket

import pytest

from runtime import cli
from runtime.fleet import main
from tests.helpers.buckets import fill_bucket, hold_runs_to_folder, hold_what_is_missing_to_a_line
from tests.helpers.engines import built_engine

pytestmark = pytest.mark.fleet


@pytest.fixture(scope="module")
def server():
    """What gcsfs reads of the environment leads to it; it ends with the tests."""
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="make test-fleet installs it")
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch, emulator.create_server("127.0.0.1", port, in_memory=True):
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        # Looked at when gcsfs is loaded: it would ask Google itself of what kind a bucket is.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        yield


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    """gs://archive with inputs in `in`, the same beside in the current folder, and an engine."""
    gcsfs = pytest.importorskip("gcsfs", reason="the extra gs brings it")
    monkeypatch.chdir(tmp_path)
    gcsfs.GCSFileSystem.clear_instance_cache()
    fs = gcsfs.GCSFileSystem()
    fill_bucket(fs, tmp_path)
    yield fs, built_engine(tmp_path / "engines")
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_from_bucket_to_bucket_is_from_folder_to_folder(bucket, tmp_path):
    fs, engine = bucket
    hold_runs_to_folder("gs", fs, engine, tmp_path)


def test_what_is_not_in_the_store_is_one_line(bucket):
    hold_what_is_missing_to_a_line("gs")


def test_an_object_that_was_replaced_is_done_again(bucket, capsys):
    fs, engine = bucket
    how = ["-o", "gs://archive/out", "--part-seconds", "0"]
    for count in (7, 0, 1):
        main(["plan", "gs://archive/in/?.png", "gs://archive/in/0.mp4", *how])
        capsys.readouterr()
        assert main([*how, "--item", "1/1", "--engine", str(engine)]) == cli.DONE
        assert capsys.readouterr().out.startswith(f"{count} items done")
        if count == 0:
            fs.copy("archive/in/2.png", "archive/in/1.png")
