"""Files that the product writes and reads back: a flipped bit is refused, or changes nothing that is read."""

import json
import random

import numpy as np
import pytest

from calib.table import CHECKSUM, load_table, save_table
from calib.thresholds import METHODS
from engines.build import build_engine
from export.checkpoints.weights import read_weights
from export.registry import find
from export.training.checkpoint import save_weights
from runtime.artifacts import write_sealed
from runtime.errors import PipelineError
from runtime.manifest import manifest_path, read_manifest, verified_engine
from runtime.proof import bytes_from_expected, expected_path, read_expected
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_graph

FLIPS = 60


def engine(folder):
    path = built_engine(folder)
    return path, lambda: verified_engine(path, read_manifest(path))


def manifest(folder):
    path = built_engine(folder)
    return manifest_path(path), lambda: read_manifest(path)


def expected(folder):
    path = built_engine(folder)
    return expected_path(path), lambda: bytes_from_expected(read_expected(path))


def graph(folder):
    path = folder / "tiny.onnx"
    write_sealed(path, tiny_graph(None, "fp32"))
    build_engine(path, "fp32", "openvino", folder, prove=False)
    return path, lambda: build_engine(path, "fp32", "openvino", folder, prove=False)


def table(folder):
    from calib.table import SHIPPED

    path = folder / "table.json"
    save_table(path, load_table(SHIPPED / "enet-camvid.json"))
    return path, lambda: load_table(path)


def weights(folder):
    save_weights(folder / "w.safetensors", find("enet").build(3), {"model": "enet", "classes": CLASSES})
    return folder / "w.safetensors", lambda: as_read(read_weights(folder / "w.safetensors"))


CLASSES = json.dumps([["a", [1, 2, 3]], ["b", [4, 5, 6]], ["c", [7, 8, 9]]])


def as_read(found):
    return {name: tensor.numpy().tobytes() for name, tensor in found.tensors.items()}, found.classes


KINDS = {each.__name__: each for each in (engine, manifest, expected, graph, table, weights)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_or_changes_nothing(kind, tmp_path):
    path, read = KINDS[kind](tmp_path)
    good, rng, wanted, refused = path.read_bytes(), random.Random(0), read(), 0
    for _ in range(FLIPS):
        flipped = bytearray(good)
        flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            found = read()
        except PipelineError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert found == wanted
    assert refused > 0.9 * FLIPS
    path.write_bytes(good)
    assert read() == wanted


def test_a_table_from_before_checksums_is_read_and_one_that_was_edited_is_not(tmp_path):
    path, read = table(tmp_path)
    fields = json.loads(path.read_text())
    name = next(iter(fields["ranges"]))
    fields["ranges"][name] = dict.fromkeys(METHODS, 1.0)
    path.write_text(json.dumps(fields))
    with pytest.raises(PipelineError, match="damaged or edited: its checksum is another"):
        read()
    del fields[CHECKSUM]
    path.write_text(json.dumps(fields))
    assert np.isclose(read().ranges[name]["mse"], 1.0)


def test_a_table_of_many_brackets_or_many_bytes_is_one_line(tmp_path):
    (tmp_path / "t.json").write_text("[" * 100_000)
    with pytest.raises(PipelineError, match="is no calibration table"):
        load_table(tmp_path / "t.json")
    with (tmp_path / "t.json").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(PipelineError, match="it has 65 MiB, expected at most 16"):
        load_table(tmp_path / "t.json")
