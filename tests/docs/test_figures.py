"""The pages' tables hold what was measured, of the weights that are shipped; what is older says so."""

import json
import re
from pathlib import Path

import pytest

from calib.ranges import DEFAULT_METHOD
from calib.table import SHIPPED, load_table
from runtime.artifacts import sha256_of
from runtime.measure.bench.peer_tables import read_document as peer_document
from runtime.measure.bench.tables import read_document, table
from runtime.measure.gate.regress import EXIT_CODES
from tests.helpers.earlier import may_stand

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "figures"
EARLIER = FIGURES / "earlier"
WEIGHTS = {
    name: sha256_of(ROOT / f"export/weights/{name}-camvid.safetensors")
    for name in ("ddrnet23-slim", "enet", "fast-scnn", "icnet")
}


def page(name):
    return (ROOT / f"docs/{name}.md").read_text()


def section(name, title):
    return page(name).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


ACCURACY = sorted(FIGURES.glob("precisions-*.json"))
NAMES = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO"}


@pytest.mark.parametrize("path", ACCURACY, ids=lambda path: path.stem)
def test_the_table_of_precisions_is_what_was_measured(path):
    for engine in json.loads(path.read_text())["engines"]:
        executed = ", ".join(f"{count} {kind}" for kind, count in sorted(engine["executed"].items(), reverse=True))
        same = "" if engine["agreement"][0] == 1.0 else f"{engine['agreement'][0]:.2%}".replace("%", " %")
        row = (
            f"| {engine['precision'].upper()} | {NAMES[engine['backend']]} | {executed} | {100 * engine['miou']:.2f} |"
        )
        assert f"{row} {same}".rstrip() in page("int8"), row


TITLES = {"enet": "ENet"}


@pytest.mark.parametrize("name", TITLES)
def test_what_engines_are_worth_since_is_what_was_measured(name):
    found = json.loads((FIGURES / f"openvino-{name}.json").read_text())["engines"]
    assert [(engine["precision"], engine["backend"]) for engine in found] == [
        (kind, "openvino") for kind in ("fp32", "fp16", "int8")
    ]
    assert {(engine["weights_sha256"], engine["frames"]) for engine in found} == {(WEIGHTS[name], 101)}
    values = " | ".join(f"{100 * engine['miou']:.2f}" for engine in found)
    executed = ", ".join(f"{count} {kind}" for kind, count in sorted(found[2]["executed"].items(), reverse=True))
    same = f"{found[2]['agreement'][0]:.2%}".replace("%", " %")
    assert f"| {TITLES[name]} | {values} | {executed} | {same} |" in page("int8")
    losses = [100 * (found[0]["miou"] - engine["miou"]) for engine in found]
    assert losses[1] <= 0.1 and losses[2] <= 0.5


@pytest.mark.parametrize("name", ["ddrnet23-slim", "fast-scnn"])
def test_what_they_are_worth_natively_is_what_was_measured(name):
    found = json.loads((FIGURES / f"native-{name}.json").read_text())["engines"]
    assert {(engine["weights_sha256"], engine["frames"], *engine["network_size"]) for engine in found} == {
        (WEIGHTS[name], 101, 360, 480)
    }
    told = "{:.2f} in FP32, {:.2f} in FP16 and {:.2f} in INT8".format(*(100 * engine["miou"] for engine in found))
    assert told in " ".join(page("int8").split())


LARGEST_LOSS = {
    ("icnet", "fp16"): 0.1, ("icnet", "int8"): 0.5, ("enet", "fp16"): 0.1, ("enet", "int8"): 1.0,
    ("fast-scnn", "fp16"): 0.3, ("fast-scnn", "int8"): 0.5,  # FP16 is BF16
    ("ddrnet23-slim", "fp16"): 0.1, ("ddrnet23-slim", "int8"): 0.5,
}  # points  # fmt: skip
LEAST_AGREEMENT = 0.99  # of the masks of one INT8 graph on two backends
LEAST_INT8 = 0.9  # of ICNet's weighted layers on OpenVINO


@pytest.mark.parametrize("path", ACCURACY, ids=lambda path: path.stem)
def test_the_precisions_were_measured_of_the_shipped_weights_and_keep_their_accuracy(path):
    found = json.loads(path.read_text())
    engines = found["engines"]
    model = engines[0]["model"]
    assert {engine["weights_sha256"] for engine in engines} == {WEIGHTS[model]}
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


SIZES = sorted(FIGURES.glob("sizes-*.json"))


def test_the_tables_of_sizes_are_what_was_measured_of_the_shipped_weights():
    assert [path.stem for path in SIZES] == ["sizes-enet", "sizes-icnet"]
    for path in SIZES:
        found = json.loads(path.read_text())
        for engine in found["engines"]:
            assert engine["weights_sha256"] == WEIGHTS[engine["model"]]
            assert engine["precision"] == "fp32" and engine["frames"] == found["frames_in_split"] == 101
            size = "x".join(map(str, engine["network_size"]))
            assert f"| {engine['model']} | {size} | {100 * engine['miou']:.2f} |" in page("accuracy"), (
                engine["model"],
                size,
            )


def test_the_table_of_calibration_methods_is_what_was_measured():
    found = json.loads((FIGURES / "calibration-icnet.json").read_text())
    assert may_stand("icnet", found["weights_sha256"], section("int8", "Which method"))
    whole, *ways = found["ways"]
    assert f"beside {whole['miou']:.2f} in float" in page("int8")
    for plain, corrected in zip(ways[::2], ways[1::2], strict=True):
        assert (plain["bias_correction"], corrected["bias_correction"]) == (False, True)
        figures = [", ".join(f"{way[key]:.2f}" for way in (plain, corrected)) for key in ("miou", "changed_percent")]
        assert f"| {plain['method']} | {figures[0]} | {figures[1]} |" in page("int8")
    assert {load_table(path).method for path in SHIPPED.glob("*.json")} == {DEFAULT_METHOD}
    # The default keeps the most mIoU as far as so many frames can tell, and changes fewer pixels than what keeps more.
    (default,) = (way for way in ways if way["method"] == DEFAULT_METHOD and not way["bias_correction"])
    best = max(ways, key=lambda way: way["miou"])
    assert best["miou"] - default["miou"] <= 0.02
    assert best is default or default["changed_percent"] < best["changed_percent"]


def test_what_int8_costs_layer_by_layer_is_what_was_measured():
    found = json.loads((FIGURES / "sensitivity-icnet.json").read_text())
    assert may_stand("icnet", found["weights_sha256"], section("int8", "Which layers cost what"))
    most, second = sorted(found["costs"], key=lambda cost: cost["changed"], reverse=True)[:2]
    said = (
        f"finds {found['float_miou']:.2f} mIoU in float and {found['int8_miou']:.2f} with all in INT8, "
        f"{found['changed_percent']:.2f} % of the pixels changed, {most['changed']:.2f} by `{most['layer']}` alone, "
        f"{second['changed']:.2f} and less by each other layer"
    )
    assert said in " ".join(page("int8").split())


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_what_views_brought_is_what_was_measured_in_turns(name):
    shares = []
    for precision in ("fp16", "int8"):
        found = json.loads((FIGURES / f"views-{name}-{precision}.json").read_text())
        assert found["paired"] and found["verdict"]["slowdown_most"] < 0
        shares.append(f"{-100 * found['verdict']['slowdown']:.1f} %")
    row = next(line for line in page("history").splitlines() if f"figures/views-{name}-*.json" in line)
    assert [row.index(share) for share in shares] == sorted(row.index(share) for share in shares)


def test_the_networks_precisions_are_measured():
    assert [path.stem.removeprefix("precisions-") for path in ACCURACY] == sorted(WEIGHTS)


OF_AVX2 = {
    "onnxruntime-fp32": "FP32, onnxruntime",
    "onnxruntime-int8": "INT8, onnxruntime",
    "openvino-fp32": "FP32, OpenVINO",
    "openvino-fp16": "FP16, OpenVINO",
    "openvino-before": "INT8, OpenVINO, without it",
    "openvino-int8": "INT8, OpenVINO",
}
NETWORKS = {"icnet": "ICNet", "enet": "ENet"}


def on_a_kind_of_cpu(kind, name):
    """What engines are worth on all 101 frames at 704x960, as on that kind of CPU."""
    found = json.loads((FIGURES / f"{kind}-{name}.json").read_text())
    for engine in found["engines"]:
        assert engine["weights_sha256"] == WEIGHTS[name] and engine["network_size"] == [704, 960]
        assert engine["frames"] == found["frames_in_split"] == 101
    return found["engines"]


def percent(value):
    return f"{value:.2%}".replace("%", " %")


@pytest.mark.parametrize("name", NETWORKS)
def test_what_avx2_alone_costs_is_what_was_measured(name):
    shown = []
    for engine in on_a_kind_of_cpu("avx2", name):
        kind = "before" if engine["engine"].endswith("-before") else engine["precision"]
        same = "" if not shown else f" {percent(engine['agreement'][0])}"
        of = OF_AVX2["-".join((engine["backend"], kind))]
        shown.append(f"| {NETWORKS[name]} | {of} | {100 * engine['miou']:.2f} |{same} |")
    assert len(shown) == len(OF_AVX2) and "\n".join(shown) in page("int8")


@pytest.mark.parametrize("kind", ["avx2_vnni", "avx512_core", "avx512_core_vnni", "avx512_core_bf16"])
def test_what_int8_is_worth_on_every_kind_of_cpu_is_what_was_measured(kind):
    cells = []
    for name in NETWORKS:
        referee, ours = on_a_kind_of_cpu(f"kinds-{kind}", name)
        assert [(engine["backend"], engine["precision"]) for engine in (referee, ours)] == [
            ("onnxruntime", "fp32"),
            ("openvino", "int8"),
        ]
        assert 100 * (referee["miou"] - ours["miou"]) < 0.6  # of which the graph itself costs ENet 0.46
        cells.append(f"{100 * ours['miou']:.2f}, {percent(ours['agreement'][0])}")
    row = next(line for line in section("int8", "CPUs without VNNI").splitlines() if line.startswith(f"| `{kind}` |"))
    assert row.endswith(f"| {' | '.join(cells)} |")


def slowdown(name, *, told=None):
    """The slowdown of the candidate in percent, measured in turns, and its document; `told`: where it stands."""
    found = json.loads((FIGURES / f"{name}.json").read_text())
    assert found["paired"]
    engine = found["candidate"]["fingerprint"]["engine"]
    assert told is None or may_stand(engine["model"], engine["weights_sha256"], told)
    return 100 * found["verdict"]["slowdown"], found


@pytest.mark.parametrize(("name", "title"), [("icnet", "ICNet"), ("enet", "ENet")])
def test_the_time_of_int8_on_avx2_alone_is_what_was_measured(name, title):
    beside_float, found = slowdown(f"avx2-time-{name}-fp32", told=section("int8", "What it brings"))
    assert found["candidate"]["fingerprint"]["machine"]["features"] == ["avx2"]
    text = " ".join(page("int8").split())
    row = f"| {title} | Xeon as AVX2 alone | FP32 | {-beside_float:.0f} % less time |"
    assert f"{row} `figures/avx2-time-{name}-fp32.json` |" in text
    beside_before, found = slowdown(f"avx2-time-{name}", told=section("int8", "CPUs without VNNI"))
    assert f"{title} took {-beside_before:.1f} % less" in text or f"{title} {-beside_before:.1f} % less" in text
    assert 100 * found["verdict"]["slowdown_most"] <= 10.0  # what the page says is not excluded


def test_what_other_kernels_bring_is_what_was_measured():
    text, rounds = " ".join(section("int8", "CPUs with VNNI").split()), []
    for name, title in (("enet", "ENet"), ("icnet", "ICNet")):
        beside_before, found = slowdown(f"kernels-{name}")
        rounds.append(str(found["verdict"]["rounds"]))
        surely = found["verdict"]["slowdown_most"] < 0
        less = f"{-beside_before:.1f} % less" + (", which may be none" if not surely else "")
        changed = found["masks"]["changed"]
        pixels = f"{100 * changed:.2f} %, of the sums" if changed else "none"
        assert f"| {title} | {less} | {pixels} | `figures/kernels-{name}.json` |" in text
    assert f"PRECISION=int8`, {' and '.join(rounds)} rounds)" in text


def test_what_is_beside_present_figures_was_measured_of_the_shipped_weights_or_says_of_which():
    text = page("benchmarks")
    for path in FIGURES.glob("bench-*.json"):
        engine = read_document(path)["fingerprint"]["engine"]
        allowed = may_stand(engine["model"], engine["weights_sha256"], section("benchmarks", "Frame to mask"))
        assert allowed, f"move {path.name} to figures/earlier"
    rows = table([read_document(path) for path in sorted(FIGURES.glob("bench-*.json"))])
    assert rows.strip() in text
    assert not any(f"earlier/{path.name}" in text for path in EARLIER.glob("*.json"))


def test_history_shows_the_earlier_figures_and_they_are_of_other_weights():
    documents = [read_document(path) for path in sorted(EARLIER.glob("bench-*.json"))]
    for document in documents:
        engine = document["fingerprint"]["engine"]
        assert engine["weights_sha256"] != WEIGHTS[engine["model"]]
    assert documents and table(documents).strip() in page("history")


@pytest.mark.parametrize("path", sorted(EARLIER.glob("[in]*-*.json")), ids=lambda path: path.stem)
def test_a_time_in_history_is_what_was_measured(path):
    share, _ = slowdown(f"earlier/{path.stem}")
    row = next(line for line in page("history").splitlines() if f"`{path.name}`" in line)
    assert f"| {abs(share):.0f} % {'less' if share < 0 else 'more'} time |" in row


def test_what_pooling_brought_is_what_was_measured():
    share, _ = slowdown("earlier/enet-pooling")
    assert f"{-share:.1f} % of the frame's time (`figures/earlier/enet-pooling.json`)" in page("history")


def test_the_exit_codes_of_the_gate_are_those_of_the_page():
    rows = dict(re.findall(r"^\| (\d) \| ([a-z ]+)", page("gate"), re.M))
    said = {outcome: str(code) for outcome, code in EXIT_CODES.items() if outcome != "recorded"}
    assert {outcome: next(code for code in rows if rows[code].startswith(outcome)) for outcome in said} == said


def of_rivals(name):
    """Of a run of `make rivals`: by path its median over its floor, and over that of this project's engine."""
    paths = peer_document(FIGURES / f"rivals-{name}.json")["paths"]
    return {path: (found["times_floor"], found["times_slower"]) for path, found in paths.items()}


MOBILE, XCEPTION = "deeplabv3plus-mobilenetv2", "deeplabv3plus-xception65"
GOALS = (
    ("ICNet INT8, AVX-512 VNNI: over the floor", "icnet-int8", "engine", 0),
    ("ICNet INT8, AVX-512 VNNI: NNCF's time over ours", "icnet-int8", "nncf", 1),
    ("ICNet INT8, AVX2 alone: over the floor", "icnet-int8-avx2", "engine", 0),
    ("ICNet INT8, AVX2 alone: NNCF's time over ours", "icnet-int8-avx2", "nncf", 1),
    ("ICNet FP16 as BF16: over the floor", "icnet-fp16", "engine", 0),
    ("ENet INT8, AVX-512 VNNI: over the floor", "enet-int8", "engine", 0),
    ("ICNet INT8: onnxruntime FP32's time over ours, AVX-512", "icnet-int8", "onnxruntime", 1),
    ("ICNet INT8: onnxruntime FP32's time over ours, AVX2 alone", "icnet-int8-avx2", "onnxruntime", 1),
    ("DDRNet-23-slim INT8: time of OpenVINO as it comes over ours", "ddrnet23-slim-int8", "openvino", 1),
    ("DDRNet-23-slim INT8: NNCF's time over ours", "ddrnet23-slim-int8", "nncf", 1),
    ("Fast-SCNN INT8: time of OpenVINO as it comes over ours", "fast-scnn-int8", "openvino", 1),
    ("Fast-SCNN INT8: NNCF's time over ours", "fast-scnn-int8", "nncf", 1),
    ("PIDNet-S INT8: time of OpenVINO as it comes over ours", "pidnet-s-int8", "openvino", 1),
    ("PIDNet-S INT8: NNCF's time over ours", "pidnet-s-int8", "nncf", 1),
    ("`fast-scnn-mmseg` INT8: time of OpenVINO as it comes over ours", "fast-scnn-mmseg-int8", "openvino", 1),
    ("`fast-scnn-mmseg` INT8: NNCF's time over ours", "fast-scnn-mmseg-int8", "nncf", 1),
    ("DeepLabV3+ MobileNetV2 INT8: time of OpenVINO as it comes over ours", f"{MOBILE}-int8", "openvino", 1),
    ("DeepLabV3+ MobileNetV2 INT8: NNCF's time over ours", f"{MOBILE}-int8", "nncf", 1),
    ("PSPNet50 INT8: time of OpenVINO as it comes over ours", "pspnet50-int8", "openvino", 1),
    ("PSPNet50 INT8: NNCF's time over ours", "pspnet50-int8", "nncf", 1),
    ("DeepLabV3+ Xception-65 INT8: time of OpenVINO as it comes over ours", f"{XCEPTION}-int8", "openvino", 1),
    ("DeepLabV3+ Xception-65 INT8: NNCF's time over ours", f"{XCEPTION}-int8", "nncf", 1),
    ("ICNet INT8, AMX: NNCF's time over ours", "icnet-int8-amx", "nncf", 1),
    ("ICNet INT8, AMX: onnxruntime FP32's time over ours, in that run", "icnet-int8-amx", "onnxruntime", 1),
)


def goal_row(goal):
    return next(line for line in page("benchmarks").splitlines() if line.startswith(f"| {goal} |"))


@pytest.mark.parametrize(("goal", "name", "path", "which"), GOALS)
def test_what_was_reached_of_the_goals_is_what_was_measured(goal, name, path, which):
    measured = (FIGURES / f"rivals-{name}.json").is_file()
    told = f"{of_rivals(name)[path][which]:.2f}" if measured else "not measured yet"
    assert goal_row(goal).split("|")[4].strip() == told


def test_what_was_reached_with_amx_is_what_was_measured():
    document = read_document(FIGURES / "bench-icnet-int8-amx.json")
    assert "amx_int8" in document["fingerprint"]["machine"]["features"]
    row = goal_row("ICNet INT8: onnxruntime FP32's time over ours, AMX")
    assert row.split("|")[4].strip() == f"{document['paths']['onnxruntime']['times_slower']:.2f}"


def test_every_goal_is_held_to_a_figure():
    text = page("benchmarks").partition("### Against the goals\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [goal for goal, *_ in GOALS] + ["ICNet INT8: onnxruntime FP32's time over ours, AMX"]


def test_how_many_rounds_and_frames_the_rivals_had_is_what_the_page_says():
    said = {"enet-int8": (12, 4), "icnet-int8-amx": (10, 4)}
    said |= dict.fromkeys(("icnet-int8", "icnet-fp16", "icnet-int8-avx2"), (20, 4))
    said |= {f"{name}-int8": (8, 0) for name in ("pidnet-s", "fast-scnn-mmseg", MOBILE)}  # without weights
    said |= {"pspnet50-int8": (4, 0), f"{XCEPTION}-int8": (4, 0)}
    for found in FIGURES.glob("rivals-*.json"):
        document = peer_document(found)
        given = document["rounds"], (document["accuracy"] or {"frames": 0})["frames"]
        assert given == said.get(found.stem.removeprefix("rivals-"), (8, 4)), found.stem
    text = " ".join(page("benchmarks").split())
    others = "20 rounds for ICNet, 10 of it with AMX, 12 for ENet."
    assert f'RIVALS_OPTIONS="--rounds 8 --frames 4"`; {others}' in text
    assert "Below they are 4: enough" in text


def test_how_near_the_bound_two_lanes_come_is_what_the_table_says():
    shown = re.findall(r"^\| \d+ frames, .* ([\d.]+) of the bound on [\d.]+ cores \|$", page("benchmarks"), re.M)
    told = "With two lanes PNGs are at {} of the bound, JPEGs at {}, the film at {}.".format(*shown)
    assert told in page("benchmarks")


def test_how_busy_the_machine_was_while_threads_were_counted_is_told():
    found = json.loads((FIGURES / "scaling-icnet-int8.json").read_text())
    running = sorted(found["load"][when]["running_processes"] for when in ("before", "after"))
    assert "on which {:.0f} to {:.0f} processes ran".format(*running) in section(
        "benchmarks", "More threads, more pixels"
    )
