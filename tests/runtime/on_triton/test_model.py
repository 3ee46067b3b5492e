"""The model without Triton: what it answers, and what it does not serve."""

import json

import numpy as np
import pytest

from runtime.backend import open_backend
from runtime.media.frames import read_frame
from runtime.reference import voided
from runtime.samples import STREET
from runtime.triton.golden import Golden, bytes_from_golden, golden_path, read_golden
from runtime.triton.model import TritonPythonModel, instances_of, keep_to_own_cores, opening_of
from runtime.triton.places import ENGINE

CONFIG = json.dumps({"instance_group": [{"count": 2, "kind": "KIND_CPU"}]})


def loaded(repository):
    model = TritonPythonModel()
    folder = repository / "street"
    model.initialize({"model_repository": str(folder), "model_version": "1", "model_name": "street",
                      "model_instance_name": "street_0_1", "model_config": CONFIG})  # fmt: skip
    return model


@pytest.fixture
def model(pb, repository):
    found = loaded(repository)
    yield found
    found.finalize()


def test_masks_and_confidences_are_those_of_the_engine(pb, model, engines):
    frame = read_frame(STREET)
    frame.flags.writeable = False
    with open_backend(engines[0]) as alone:
        mask, confidence = alone.confidence(frame)
    one, both, void = model.execute([
        pb.Request(frame, "mask"), pb.Request(frame, "confidence", "mask"), pb.Request(frame, "mask", void_below=9),
    ])  # fmt: skip
    assert list(one.tensors) == ["mask"] and np.array_equal(one.tensors["mask"], mask)
    assert list(both.tensors) == ["confidence", "mask"] and np.array_equal(both.tensors["confidence"], confidence)
    assert np.array_equal(void.tensors["mask"], voided(mask, confidence, 9))


def test_a_frame_of_another_shape_is_fitted_as_its_request_says(pb, model, engines):
    frame = read_frame(STREET)[:120]
    for fit in ("stretch", "pad"):
        with open_backend(engines[0], fit=fit) as alone:
            (answer,) = model.execute([pb.Request(frame, "mask", fit=fit, triton_own="x")])
            assert np.array_equal(answer.tensors["mask"], alone.segment(frame))


@pytest.mark.parametrize(
    ("shape", "parameters", "said"),
    [
        ((4, 64, 3), {}, "frame is 4x64 pixels, too small"),
        ((0, 0, 3), {}, "frame is 0x0 pixels, too small"),
        ((64, 64, 3), {"fit": "squeeze"}, "fit: 'squeeze' is none of stretch, pad, auto"),
        ((64, 64, 3), {"void_below": 256}, "void_below: '256' is not a confidence"),
        ((64, 64, 3), {"alpha": 1}, "the parameter 'alpha' is not known"),
    ],
)
def test_a_bad_request_is_one_line_and_the_next_is_answered(pb, model, shape, parameters, said):
    bad, good = model.execute([
        pb.Request(np.zeros(shape, np.uint8), "mask", **parameters),
        pb.Request(np.zeros((64, 64, 3), np.uint8), "mask"),
    ])  # fmt: skip
    assert bad.error.code == pb.TritonError.INVALID_ARG and said in bad.error.message
    assert "\n" not in bad.error.message and good.error is None


def spoilt_mask(repository):
    engine = repository / "street" / "1" / ENGINE
    frame, mask = read_golden(engine)
    mask = mask.copy()
    mask[0, 0] ^= 1
    golden_path(engine).write_bytes(bytes_from_golden(Golden(frame, mask)))


def spoilt_engine(repository):
    path = repository / "street" / "1" / ENGINE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoilt_mask, "version 1 of street gives another mask of the golden frame: 1 of "),
        (spoilt_engine, "is damaged or edited"),
        (lambda repository: golden_path(repository / "street" / "1" / ENGINE).unlink(), "model.golden.npz is missing"),
        (lambda repository: (repository / "street" / "1" / ENGINE).with_suffix(".json").unlink(), "has no manifest"),
    ],
)
def test_a_version_that_is_spoilt_is_not_served(pb, repository, spoil, said):
    spoil(repository)
    with pytest.raises(pb.TritonModelException) as caught:
        loaded(repository)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("broken", ["repeats", "nothing"])
def test_nothing_is_served_where_tensors_change_what_they_carry(pb, repository, broken):
    pb.SENT["broken"] = broken
    with pytest.raises(pb.TritonModelException, match="do not understand each other"):
        loaded(repository)


def test_each_instance_keeps_to_cores_of_its_own(monkeypatch):
    kept = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {2, 3, 5, 7, 11})
    monkeypatch.setattr("os.sched_setaffinity", lambda _, cores: kept.append(cores))
    for number in range(2):
        keep_to_own_cores(f"street_0_{number}", 2)
    assert kept == [[2, 3], [5, 7, 11]]
    for name, instances in (("street_0", 1), ("street_0_3", 6), ("street", 2), ("street_0_9", 2)):
        keep_to_own_cores(name, instances)
    assert len(kept) == 2


def test_instances_share_the_cores(monkeypatch):
    monkeypatch.setattr("runtime.triton.model.count", lambda: 8)
    assert [opening_of(instances_of(config)).threads for config in (CONFIG, "{}")] == [4, None]
    assert opening_of(100).threads == 1
