import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import openvino
import pytest
from openvino import opset13

from engines import nncf_engine
from engines.nncf_engine import main
from engines.openvino_sums import sums_saturate
from export.check import street_frame
from runtime.backend import open_backend
from runtime.cli import DONE
from runtime.errors import LibraryError
from runtime.manifest import read_manifest
from tests.helpers.graphs import tiny_graph
from tests.helpers.pictures import gradient

ROOT = Path(__file__).parents[2]
OTHER_PYTHON = ROOT / ".venv-rivals/bin/python"


class FakeNncf:
    """Stands in for the package: it looks at every frame and quantizes the last convolution alone."""

    __version__ = "0"

    def __init__(self):
        self.shapes = []
        self.Dataset = SimpleNamespace

    def dataset(self, frames, transform):
        return SimpleNamespace(frames=frames, transform=transform)

    def quantize(self, model, inputs, subset_size, advanced_parameters):
        assert advanced_parameters.overflow_fix == ("enable" if sums_saturate() else "first_layer_only")
        self.shapes = [inputs.transform(frame).shape for frame in inputs.frames]
        assert len(self.shapes) == subset_size
        node = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"][-1]
        for index, reach in ((0, 20.0), (1, 1.0)):
            ends = [opset13.constant(value, dtype=openvino.Type.f32) for value in (-reach, reach) * 2]
            levels = 255 + (index == 0)
            quantized = opset13.fake_quantize(node.input_value(index), *ends, levels)
            node.input(index).replace_source_output(quantized.output(0))
        model.validate_nodes_and_infer_types()
        return model


@pytest.fixture
def graph(shipped):
    return shipped("icnet", "fp32")


@pytest.fixture
def nncf(monkeypatch, tmp_path):
    fake = FakeNncf()
    fake.Dataset = fake.dataset
    fix = SimpleNamespace(ENABLE="enable", FIRST_LAYER="first_layer_only")
    parameters = SimpleNamespace(AdvancedQuantizationParameters=SimpleNamespace, OverflowFix=fix)
    monkeypatch.setitem(sys.modules, "nncf", fake)
    monkeypatch.setitem(sys.modules, "nncf.quantization.advanced_parameters", parameters)
    monkeypatch.setattr(nncf_engine, "FOLDER", tmp_path / "bench")
    return fake


def test_what_nncf_quantized_is_an_engine_like_any_other(graph, nncf, tmp_path, capsys):
    frame = street_frame()
    (tmp_path / "frames").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "frames" / f"{name}.png"), frame[..., ::-1])
    assert main([str(graph), "--data", str(tmp_path / "frames")]) == DONE
    path = Path(capsys.readouterr().out.strip())
    assert nncf.shapes == [(1, 3, 64, 128)] * 2
    executed = read_manifest(path).executed
    assert executed["int8"] == 1 and sum(executed.values()) > 50
    with open_backend(path) as engine:
        mask = engine.segment(frame)
    assert mask.shape == frame.shape[:2] and len(np.unique(mask)) > 2


def test_without_nncf_one_line_says_what_to_install(graph, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(LibraryError, match=r"pip install -e '\.\[nncf\]'"):
        main([str(graph), "--data", str(tmp_path)])


@pytest.mark.rivals
def test_the_real_nncf_quantizes_a_graph_that_this_runtime_opens(tmp_path):
    (tmp_path / "tiny.onnx").write_bytes(tiny_graph())
    (tmp_path / "frames").mkdir()
    frame = np.ascontiguousarray(gradient(32, 64))
    assert cv2.imwrite(str(tmp_path / "frames/a.png"), frame[..., ::-1])
    command = [str(OTHER_PYTHON), "-m", "engines.nncf_engine", "tiny.onnx", "--data", "frames"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = tmp_path / done.stdout.splitlines()[-1]
    assert read_manifest(path).executed["int8"] >= 1
    with open_backend(path) as engine:
        assert engine.segment(frame).shape == (32, 64)
