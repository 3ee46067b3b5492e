"""README and the pages: the accuracies that they tell are the measured ones."""

import json
from pathlib import Path

import pytest

from calib.ranges import DEFAULT_METHOD
from calib.table import SHIPPED, load_table
from runtime.artifacts import sha256_of

ROOT = Path(__file__).parents[1]
README = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])


ACCURACY = sorted((ROOT / "figures").glob("precisions-*.json"))
NAMES = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO"}


@pytest.mark.parametrize("path", ACCURACY, ids=lambda path: path.stem)
def test_the_table_of_precisions_is_what_was_measured(path):
    for engine in json.loads(path.read_text())["engines"]:
        executed = ", ".join(f"{count} {kind}" for kind, count in sorted(engine["executed"].items(), reverse=True))
        same = "" if engine["agreement"][0] == 1.0 else f"{engine['agreement'][0]:.2%}".replace("%", " %")
        row = (
            f"| {engine['precision'].upper()} | {NAMES[engine['backend']]} | {executed} | {100 * engine['miou']:.2f} |"
        )
        assert f"{row} {same}".rstrip() in README, row


LARGEST_LOSS = {("icnet", "fp16"): 0.1, ("icnet", "int8"): 0.5, ("enet", "fp16"): 0.1, ("enet", "int8"): 1.0}  # points
LEAST_AGREEMENT = 0.99  # of the masks of one INT8 graph on two backends
LEAST_INT8 = 0.9  # of ICNet's weighted layers on OpenVINO


@pytest.mark.parametrize("path", ACCURACY, ids=lambda path: path.stem)
def test_the_precisions_were_measured_of_the_shipped_weights_and_keep_their_accuracy(path):
    found = json.loads(path.read_text())
    engines = found["engines"]
    model = engines[0]["model"]
    assert {engine["weights_sha256"] for engine in engines} == {
        sha256_of(ROOT / f"export/weights/{model}-camvid.safetensors")
    }
    assert {engine["frames"] for engine in engines} == {found["frames_in_split"]} == {101}
    assert engines[0]["precision"] == "fp32" and engines[0]["backend"] == "onnxruntime"
    for engine in engines:
        lost = 100 * (engines[0]["miou"] - engine["miou"])
        assert lost <= LARGEST_LOSS.get((model, engine["precision"]), 0.01), (engine["engine"], lost)
    first, second = (i for i, engine in enumerate(engines) if engine["precision"] == "int8")
    assert engines[first]["agreement"][second] >= LEAST_AGREEMENT
    if model == "icnet":
        executed = engines[second]["executed"]
        assert executed["int8"] >= LEAST_INT8 * sum(executed.values())


SIZES = sorted((ROOT / "figures").glob("sizes-*.json"))


def test_the_tables_of_sizes_are_what_was_measured_of_the_shipped_weights():
    assert [path.stem for path in SIZES] == ["sizes-enet", "sizes-icnet"]
    for path in SIZES:
        found = json.loads(path.read_text())
        for engine in found["engines"]:
            assert engine["weights_sha256"] == sha256_of(ROOT / f"export/weights/{engine['model']}-camvid.safetensors")
            assert engine["precision"] == "fp32" and engine["frames"] == found["frames_in_split"] == 101
            size = "x".join(map(str, engine["network_size"]))
            assert f"| {engine['model']} | {size} | {100 * engine['miou']:.2f} |" in README, (engine["model"], size)


def test_the_table_of_calibration_methods_is_what_was_measured_of_the_shipped_weights():
    found = json.loads((ROOT / "figures/calibration-icnet.json").read_text())
    assert found["weights_sha256"] == sha256_of(ROOT / "export/weights/icnet-camvid.safetensors")
    whole, *ways = found["ways"]
    assert f"beside {whole['miou']:.2f} in float" in README
    for plain, corrected in zip(ways[::2], ways[1::2], strict=True):
        assert (plain["bias_correction"], corrected["bias_correction"]) == (False, True)
        figures = [", ".join(f"{way[key]:.2f}" for way in (plain, corrected)) for key in ("miou", "changed_percent")]
        assert f"| {plain['method']} | {figures[0]} | {figures[1]} |" in README
    assert {load_table(path).method for path in SHIPPED.glob("*.json")} == {DEFAULT_METHOD}
    # The default keeps the most mIoU as far as so many frames can tell, and changes fewer pixels than what keeps more.
    (default,) = (way for way in ways if way["method"] == DEFAULT_METHOD and not way["bias_correction"])
    best = max(ways, key=lambda way: way["miou"])
    assert best["miou"] - default["miou"] <= 0.02
    assert best is default or default["changed_percent"] < best["changed_percent"]


def test_what_int8_costs_layer_by_layer_is_what_was_measured_of_the_shipped_weights():
    found = json.loads((ROOT / "figures/sensitivity-icnet.json").read_text())
    assert found["weights_sha256"] == sha256_of(ROOT / "export/weights/icnet-camvid.safetensors")
    most, second = sorted(found["costs"], key=lambda cost: cost["changed"], reverse=True)[:2]
    said = (
        f"finds {found['float_miou']:.2f} mIoU in float and {found['int8_miou']:.2f} with all in INT8, "
        f"{found['changed_percent']:.2f} % of the pixels changed, {most['changed']:.2f} by `{most['layer']}` alone, "
        f"{second['changed']:.2f} and less by each other layer"
    )
    assert said in " ".join(README.split())


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_what_views_brought_is_what_was_measured_in_turns(name):
    shares = []
    for precision in ("fp16", "int8"):
        found = json.loads((ROOT / f"figures/views-{name}-{precision}.json").read_text())
        assert found["paired"] and found["verdict"]["slowdown_most"] < 0
        shares.append(f"{-100 * found['verdict']['slowdown']:.1f} %")
    row = next(line for line in README.splitlines() if f"figures/views-{name}-*.json" in line)
    assert [row.index(share) for share in shares] == sorted(row.index(share) for share in shares)


def test_both_networks_precisions_are_measured():
    assert [path.stem for path in ACCURACY] == ["precisions-enet", "precisions-icnet"]
