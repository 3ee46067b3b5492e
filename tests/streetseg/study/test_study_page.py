"""The study's documents and tables, of made-up figures."""

import json

import pytest

from runtime.errors import PipelineError
from streetseg.study import command, page
from streetseg.study.points import CASCADE, FRAME, STUDY
from streetseg.study.run import key_of_time

CONDITIONS = {
    "date": "2026-11-29", "revision": None, "machine": {"cpu": "A CPU", "features": ["avx2"], "threads": 2},
    "software": {"openvino": "1"}, "load": {"before": {"running_processes": 0.2}}, "rounds": 5,
}  # fmt: skip


def point_of(point):
    return {
        **{key: getattr(point, key) for key in ("name", "series", "step", "model", "width")},
        "size": list(point.size), "frame": list(point.frame), "trained": False, "parameters": 6_189_299, "gmac": 221.67,
        "published": point.published and point.published._asdict(), "executed": {"bf16": 59},
        "graph": "g", "engine": f"e/{point.name}", "plain": None if point in CASCADE else f"e/{point.name}-plain",
    }  # fmt: skip


NETWORK = {
    "name": "icnet-caffe", "size": [1025, 2049], "trained": False, "parameters": 6_700_000, "gmac": 29.8,
    "executed": {"fp16": {"bf16": 74}, "int8": {"bf16": 2, "int8": 72}}, "engines": {"fp16": "a", "int8": "b"},
    "plain": "p", "logits_of": "0",
    "logits": {"graph": 1.0, "fp16": 0.99996, "int8": 0.5}, "logits_size": [257, 513], "miou": 67.7, "miou_of": "val",
    "licence": "none stated", "checkpoint": "hszhao/ICNet",
}  # fmt: skip


@pytest.fixture
def parts():
    points = [point_of(point) for point in (*STUDY, *CASCADE)]
    files = [(point[key], point["frame"]) for point in points for key in ("engine", "plain") if point[key]]
    ms = {key_of_time(*file): 100.0 + i for i, file in enumerate(files)}
    ms |= {key_of_time("a", FRAME): 44.44, key_of_time("b", FRAME): 33.3, key_of_time("p", FRAME): 144.0}
    times = {key: {"run": 0, "p50_ms": value, "samples_ms": [[1.0]]} for key, value in ms.items()}
    branches = [point["name"] for point in points if point["series"] == "ICNet's branches"]
    return {
        "build": {"points": points},
        "networks": {"networks": [NETWORK, {**NETWORK, "name": "not-timed", "engines": {"fp16": "c", "int8": "d"}}]},
        "accuracy": {"dataset": "camvid", "split": "val", "frames": 101,
                     "miou": {name: 0.6 + i / 100 for i, name in enumerate(branches)}},
        "memory": {"peak_mib": dict.fromkeys(ms, 300.4)},
        "times": {
            "runs": [CONDITIONS], "times": times,
            "stages": {"g": {"run": 0, "model": "icnet", "size": [1024, 2048], "ms": {"stem": 1.0, "conv5": 3.0}}},
        },
    }  # fmt: skip


def test_documents_hold_what_was_measured_and_no_path(parts):
    study, of_all = page.study_document(parts), page.networks_document(parts)
    assert [point["name"] for point in study["points"]] == [point.name for point in (*STUDY, *CASCADE)]
    assert not {"graph", "engine", "plain"} & set(study["points"][0])
    assert study["points"][0]["ours"]["p50_ms"] == 100 and study["points"][0]["as_it_comes"]["p50_ms"] == 101
    assert [network["name"] for network in of_all["networks"]] == ["icnet-caffe"]  # what was not timed has no row
    assert not {"engines", "plain"} & set(of_all["networks"][0]) and of_all["machine"] == study["machine"]


def test_a_row_of_the_study_has_our_figures_and_the_papers(parts):
    rows = page.study_table(page.study_document(parts)).splitlines()
    assert len(rows) == 2 + len(STUDY)
    first = "| PSPNet50, input scale 1 | 6.19 | 221.7 | **100** | 100% | 101 | 300 | 71.7 | 446 | 100% |"
    assert rows[2] == first
    # From memory, and marked so.
    assert rows[3].endswith(r"| 300 | 68.4\* | 123\* | 28% |")
    assert rows[-1].startswith("| ICNet, 3/4 of its width |") and rows[-1].endswith("| 300 |  |  |  |")


def test_a_branch_is_told_with_what_it_adds_to_the_one_before_at_its_size(parts):
    rows = page.cascade_table(page.study_document(parts)).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 352x480"] * 3 + ["| 704x960"] * 3 + ["| 1024x2048"] * 3
    assert rows[0].endswith("|  | 124.0 |  |") and rows[1].endswith("| +1.00 | 125.0 | +1.0 |")


def test_stages_are_told_in_milliseconds_and_shares(parts):
    rows = page.stages_table(page.study_document(parts)).splitlines()
    assert rows[0] == "| stage | icnet, 1024x2048 |" and rows[2] == "| stem | 1.0 (25%) |" and rows[3] == "| conv2 |  |"
    assert rows[-1] == "| all | 4.0 |"


def test_a_row_of_a_network_tells_cost_times_layers_logits_and_what_is_published(parts):
    row = page.networks_table(page.networks_document(parts)).splitlines()[2]
    assert row.startswith(
        "| icnet-caffe, at 1025x2049 | random | 6.70 | 29.8 | 44.4 | 33.3 | 144 | 97% | 1.0000 | 1.0000 | 0.5000 |"
    )
    assert row.endswith("| 67.7 | none stated | hszhao/ICNet |")


def test_rows_that_are_measured_again_stand_beside_the_others_each_with_its_run(parts):
    first = page.networks_document(parts)
    first["networks"] = [{**first["networks"][0], "name": name} for name in ("a", "b", "c")]
    networks = [{**NETWORK, "name": name, "engines": {"fp16": f"{name}f", "int8": f"{name}i"}} for name in "bd"]
    keys = [key_of_time(NETWORK["plain"], FRAME)]
    parts["networks"] = {"networks": networks}
    keys += [key_of_time(engine, FRAME) for network in networks for engine in network["engines"].values()]
    run = {**CONDITIONS, "date": "2026-11-30"}
    parts["times"] = {"runs": [CONDITIONS, run], "times": {key: {"run": 1, "p50_ms": 1.0} for key in keys}}
    found = page.networks_document(parts, first)
    # Of as many rows the newer run is the document's.
    assert [(row["name"], row.get("run", {}).get("date")) for row in found["networks"]] == [
        ("a", "2026-11-29"), ("b", None), ("c", "2026-11-29"), ("d", None),
    ]  # fmt: skip
    table, told = page.networks_table(found), page.conditions_of_all(found)
    assert found["date"] == "2026-11-30" and "| a†, at 1025x2049 | random |" in table and "| b, at" in table
    assert told.startswith("2026-11-30; ") and told.count("† Of another run: 2026-11-29; ") == 1
    parts["networks"]["networks"].pop()
    again = page.networks_document(parts, first)  # one row beside two: the older run is the document's
    assert [row.get("run", {}).get("date") for row in again["networks"]] == [None, "2026-11-30", None]
    assert again["date"] == "2026-11-29"


def test_a_point_of_another_run_is_marked_in_every_table_and_its_run_is_told(parts):
    parts["times"]["runs"].append({**CONDITIONS, "date": "2026-11-30"})
    last = parts["build"]["points"][-1]
    parts["times"]["times"][key_of_time(last["engine"], last["frame"])]["run"] = 1
    parts["times"]["stages"]["g"]["run"] = 1
    study = page.study_document(parts)
    assert [point["name"] for point in study["points"] if "run" in point] == [last["name"]]
    assert study["date"] == "2026-11-29" and "| 704x960 | sub124† |" in page.cascade_table(study)
    assert page.stages_table(study).splitlines()[0] == "| stage | icnet, 1024x2048† |"
    assert page.conditions_of_all(study).count("† Of another run: 2026-11-30; ") == 1


def test_a_study_is_told_once_every_point_is_timed(parts):
    assert page.has_study(parts) and not page.has_study({"times": parts["times"]})
    del parts["times"]["times"][next(iter(parts["times"]["times"]))]
    assert not page.has_study(parts)


def test_networks_that_are_asked_by_name_must_be_built(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    (tmp_path / "networks.json").write_text(json.dumps({"networks": [NETWORK]}))
    with pytest.raises(PipelineError, match=r"^enet has no engines .*: streetseg study networks --only enet$"):
        command.main(["times", "--only", "icnet-caffe", "enet"])


def test_a_busy_machine_is_told(parts):
    study = page.study_document(parts)
    told = "2026-11-29; A CPU with avx2, 2 threads; openvino 1; one run in turns, 5 rounds."
    assert page.conditions(study) == told
    study["load"]["before"]["running_processes"] = 3.21
    assert page.conditions(study) == f"{told[:-1]}; 3.2 processes ran on the machine before."


def test_a_page_is_written_from_the_documents_alone(parts, tmp_path, capsys):
    marks = (page.STUDY_MARK, page.CASCADE_MARK, page.STAGES_MARK, page.NETWORKS_MARK)
    target, plot = tmp_path / "study.md", tmp_path / "study.svg"
    target.write_text("\n".join(f"{mark}\n<!-- end of figures -->" for mark in marks))
    documents = {"study": page.study_document(parts), "networks": page.networks_document(parts)}
    for name, document in documents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    assert command.main(["--folder", str(tmp_path), "--page", str(target), "--plot", str(plot)]) == 0
    text = target.read_text()
    assert all(f"{mark}\n\n|" in text for mark in marks) and "icnet-caffe" in text
    svg = plot.read_text()
    assert svg.startswith("<svg xmlns") and "sub24" in svg and "A CPU, 2 threads" in svg
    (tmp_path / "study.json").unlink()
    with pytest.raises(PipelineError, match=r"study\.json cannot be read .*; this makes it: streetseg study$"):
        command.main(["--folder", str(tmp_path), "--page", str(target)])


def test_a_step_that_is_none_or_that_needs_another_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    with pytest.raises(PipelineError, match=r"unknown step 'bild'\. Did you mean build"):
        command.main(["bild"])
    with pytest.raises(PipelineError, match=r"build\.json cannot be read .*; this makes it: streetseg study build$"):
        command.main(["times"])
