"""How a network grows: the cases, what is written of them, and that engines of two networks are refused."""

from pathlib import Path

import numpy as np
import pytest

from runtime import cli
from runtime.errors import EngineError
from runtime.measure.bench import scaling
from runtime.measure.bench.scaling import Case, cases_of, main, powers, read_document
from runtime.threads import asked, count, usable
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_spec
from tests.helpers.pictures import gradient

SIZES = ((32, 64), (64, 128))


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Of two sizes, the larger first."""
    folders = [tmp_path_factory.mktemp("engine") for _ in SIZES]
    specs = [tiny_spec(height=height, width=width) for height, width in SIZES[::-1]]
    return [built_engine(folder, spec=spec) for folder, spec in zip(folders, specs, strict=True)]


@pytest.mark.parametrize(("most", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_threads_are_doubled_up_to_all(most, expected):
    assert powers(most) == expected


def test_cases_are_by_threads_of_one_size_and_by_size_of_all_threads(engines):
    by_threads, by_size = cases_of(engines[0], engines[1:], [1, 2, 1])
    assert by_threads == [Case(engines[0], 1, SIZES[1]), Case(engines[0], 2, SIZES[1])]
    assert by_size == [Case(engines[1], count(), SIZES[0]), Case(engines[0], count(), SIZES[1])]


def test_each_case_is_opened_with_its_threads_and_a_frame_of_its_size(engines, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(scaling, "Worker", lambda job, frame: seen.append((asked(), np.load(frame).shape)))
    for threads in (1, 2):
        scaling._opened(Case(engines[0], threads, SIZES[0]), gradient(), tmp_path)
    assert seen == [(1, (*SIZES[0], 3)), (2, (*SIZES[0], 3))] and asked() is None


def test_every_case_is_measured_and_written(engines, tmp_path, capsys):
    options = ["--sizes", str(engines[1]), "--rounds", "3", "--warmup", "1", "--json", str(tmp_path / "out.json")]
    assert main(["--engine", str(engines[0]), *options]) == cli.DONE
    found = read_document(tmp_path / "out.json")
    assert [case["threads"] for case in found["threads"]] == powers(usable())
    assert [tuple(case["size"]) for case in found["sizes"]] == list(SIZES)
    for case in (*found["threads"], *found["sizes"]):
        assert len(case["samples_ms"]) == 3 and case["frames_per_s"] > 0 and case["peak_mib"] > 10
        assert case["in_flight"] == case["threads"]
    assert found["threads"][-1] == found["sizes"][1]  # one case of both
    assert "python -m runtime.bench_scaling" in found["fingerprint"]["command"].replace("python3", "python")
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(found["threads"]) + len(found["sizes"])


def test_engines_of_two_precisions_are_refused(engines, tmp_path):
    other = built_engine(tmp_path, precision="fp16")
    with pytest.raises(EngineError, match="give engines of one network, precision and library"):
        cases_of(engines[0], [other], [1])


def test_a_missing_engine_is_one_line(engines):
    with pytest.raises(EngineError, match="does not exist"):
        main(["--engine", str(engines[0]), "--sizes", str(Path("none.engine"))])
