"""What each store of objects is held to, through fsspec: a bucket named `archive`, as a folder would be."""

from pathlib import Path
from typing import Any

import pytest

from runtime import cli
from runtime.errors import FrameError, OutputError
from runtime.fleet import main
from runtime.fleet.listing import listed
from runtime.fleet.stores import store_of
from tests.helpers.fleet import fill, hold_to_folder
from tests.helpers.fleet_runs import running


def fill_bucket(fs: Any, folder: Path) -> None:
    """Six pictures, films and a bad file, in `folder`/in and in the bucket, which is made anew."""
    if fs.exists("archive"):
        fs.rm("archive", recursive=True)
    fs.mkdir("archive")
    fill(folder / "in", pictures=6, bad=True)
    fs.put(str(folder / "in"), "archive/in", recursive=True)


def hold_runs_to_folder(scheme: str, fs: Any, engine: Path, folder: Path) -> list[str]:
    """From bucket to bucket, in shares and on Ray: the bytes of from folder to folder. The words of the run on Ray."""
    for given, out in (("in", "out"), (f"{scheme}://archive/in/", f"{scheme}://archive/out")):
        main(["plan", given, "-o", out, "--part-seconds", "0.5"])
        for item in ("1/2", "2/2"):
            main(["-o", out, "--item", item, "--engine", str(engine)])
        assert main(["merge", "-o", out]) == cli.FAILED  # of the bad one
    hold_to_folder(fs, folder / "out", "archive/out")
    words = [f"{scheme}://archive/in/", "-o", f"{scheme}://archive/ray"]
    words += ["--part-seconds", "0.5", "--engine", str(engine)]
    with running(folder, *words) as run:
        assert "bad.png: not an image" in run.ended([cli.FAILED])
    hold_to_folder(fs, folder / "out", "archive/ray")
    return words


def hold_what_is_missing_to_a_line(scheme: str) -> None:
    """What is not in the store, and a bucket that is not there."""
    with pytest.raises(FrameError, match=r"no image or video there|cannot be listed"):
        listed([f"{scheme}://nothing/here/"], [], "out")
    store = store_of(f"{scheme}://archive/out")
    assert not store.has("results.parquet") and store.sizes("rows") == {}
    with pytest.raises(FileNotFoundError):
        store.read("results.parquet")
    with pytest.raises(OutputError, match=rf"{scheme}://none/out/plan.* cannot be written"):
        main(["plan", "in", "-o", f"{scheme}://none/out"])
