"""What is planned: inputs that could not be read then are read again, and options of the plan are not passed over."""

import pytest

from runtime import cli
from runtime.artifacts import sha256_of
from runtime.errors import FrameError, OutputError
from runtime.fleet import main, plan, worker
from tests.helpers.fleet import FRAMES, fill, masks, results

fsspec = pytest.importorskip("fsspec", reason="the extra fleet brings it")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "in", pictures=2, films=2)
    yield tmp_path
    fsspec.filesystem("memory").store.clear()


def stored(folder):
    for path in folder.iterdir():
        fsspec.filesystem("memory").pipe_file(f"/b/in/{path.name}", path.read_bytes())


def listed_unread(monkeypatch, given, out):
    """A plan while nothing can be read, as root can read whatever it is not allowed to."""

    def fail(*_):
        raise PermissionError(13, "Permission denied")

    def fail_to_fetch(address, target):
        raise FrameError(f"{address}: cannot be read (the network is down)")

    with monkeypatch.context() as patch:
        patch.setattr(plan, "sha256_of", fail)
        patch.setattr(plan, "fetch", fail_to_fetch)
        assert main(["plan", given, "-o", out, "--part-seconds", "0.5"]) == cli.DONE


def do(engine, out, *words):
    return main(["-o", out, "--item", "1/1", "--engine", str(engine), *words])


def test_a_file_that_could_not_be_read_is_read_again_by_the_next_plan(here, engine, monkeypatch, capsys):
    listed_unread(monkeypatch, "in", "out")
    for words in ((), ("--retry-errors",)):
        assert do(engine, "out", *words) == cli.FAILED
        assert capsys.readouterr().err.count("could not be read when it was listed, and can be now: list it again") == 4
    assert main(["merge", "-o", "out"]) == cli.FAILED
    rows = results(here / "out")
    assert len(rows) == 4 and not any(row.outputs or row.input_sha256 for row in rows)
    main(["plan", "in", "-o", "out", "--part-seconds", "0.5"])
    assert do(engine, "out") == cli.DONE and main(["merge", "-o", "out"]) == cli.DONE
    rows = results(here / "out")
    assert {row.input_sha256 for row in rows} == {sha256_of(path) for path in (here / "in").iterdir()}
    assert len({row.key for row in rows}) == len(rows) > 4  # films in parts
    assert sum(row.frames for row in rows) == 2 + 2 * FRAMES


def test_films_that_could_not_be_fetched_when_they_were_listed_are_not_taken_for_each_other(here, engine, monkeypatch):
    stored(here / "in")
    listed_unread(monkeypatch, "memory://b/in/?.mp4", "out")
    assert do(engine, "out") == cli.FAILED
    assert not (here / "out" / "masks").exists()
    main(["plan", "memory://b/in/?.mp4", "-o", "out", "--part-seconds", "0.5"])
    assert do(engine, "out") == cli.DONE and main(["merge", "-o", "out"]) == cli.DONE
    main(["plan", "in/*.mp4", "-o", "local", "--part-seconds", "0.5"])
    assert do(engine, "local") == cli.DONE
    assert {name.rpartition("/")[2]: mask for name, mask in masks(here / "out").items()} == {
        name.rpartition("/")[2]: mask for name, mask in masks(here / "local").items()
    }


def test_each_film_that_is_fetched_has_a_file_of_its_own_also_while_its_bytes_are_unknown(here, engine, monkeypatch):
    stored(here / "in")
    listed_unread(monkeypatch, "memory://b/in/?.mp4", "out")
    monkeypatch.setattr(worker, "_refuse_unlisted", lambda item, path: None)
    assert do(engine, "out") == cli.DONE
    assert len(set(masks(here / "out").values())) == 2


def test_why_an_input_cannot_be_read_is_told_where_that_is_still_so(here, engine, monkeypatch, capsys):
    stored(here / "in")
    listed_unread(monkeypatch, "memory://b/in/", "out")
    memory = fsspec.filesystem("memory")
    get_file = memory.get_file

    def refuse(path, *words, **named):
        if path.endswith("1.png"):
            raise PermissionError(13, "Access Denied")
        return get_file(path, *words, **named)

    monkeypatch.setattr(type(memory), "get_file", staticmethod(refuse))
    assert do(engine, "out") == cli.FAILED
    assert "1.png: cannot be read (Access Denied)" in capsys.readouterr().err


OTHER = [("--save", "color"), ("--alpha", "0.7"), ("--colors", "cityscapes"), ("--fit", "pad"), ("--part-seconds", "2")]


def test_an_option_that_is_not_as_planned_is_refused_beside_a_plan(here, engine):
    main(["plan", "in", "-o", "out", "--part-seconds", "0.5", "--save", "ids,color"])
    for words in OTHER:
        for does in (["--item", "1/1", "--engine", str(engine)], ["merge"]):
            with pytest.raises(OutputError, match=f"{words[0]} is .* in the plan at out: leave"):
                main([*does, "-o", "out", *words])
    assert not (here / "out" / "masks").exists()
    same = ("--save", "ids,color", "--alpha", "0.5", "--part-seconds", "0.5")
    assert main(["-o", "out", "--item", "1/1", "--engine", str(engine), *same]) == cli.DONE
