"""One schema for what is written and read again: what is committed fits it, and what is odd is one line."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import PipelineError
from runtime.measure.documents import Bench, Files, Gate, encoded, mask_from_text, read, text_from_mask

FIGURES = Path(__file__).parents[3] / "figures"
KINDS = {
    "bench-*.json": (Bench, "runtime.bench", 2),
    "files-*.json": (Files, "runtime.bench_files", 2),
    "earlier/*-*.json": (Gate, "runtime.regress", 1),
}


def files(pattern):
    return [
        path
        for path in sorted(FIGURES.glob(pattern))
        if "/" not in pattern or not path.name.startswith(("bench", "sizes"))
    ]


@pytest.mark.parametrize("pattern", KINDS)
def test_what_is_committed_is_read(pattern):
    kind, module, version = KINDS[pattern]
    for path in files(pattern):
        document = read(path, kind, module, version)
        assert json.loads(encoded(document, kind)) == json.loads(path.read_text())
    assert files(pattern)


@pytest.fixture(scope="module")
def bench():
    return json.loads(files("bench-*.json")[0].read_text())


ODD = {
    "no engine": lambda d: d["paths"].pop("engine"),
    "no throughput": lambda d: d["paths"]["engine"].pop("throughput"),
    "an unknown path": lambda d: d["paths"].update(abacus=d["paths"]["engine"]),
    "no percentile": lambda d: d["paths"]["engine"]["percentiles_ms"].pop("p90"),
    "falling percentiles": lambda d: d["paths"]["engine"]["percentiles_ms"].update(p90=1e-3),
    "a stage that is text": lambda d: d["paths"]["engine"].update(stages_ms={"network": "1"}),
    "no samples": lambda d: d["paths"]["engine"].update(samples_ms=[]),
    "agreement of 2": lambda d: d["paths"]["engine"].update(mask_agreement=2.0),
    "a size of three": lambda d: d["fingerprint"].update(frame_size=[1, 2, 3]),
    "a gpu without a driver": lambda d: d["fingerprint"]["machine"].update(gpu={"name": "a"}),
    "no load": lambda d: d.pop("load"),
    "no version": lambda d: d.pop("version"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_benchmark_is_one_line(bench, tmp_path, kind):
    document = copy.deepcopy(bench)
    ODD[kind](document)
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(
        PipelineError, match=r"x\.json is no document of runtime\.bench \(.+\); measure it again"
    ) as error:
        read(tmp_path / "x.json", Bench, "runtime.bench", 2)
    assert "\n" not in str(error.value)


def test_ways_and_stages_of_files_must_have_the_same_rounds(tmp_path):
    whole = json.loads(files("files-*.json")[0].read_text())
    for spoil in (
        lambda d: d["inputs"]["PNG"].pop("sequential"),
        lambda d: d["inputs"]["PNG"]["sequential"]["frames_per_s"].pop(),
        lambda d: d["inputs"]["PNG"]["sequential"]["stages_ms"].pop("decode"),
        lambda d: d["inputs"].update(BMP={}),
    ):
        document = copy.deepcopy(whole)
        spoil(document)
        (tmp_path / "x.json").write_text(json.dumps(document))
        with pytest.raises(PipelineError, match=r"no document of runtime\.bench_files \("):
            read(tmp_path / "x.json", Files, "runtime.bench_files", 1)


def test_a_document_that_nothing_would_read_again_is_not_written(bench):
    with pytest.raises(ValueError, match="nothing would read again"):
        encoded({**bench, "rounds": 0}, Bench)
    with pytest.raises(ValueError, match="JSON"):
        encoded({**bench, "more": float("nan")}, Bench)


def test_a_mask_survives_its_text_and_a_damaged_one_is_refused():
    mask = np.random.default_rng(0).integers(0, 12, (7, 9), np.uint8)
    text = text_from_mask(mask)
    assert (mask_from_text(text, 7, 9) == mask).all()
    for wrong, size in ((text, (7, 8)), (text, (7, 10)), (text[:-8], (7, 9)), ("no base64!", (7, 9)), ("AAAA", (7, 9))):
        with pytest.raises(ValueError):
            mask_from_text(wrong, *size)


def test_a_mask_is_not_inflated_beyond_its_size():
    bomb = text_from_mask(np.zeros((1000, 1000), np.uint8))
    with pytest.raises(ValueError, match="not of 2x2 pixels"):
        mask_from_text(bomb, 2, 2)
