"""Two hosts: the same rows and bytes as on one, also where one is lost in the middle."""

import tempfile
from pathlib import Path

import pytest

from runtime import cli
from runtime.fleet import main
from tests.helpers.engines import built_engine
from tests.helpers.fleet import fill, hold_rows, masks, results
from tests.helpers.fleet_runs import rows_there, running
from tests.helpers.two_hosts import HEAD, PORT, can_be_made, two_hosts

pytestmark = [pytest.mark.fleet, pytest.mark.skipif(not can_be_made(), reason="no network namespaces: not root")]

HOW = ("--part-seconds", "0.5", "--save", "ids,color,overlay")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Inputs, an engine, and what is made of them without Ray."""
    folder = tmp_path_factory.mktemp("hosts")
    fill(folder / "in", pictures=80, films=2, size=(600, 800))
    engine = built_engine(folder / "engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["plan", "in", "-o", "alone", *HOW])
        assert main(["-o", "alone", "--item", "1/1", "--engine", str(engine)]) == cli.DONE
        main(["merge", "-o", "alone"])
    return folder, engine


@pytest.mark.parametrize("lost", ["nothing", "the cable", "the other host"])
def test_two_hosts_give_the_rows_and_bytes_of_one_whatever_is_lost(place, lost):
    folder, engine = place
    out = folder / lost.replace(" ", "-")
    words = ["in", "-o", out.name, *HOW, "--engine", str(engine), "--address", f"{HEAD}:{PORT}"]
    with tempfile.TemporaryDirectory(prefix="ray-") as ray, two_hosts(Path(ray)) as hosts:
        how = {"within": hosts.within("head"), "environment": hosts.environment}
        with running(folder, *words, **how) as run:
            run.until(lambda: rows_there(out) >= 15)
            if lost == "the cable":
                hosts.cut()
            if lost == "the other host":
                hosts.kill("other")
            said = run.ended([cli.DONE])
        hosts.kill("other")
    assert "2 workers on 2 machines" in said
    rows = results(out)
    hold_rows(rows, results(folder / "alone"))
    assert masks(out) == masks(folder / "alone")
    assert list(out.rglob("*.part*")) == []
    by = {row.worker.partition(":")[0] for row in rows}
    assert "head" in by and (by == {"head", "other"} or lost != "nothing")
