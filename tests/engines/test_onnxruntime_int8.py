import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from engines import onnxruntime_int8
from engines.onnxruntime_int8 import main
from runtime.cli import DONE
from runtime.errors import LibraryError
from runtime.manifest import read_manifest
from runtime.measure.rivals import open_rival
from tests.helpers.graphs import tiny_graph
from tests.helpers.pictures import gradient


@pytest.fixture
def graph(tmp_path):
    (path := tmp_path / "tiny.onnx").write_bytes(tiny_graph())
    return path


def test_what_onnxruntime_quantized_is_an_engine_that_its_rival_opens(graph, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onnxruntime_int8, "FOLDER", tmp_path / "bench")
    (tmp_path / "frames").mkdir()
    frame = np.ascontiguousarray(gradient(32, 64))
    for name in ("a", "b"):
        assert cv2.imwrite(str(tmp_path / "frames" / f"{name}.png"), frame[..., ::-1])
    assert main([str(graph), "--data", str(tmp_path / "frames")]) == DONE
    path = Path(capsys.readouterr().out.strip())
    manifest = read_manifest(path)
    assert (manifest.precision, manifest.executed) == ("int8", {"int8": 2})
    nodes = onnx.load(path).graph.node
    assert {node.op_type for node in nodes} >= {"QuantizeLinear", "DequantizeLinear"}
    mask = open_rival("onnxruntime", [path]).segment(frame)
    assert mask.shape == (32, 64) and len(np.unique(mask)) > 1


def test_without_its_tools_one_line_says_what_to_install(graph, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization.shape_inference", None)
    with pytest.raises(LibraryError, match="quantization does not load"):
        main([str(graph), "--data", str(tmp_path)])
