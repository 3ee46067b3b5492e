import dataclasses

import numpy as np
import pytest

from runtime import reference
from runtime.errors import EngineError
from runtime.fit import with_fit
from tests.helpers.imitated_gpu import frame

SIZES = ((16, 32), (37, 20), (1, 1), (8, 16))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
def test_a_confidence_is_the_references_and_its_mask_the_same_as_without(imitated, precision, block, last):
    gpu = imitated(precision=precision, block=block, last=last)
    for fit in ("stretch", "pad"):
        with gpu.open(with_fit(gpu.manifest, fit)) as backend:
            for size in SIZES:
                for seed in range(3):  # the second frame of a size is a graph without it
                    image = frame(*size, seed)
                    expected = reference.segment_confidence(backend.logits(image), backend.spec, size)
                    mask = backend.segment(image)
                    found_mask, found = backend.confidence(image)
                    np.testing.assert_array_equal(found_mask, mask)
                    np.testing.assert_array_equal(found, expected)


def test_a_mask_without_it_launches_what_it_launched_before(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        backend.segment(frame(20, 30))
        gpu.ran()
        backend.segment(frame(20, 30))
        alone = gpu.ran()
        backend.confidence(frame(20, 30))
        gpu.ran()
        backend.segment(frame(20, 30))
        assert gpu.ran() == alone
        assert not [name for name in alone if "confidence" in name]
        assert list(backend.stages_ms) == ["preprocess", "network", "postprocess"]


def test_it_is_written_where_the_caller_says(imitated):
    gpu = imitated()
    image = frame(20, 30)
    with gpu.open() as backend:
        expected = backend.confidence(image)
        mask, found = np.zeros((20, 30), np.uint8), np.zeros((20, 60), np.uint8)[:, ::2]
        given = backend.confidence(image, mask, found)
        assert given[0] is mask and given[1] is found
        for one, other in zip(given, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        with pytest.raises(ValueError, match="confidence_out: it would be written over the mask"):
            backend.confidence(image, mask, mask)
        with pytest.raises(ValueError, match=r"confidence_out: the mask of this frame is written to uint8 \(20, 30\)"):
            backend.confidence(image, mask, np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match="closed"):
        backend.confidence(image)


def test_a_graph_that_gives_ids_has_none(imitated):
    gpu = imitated()
    ids = dataclasses.replace(gpu.manifest, spec=dataclasses.replace(gpu.manifest.spec, upsample="nearest"))
    with gpu.open(ids) as backend, pytest.raises(EngineError, match="icnet has no confidence"):
        backend.confidence(frame(20, 30))
