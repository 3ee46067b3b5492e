"""The items on Ray: the same rows and bytes as without it, whoever is killed in the middle."""

import re

import pytest

from runtime import cli
from runtime.artifacts import sha256_of
from runtime.errors import EngineError, LibraryError
from runtime.fleet import main
from runtime.fleet.ray_run import MOST_IN_BLOCK
from tests.helpers.engines import built_engine, changed
from tests.helpers.fleet import fill, masks, results, told
from tests.helpers.fleet_runs import all_gone, descendants, kill, listening, named, rows_there, running
from tests.helpers.graphs import tiny_graph

pytestmark = pytest.mark.fleet

PICTURES, FILMS = 80, 2
# Large enough, and all three kinds, so that a run can be caught in its middle.
SIZE, HOW = (600, 800), ("--part-seconds", "0.5", "--save", "ids,color,overlay")
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Inputs, an engine, and what is made of them without Ray."""
    folder = tmp_path_factory.mktemp("fleet")
    fill(folder / "in", pictures=PICTURES, films=FILMS, bad=True, size=SIZE)
    engine = built_engine(folder / "engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["plan", "in", "-o", "alone", *HOW])
        assert main(["-o", "alone", "--item", "1/1", "--engine", str(engine)]) == cli.FAILED
        main(["merge", "-o", "alone"])
    return folder, engine


@pytest.fixture
def words(place, request):
    """What is typed, into a folder of the test's own."""
    _, engine = place
    out = re.sub(r"\W", "-", request.node.name)
    return ["in", "-o", out, *HOW, "--engine", str(engine)]


def check(place, words):
    folder, _ = place
    out = folder / words[2]
    assert told(results(out)) == told(results(folder / "alone"))
    assert masks(out) == masks(folder / "alone")
    assert list(out.rglob("*.part*")) == [] and list((out / "rows").glob("*")) == []


def done_again(told):
    found = re.search(r"(\d+) items? w\w+ done again", told)
    return int(found[1]) if found else 0


def test_ray_gives_the_rows_and_bytes_of_a_run_without_it_and_listens_to_this_machine_alone(place, words):
    folder, _ = place
    with running(folder, *words, "--workers", "2") as run:
        run.until(lambda: rows_there(folder / words[2]) > 5)
        ours = [run.process.pid, *descendants(run.process.pid)]
        addresses = listening(ours)
        said = run.ended([cli.FAILED])
        assert all_gone(ours)
    assert addresses and addresses <= LOOPBACK
    assert "bad.png: not an image" in said and done_again(said) == 0
    check(place, words)
    with running(folder, *words) as run:  # nothing to do: Ray is not started
        assert "done before" in run.ended([cli.FAILED]) and "worker" not in run.told()


def test_a_worker_that_is_killed_costs_the_item_on_its_way(place, words):
    folder, _ = place
    with running(folder, *words, "--workers", "2") as run:
        for least in (10, 30):
            run.until(lambda least=least: rows_there(folder / words[2]) >= least)
            workers = named(descendants(run.process.pid), "ray::MapWorker")
            assert workers
            kill(workers[0])
        said = run.ended([cli.FAILED])
    assert done_again(said) <= 2 * MOST_IN_BLOCK  # of each kill what was on its way
    check(place, words)


def test_a_driver_that_is_killed_goes_on_where_it_was(place, words):
    folder, _ = place
    with running(folder, *words) as run:
        run.until(lambda: rows_there(folder / words[2]) >= 15)
        ours = run.kill()
        # Two agents of Ray's, which do nothing any more, wait a minute for the rest of it.
        assert all_gone([pid for name in ("ray::MapWorker", "raylet", "gcs_server") for pid in named(ours, name)])
    done = rows_there(folder / words[2])
    with running(folder, *words) as run:
        said = run.ended([cli.FAILED])
    assert int(re.search(r"(\d+) done before", said)[1]) == done
    check(place, words)


def test_more_workers_than_a_machine_counts_are_a_line_and_no_hang(place, words, monkeypatch):
    from argparse import Namespace

    from runtime.fleet.ray_run import _workers

    class OneMachine:
        def nodes(self):
            return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 8.0}}]

    def asked(workers, cpus=1, gpus=0):
        return _workers(OneMachine(), Namespace(workers=workers, worker_cpus=cpus, worker_gpus=gpus))

    assert asked(None) == asked(1) == (1, 1)
    for wrong in ((2,), (1, 2), (1, 1, 1)):
        with pytest.raises(LibraryError, match="more than this cluster counts"):
            asked(*wrong)


def test_a_worker_whose_engine_is_wrong_ends_the_run_with_a_line(place, words, tmp_path):
    import shutil

    from runtime.proof import expected_path

    folder, _ = place
    wrong, other = built_engine(tmp_path / "wrong"), built_engine(tmp_path / "other", seed=1)
    shutil.copy(expected_path(other), expected_path(wrong))
    with running(folder, *words[:-1], str(wrong)) as run:
        said = run.ended([cli.FAILED])
    assert "error: " in said and "does not compute on this machine what its graph says" in said
    assert rows_there(folder / words[2]) == 0


def test_an_item_that_takes_its_worker_with_it_is_given_up(place, tmp_path, monkeypatch):
    import ray

    from runtime.fleet.offers import Offer, packed
    from runtime.fleet.plan import kept
    from runtime.fleet.ray_actor import MOST_BEGUN, RUN, Ledger, OnRay, Setting
    from runtime.fleet.stores import Folder

    folder, engine = place
    monkeypatch.setattr(ray, "get", lambda given: given)
    ledger = Ledger()
    for name in ("begin", "begun", "found"):
        setattr(ledger, name, type("Remote", (), {"remote": staticmethod(getattr(ledger, name))}))
    store = Folder(tmp_path / "out")
    store.write(RUN, b"this")
    items, asked = kept(Folder(folder / "alone"))
    setting = Setting(store.address, "this", str(folder), asked, None, None, 1, None)
    on_ray = OnRay(packed(Offer((engine,))), ledger, setting)
    for _ in range(MOST_BEGUN):
        ledger.begin.remote(items[0].id(asked))
    told_of = list(on_ray._errors(items[:2]))
    assert "its worker was killed 3 times" in told_of[0] and told_of[1] == "" and rows_there(tmp_path / "out") == 2
    elsewhere = OnRay(packed(Offer((engine,))), ledger, setting._replace(run="another"))
    with pytest.raises(EngineError, match="does not see the outputs"):
        list(elsewhere._errors(items[2:3]))


@pytest.fixture
def small(tmp_path):
    """A folder with a few inputs, for what is about engines."""
    fill(tmp_path / "in", pictures=3)
    return tmp_path


def test_of_several_engines_each_worker_takes_that_of_its_machine(small, monkeypatch):
    import dataclasses

    foreign, engine = built_engine(small / "foreign", seed=1), built_engine(small / "engines")
    changed(foreign, target=dataclasses.replace(changed(foreign).target, device="another CPU"))
    words = ("in", "-o", "out", "--part-seconds", "0.5", "--engine", str(foreign))
    with running(small, *words) as run:
        assert "no engine for this machine" in (said := run.ended([cli.FAILED])) and "another CPU" in said
    assert rows_there(small / "out") == 0
    with running(small, *words, str(engine)) as run:
        assert "rows are of" not in run.ended()
    monkeypatch.chdir(small)
    main(["plan", "in", "-o", "alone", "--part-seconds", "0.5"])
    main(["-o", "alone", "--item", "1/1", "--engine", str(engine)])
    main(["merge", "-o", "alone"])
    assert {row.engine for row in results(small / "out")} == {engine.stem}
    assert told(results(small / "out")) == told(results(small / "alone"))
    assert masks(small / "out") == masks(small / "alone")


def test_a_worker_without_an_engine_of_its_machine_builds_one_of_the_graph(small):
    import dataclasses

    foreign = built_engine(small / "foreign", seed=1)
    changed(foreign, target=dataclasses.replace(changed(foreign).target, device="another CPU"))
    graph = small / "tiny.onnx"
    graph.write_bytes(tiny_graph())
    words = ["in", "-o", "out", "--engine", "foreign/" + foreign.name, "--graph", graph.name]
    words += ["--precision", "fp32", "--backend", "openvino"]
    with running(small, *words) as run:
        run.ended()
    rows = results(small / "out")
    assert len(rows) == 4 and {row.graph_sha256 for row in rows} == {sha256_of(graph)}
    assert len(masks(small / "out")) == 4
    with running(small, *words) as run:  # known by the graph: neither Ray nor a build is begun
        assert "4 items, 4 done before" in run.ended()
