"""MNN and ncnn as rivals: their libraries made up here; what they give with the real ones is `make test-rivals`."""

import sys
from pathlib import Path

import numpy as np
import pytest

from runtime import reference
from runtime.backend import open_backend
from runtime.errors import EngineError, LibraryError
from runtime.measure import mobile_rivals
from runtime.measure.mobile_rivals import MobileRival, open_mobile
from runtime.measure.worker import Job, Worker, mask_of
from tests.helpers.engines import built_engine
from tests.helpers.pictures import gradient

SAME_MASK = 0.9  # OpenCV resizes in fixed point
OTHER_PYTHON = Path(__file__).parents[3] / ".venv-rivals/bin/python"


class Referee(MobileRival):
    """The referee in a library's place."""

    def _open(self, graph, preprocess):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(graph.read_bytes())

    def _logits(self, values):
        return self._session.run(None, {"frame": values})[0][0]


@pytest.fixture
def plain(tmp_path):
    return built_engine(tmp_path, backend="onnxruntime")


def expected(plain, frame):
    with open_backend(plain) as backend:
        return reference.postprocess(backend.logits(frame), *frame.shape[:2])


@pytest.mark.parametrize("size", [(32, 64), (40, 100)])
def test_what_stands_around_the_library_is_the_reference(plain, size):
    frame = np.ascontiguousarray(gradient(*size))
    rival = Referee(plain)
    mask = rival.segment(frame)
    assert mask.shape == size and mask.dtype == np.uint8
    assert (mask == expected(plain, frame)).mean() > SAME_MASK
    assert list(rival.stages_ms) == ["preprocess", "network", "postprocess"]


@pytest.mark.parametrize("kind", ["mnn", "ncnn"])
def test_without_its_library_one_line_says_so(plain, kind, monkeypatch):
    for name in ("MNN", "MNN.nn", "ncnn"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LibraryError, match="library does not load"):
        open_mobile(kind, plain)


def test_a_converter_that_fails_is_told_by_its_last_line(tmp_path):
    with pytest.raises(EngineError, match=r"bash does not convert the plain graph \(no such layer\)"):
        mobile_rivals._converted(["bash", "-c", "echo fine; echo no such layer >&2; exit 1"], tmp_path / "x")
    with pytest.raises(EngineError, match=r"\(done\)"):  # it says so, and wrote nothing
        mobile_rivals._converted(["bash", "-c", "echo done"], tmp_path / "x")


def test_a_fit_is_the_rivals_too(plain, monkeypatch):
    monkeypatch.setattr(mobile_rivals, "Mnn", Referee)
    assert open_mobile("mnn", plain, "pad").spec.preprocess.fit == "pad"


@pytest.mark.rivals
@pytest.mark.parametrize("kind", ["mnn", "ncnn"])
def test_the_real_library_gives_the_mask_of_the_reference(plain, kind, tmp_path):
    frame = np.ascontiguousarray(gradient(32, 64))
    np.save(tmp_path / "frame.npy", frame)
    with Worker(Job(kind, (plain,), python=OTHER_PYTHON), tmp_path / "frame.npy") as worker:
        mask = mask_of(worker, tmp_path)
    assert (mask == expected(plain, frame)).mean() > 0.99
