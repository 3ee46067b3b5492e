import json

import cv2
import numpy as np
import pytest

from engines.compare import main, open_either
from runtime.errors import GraphError, ModelError
from tests.helpers.engines import built_engine
from tests.helpers.graphs import OWN_CLASSES, tiny_graph, tiny_spec


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for seed in range(2):
        frame = np.random.default_rng(seed).integers(0, 256, (48, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), frame)
    return folder


def test_an_engine_equals_its_own_graph(tmp_path, frames, capsys):
    engine = built_engine(tmp_path)
    graph = tmp_path / "tiny-openvino-fp32-0.onnx"
    assert main([str(engine), str(graph), str(frames), "--json", "--least", "0.999"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frames"] == 2
    assert found["logits_error"] < 1e-5
    assert found["mask_agreement_worst"] >= 0.999
    assert min(found["per_frame"][0]["class_agreement"].values()) > 0.99
    assert [frame["frame"].endswith(f"{i}.png") for i, frame in enumerate(found["per_frame"])] == [True, True]


def test_other_weights_are_found_out_and_told_by_the_exit_code(tmp_path, frames, capsys):
    a, b = built_engine(tmp_path, seed=0), built_engine(tmp_path, seed=1)
    assert main([str(a), str(b), str(frames), "--least", "0.99"]) == 1
    printed = capsys.readouterr()
    assert "masks agree on" in printed.out
    assert printed.err.splitlines()[-1].startswith("error: masks agree on")


def test_other_classes_cannot_be_compared(tmp_path, frames):
    import dataclasses

    other = tmp_path / "other.onnx"
    other.write_bytes(tiny_graph(dataclasses.replace(tiny_spec(), classes=OWN_CLASSES)))
    with pytest.raises(ModelError, match="other classes"):
        main([str(built_engine(tmp_path)), str(other), str(frames)])


@pytest.mark.parametrize("other", [{"width": 96}, {"batch": 2}], ids=str)
def test_other_sizes_and_batches_are_refused_in_one_line(tmp_path, frames, other):
    graph = tmp_path / "other.onnx"
    graph.write_bytes(tiny_graph(tiny_spec(**other)))
    with pytest.raises(ModelError, match="their logits cannot be compared"):
        main([str(built_engine(tmp_path)), str(graph), str(frames)])


def test_a_missing_graph_is_named(tmp_path):
    with pytest.raises(GraphError, match="does not exist"):
        open_either(tmp_path / "none.onnx")


def test_a_least_share_that_is_no_number_is_usage():
    with pytest.raises(SystemExit) as exit_:
        main(["a.engine", "b.engine", "frames", "--least", "nan"])
    assert exit_.value.code == 2
