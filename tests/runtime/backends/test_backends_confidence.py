"""The confidence of the backends on a CPU: that of their own logits."""

import dataclasses

import numpy as np
import pytest

from runtime import reference
from runtime.backend import open_backend
from runtime.errors import EngineError, FrameError
from runtime.lanes import open_lanes
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_spec

CPU_BACKENDS = ("openvino", "onnxruntime")
SIZES = ((32, 64), (1, 1), (17, 301), (60, 9))


def frame(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("options", [{}, {"block": 2}, {"batch": 2}], ids=str)
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_confidence_is_the_references_and_its_mask_the_same_as_without(tmp_path, backend, options):
    path = built_engine(tmp_path, backend=backend, spec=tiny_spec(**options))
    for fit in ("stretch", "pad"):
        with open_backend(path, fit=fit) as engine, open_lanes(path, 2, fit=fit) as lanes:
            for size in SIZES:
                image = frame(*size)
                expected = reference.segment_confidence(engine.logits(image), engine.spec, size)
                for one in (engine, lanes):
                    mask, found = one.confidence(image)
                    np.testing.assert_array_equal(mask, engine.segment(image))
                    np.testing.assert_array_equal(found, expected)
                assert list(engine.stages_ms) == ["preprocess", "network", "postprocess"]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_it_is_written_where_the_caller_says_and_nowhere_else(tmp_path, backend):
    torch = pytest.importorskip("torch")
    image, path = frame(20, 30), built_engine(tmp_path, backend=backend)
    with open_backend(path) as engine, open_lanes(path, 1) as lanes:
        expected = engine.confidence(image)
        mask, found = torch.zeros((20, 30), dtype=torch.uint8), np.zeros((20, 60), np.uint8)[:, ::2]
        given = engine.confidence(torch.from_numpy(image), mask, found)
        assert given[0] is mask and given[1] is found
        for one, other in zip(given, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(one), other)
        for one in (engine, lanes):
            with pytest.raises(ValueError, match="confidence_out: it would be written over the mask"):
                one.confidence(image, mask, mask)
            with pytest.raises(ValueError, match="confidence_out: the mask of this frame is written to"):
                one.confidence(image, None, np.zeros((9, 9), np.uint8))
            with pytest.raises(FrameError, match="a frame is uint8"):
                one.confidence(image[..., 0])
        np.testing.assert_array_equal(np.asarray(mask), expected[0])


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_graph_that_gives_ids_has_none(tmp_path, backend):
    spec = dataclasses.replace(tiny_spec(), upsample="nearest")
    path = built_engine(tmp_path, backend=backend, spec=spec)
    said = "has no confidence: its graph gives class ids and no logits"
    with open_backend(path) as engine, pytest.raises(EngineError, match=said):
        engine.confidence(frame(20, 30))
