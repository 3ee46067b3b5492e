import dataclasses
import json

import pytest

from runtime.labels import CAMVID, CITYSCAPES, palette
from runtime.spec import EngineManifest, ModelSpec, Preprocess, Target, from_json, to_json

PREPROCESS = Preprocess(1024, 2048, 1 / 255, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "BGR")
SPEC = ModelSpec("enet", PREPROCESS, CITYSCAPES, 1, 2, 1, "ab" * 32, "a paper")
TARGET = Target("openvino", "1", "a CPU", "avx2", "linux-x86_64")
NOUNS = (PREPROCESS, SPEC, TARGET, EngineManifest(SPEC, "fp16", {"bf16": 3}, "openvino", TARGET, "a", "b", "now"))


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: type(noun).__name__)
def test_every_noun_survives_json_and_is_frozen(noun):
    assert from_json(type(noun), to_json(noun)) == noun
    assert not hasattr(noun, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noun, dataclasses.fields(noun)[0].name, None)


def test_a_field_that_came_later_is_written_only_where_it_says_something():
    aligned = dataclasses.replace(SPEC, upsample="align_corners")
    assert "upsample" not in json.loads(to_json(SPEC))  # files of before hold the checksum of this text
    assert json.loads(to_json(aligned))["upsample"] == "align_corners"
    assert from_json(ModelSpec, to_json(aligned)) == aligned


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": "1024"}, "Preprocess.height is '1024', expected int"),
        ({"height": True}, "Preprocess.height is True"),
        ({"mean": [0.0, 0.0]}, "Preprocess.mean has 2 items, expected 3"),
        ({"mean": 0.0}, "Preprocess.mean is 0.0, expected a list"),
        ({"channel_order": "GBR"}, "expected one of 'RGB', 'BGR'"),
        ({"depth": 3}, "expected the fields"),
    ],
)
def test_a_field_of_another_type_or_name_is_refused_by_name(change, message):
    changed = json.loads(to_json(PREPROCESS)) | change
    with pytest.raises(ValueError, match=message.replace(".", r"\.").replace("(", r"\(")):
        from_json(Preprocess, json.dumps(changed))


def test_a_missing_field_and_what_is_no_json_are_refused():
    with pytest.raises(ValueError, match="expected the fields"):
        from_json(Target, "{}")
    with pytest.raises(ValueError, match="Expecting"):
        from_json(Target, "engine")


def test_whole_numbers_are_read_where_fractions_are_meant():
    text = to_json(PREPROCESS).replace(str(1 / 255), "1")
    assert from_json(Preprocess, text).scale == 1.0


def test_the_palettes_are_the_data_sets_own_and_black_beyond_them():
    assert len(CITYSCAPES) == 19
    assert len(CAMVID) == 11
    for classes in (CITYSCAPES, CAMVID):
        assert len({label.color for label in classes}) == len({label.name for label in classes}) == len(classes)
    assert palette(CITYSCAPES)[13].tolist() == [0, 0, 142]
    assert palette(CAMVID)[3].tolist() == [128, 64, 128]
    assert not palette(CAMVID)[11:].any()


NAN = float("nan")


@pytest.mark.parametrize(
    "fields",
    [
        *({"height": side} for side in (0, -1, 10**9)),
        *({"scale": value} for value in (0.0, -1.0, NAN, float("inf"))),
        *({"std": (1.0, value, 1.0)} for value in (0.0, NAN)),
        {"mean": (NAN, 0.0, 0.0)},
    ],
)
def test_a_preprocess_that_no_frame_can_have_is_refused_wherever_it_is_made(fields):
    with pytest.raises(ValueError, match=r"expected sides|finite ones"):
        dataclasses.replace(PREPROCESS, **fields)
    text = json.dumps(dataclasses.asdict(PREPROCESS) | fields)
    with pytest.raises(ValueError, match=r"expected sides|finite"):
        from_json(Preprocess, text)


@pytest.mark.parametrize(
    "fields",
    [
        *({"name": name} for name in ("", "../x", "a/b", "x\x1b[31m", ".hidden")),
        *({"batch": 0}, {"block": 0}, {"block": 17}, {"output_stride": 0}, {"classes": ()}),
        {"classes": SPEC.classes * 30},
    ],
)
def test_a_spec_that_no_network_has_is_refused_wherever_it_is_made(fields):
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(SPEC, **fields)
