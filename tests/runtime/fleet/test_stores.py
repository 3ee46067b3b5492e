"""Folders and buckets: files that are there whole or not at all, inputs in stores, what is refused in one line."""

import pytest

from runtime import cli
from runtime.errors import FrameError, LibraryError, OutputError
from runtime.fleet import main
from runtime.fleet.listing import listed
from runtime.fleet.rows import rows_from_bytes
from runtime.fleet.stores import Bucket, Folder, fetch, store_of
from tests.helpers.engines import built_engine
from tests.helpers.fleet import fill, masks, results, told

fsspec = pytest.importorskip("fsspec", reason="the extra fleet brings it")


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        yield store_of(str(tmp_path / "out"))
        return
    yield store_of("memory://bucket/out")
    fsspec.filesystem("memory").store.clear()


def test_a_store_gives_back_what_was_written_and_counts_it(store, tmp_path):
    store.write("rows/a", b"123")
    (tmp_path / "local").write_bytes(b"12345")
    store.put("rows/deep/b", tmp_path / "local")
    store.write("rows/a", b"1234")
    assert store.read("rows/a") == b"1234" and store.read("rows/deep/b") == b"12345"
    assert store.sizes("rows") == {"rows/a": 4, "rows/deep/b": 5} and store.sizes("none") == {}
    assert store.has("rows/a") and not store.has("rows") and not store.has("rows/c")
    store.remove(["rows/a"])
    assert not store.has("rows/a")
    with pytest.raises(FileNotFoundError):
        store.read("rows/a")


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    store = Folder(tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"taken cannot be written .*-o"):
        store.write("taken", b"x")
    with pytest.raises(OutputError):
        store.put("fine", tmp_path / "missing")
    assert list(tmp_path.rglob("*.part")) == [] and not store.has("fine")


def test_what_an_address_needs_is_named_where_it_is_missing(monkeypatch):
    def refuse(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(LibraryError, match=r"s3fs is not installed.*\[fleet\]"):
        Bucket("s3://bucket/x")
    with pytest.raises(LibraryError, match=r"gcsfs is not installed"):
        Bucket("gs://bucket/x")


def test_what_is_not_at_an_address_is_one_line(tmp_path):
    with pytest.raises(FrameError, match="memory://nothing/here: does not exist"):
        fetch("memory://nothing/here", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FrameError, match="no image or video there"):
        listed(["memory://nothing/"], [], "out")


def test_inputs_of_a_store_have_places_as_those_of_a_folder():
    memory = fsspec.filesystem("memory")
    try:
        for name in ("/b/day/1.png", "/b/day/2.mp4", "/b/day/notes.txt", "/b/night/1.png", "/b/out/masks/x.png"):
            memory.pipe_file(name, b"x")
        for given, places in {
            "memory://b/day/": ["day/1.png", "day/2.mp4"],
            "memory://b/day/1.png": ["1.png"],
            "memory://b/*/1.png": ["day/1.png", "night/1.png"],
            "memory://b": ["b/day/1.png", "b/day/2.mp4", "b/night/1.png"],
        }.items():
            assert [str(each.place) for each in listed([given], [], "memory://b/out")] == places
    finally:
        memory.store.clear()


def test_from_store_to_store_gives_the_bytes_of_from_folder_to_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine, memory = built_engine(tmp_path / "engines"), fsspec.filesystem("memory")
    fill(tmp_path / "in", pictures=2)
    try:
        memory.put(str(tmp_path / "in"), "/b/in", recursive=True)
        for given, out in (("in", "out"), ("memory://b/in", "memory://b/out")):
            assert main(["plan", given, "-o", out, "--part-seconds", "0.5"]) == cli.DONE
            assert main(["-o", out, "--item", "1/1", "--engine", str(engine)]) == cli.DONE
            assert main(["merge", "-o", out]) == cli.DONE
        found = {name.removeprefix("/b/out/"): memory.cat_file(name) for name in memory.find("/b/out/masks")}
        assert found == masks(tmp_path / "out")
        of_memory = told(rows_from_bytes(memory.cat_file("/b/out/results.parquet")))
        assert [(row.id, row.shares) for row in of_memory] == [
            (r.id, r.shares) for r in told(results(tmp_path / "out"))
        ]
    finally:
        memory.store.clear()
