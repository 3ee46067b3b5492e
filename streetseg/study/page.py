"""What the study found as two documents, and those as the tables of its page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.measure.bench.tables import rewrite
from runtime.texts import markdown
from streetseg.study.by_stage import STAGES
from streetseg.study.points import BRANCH, FRAME, KERNELS, SCALE, STRIDE, WIDTH
from streetseg.study.run import key_of_time

VERSION = 1
CONDITIONS = ("date", "revision", "machine", "software", "load", "rounds")
STUDY_MARK, CASCADE_MARK, STAGES_MARK, NETWORKS_MARK = (
    f"<!-- {name}: made by `make figures` -->" for name in ("study", "cascade", "stages", "networks")
)
TITLES = {
    SCALE: "PSPNet50, input scale {}",
    STRIDE: "PSPNet50, feature stride {}",
    KERNELS: "PSPNet50, {} of its kernels",
    BRANCH: "ICNet, {}",
    WIDTH: "ICNet, {} of its width",
}
UNCHECKED = "\\*"
RUN, OTHER_RUN = "run", "†"  # a row's own run, where it is not the document's, and what tells of it
WEIGHTS = {True: "shipped", False: "random"}

Values = dict[str, Any]


def has_study(parts: dict[str, Values]) -> bool:
    """Whether every point of the study was built and timed."""
    points = parts.get("build", {}).get("points", [])
    times = parts.get("times", {}).get("times", {})
    return bool(points) and all(key_of_time(point["engine"], point["frame"]) in times for point in points)


def study_document(parts: dict[str, Values]) -> Values:
    """The study, of what its steps kept; it is of the run of most of its rows, and the others hold their own."""
    runs, times, accuracy = _runs(parts), parts["times"]["times"], parts.get("accuracy", {})
    peaks = parts.get("memory", {}).get("peak_mib", {})
    points, stages = [], []
    for point in parts["build"]["points"]:
        key = key_of_time(point["engine"], point["frame"])
        ours = times[key]
        plain = times[key_of_time(point["plain"], point["frame"])] if point["plain"] else None
        row = {
            **{key: value for key, value in point.items() if key not in ("graph", "engine", "plain")},
            "ours": {**_bare(ours), "peak_mib": peaks.get(key)},
            "as_it_comes": plain and _bare(plain),
            "miou": accuracy.get("miou", {}).get(point["name"]),
        }
        points.append((row, runs[ours[RUN]]))
    for column in parts["times"].get("stages", {}).values():
        stages.append((_bare(column), runs[column[RUN]]))
    run = _most([of for _, of in (*points, *stages)])
    told = {key: value for key, value in accuracy.items() if key not in ("miou", "of_engine")}
    rows = {
        name: [_told_of(row, of, run) for row, of in each] for name, each in (("points", points), ("stages", stages))
    }
    return {**run, **rows, "accuracy": told}


def networks_document(parts: dict[str, Values], before: Values | None = None) -> Values:
    """The table of networks, of what its steps kept; a network that was not timed is left out.

    Args:
        parts: by step.
        before: a document whose other rows stay, each with the conditions of its own run.
    """
    runs, times, rows = _runs(parts), parts["times"]["times"], []
    for network in parts["networks"]["networks"]:
        files = {**network["engines"], "as_it_comes": network["plain"]}
        keys = {kind: key_of_time(file, FRAME) for kind, file in files.items()}
        if all(key in times for key in keys.values()):
            bare = {key: value for key, value in network.items() if key not in ("engines", "plain", "logits_of")}
            told = {kind: times[key] for kind, key in keys.items()}
            rows.append(({**bare, **{kind: _bare(each) for kind, each in told.items()}}, runs[told["fp16"][RUN]]))
    if before:
        known, new = _of_run(before), {row["name"] for row, _ in rows}
        rows += [(row, row.get(RUN, known)) for row in before["networks"] if row["name"] not in new]
    run = _most([of for _, of in rows])
    ordered = sorted((_told_of(row, of, run) for row, of in rows), key=lambda network: str(network["name"]))
    return {**run, "networks": ordered}


def _runs(parts: dict[str, Values]) -> list[Values]:
    return [_of_run(run) for run in parts["times"]["runs"]]


def _bare(row: Values) -> Values:
    return {key: value for key, value in row.items() if key != RUN}


def _most(runs: Sequence[Values]) -> Values:
    # Of as many rows the newer one.
    return max(runs, key=lambda run: (runs.count(run), run["date"]))


def _told_of(row: Values, of: Values, run: Values) -> Values:
    # A row of another run than the document's holds that run's conditions.
    return _bare(row) if of == run else {**_bare(row), RUN: of}


def _of_run(times: Values) -> Values:
    return {"version": VERSION, **{key: times[key] for key in CONDITIONS}}


def title(point: Values) -> str:
    """A point in words."""
    return TITLES[point["series"]].format(point["step"])


def study_table(study: Values) -> str:
    """A row a point of the paper: what it costs here, and its published accuracy and speed."""
    full = study["points"][0]
    heads = ["", "parameters, M", "GMAC", "p50 here, ms", "of the first row", "as it comes, ms", "peak MiB",
             "mIoU, published", "ms, published", "of the first row"]  # fmt: skip
    rows = []
    for point in study["points"]:
        if point["size"] != list(FRAME) and point["series"] == BRANCH:
            continue
        ours, published = point["ours"], point["published"]
        mark = UNCHECKED if published and not published["checked"] else ""
        told = (
            [f"{published['miou']:.1f}{mark}", f"{published['ms']:.0f}{mark}",
             f"{published['ms'] / full['published']['ms']:.0%}"] if published else ["", "", ""]
        )  # fmt: skip
        cost = [f"{point['parameters'] / 1e6:.2f}", f"{point['gmac']:.1f}", f"**{_ms(ours['p50_ms'])}**"]
        share, plain = ours["p50_ms"] / full["ours"]["p50_ms"], point["as_it_comes"]
        beside, peak = _ms(plain["p50_ms"]) if plain else "", f"{ours['peak_mib']:.0f}" if ours["peak_mib"] else ""
        rows.append([title(point) + _mark(point), *cost, _share(share), beside, peak, *told])
    return as_table(heads, rows)


def cascade_table(study: Values) -> str:
    """ICNet's branches by input: mIoU on labelled frames, and what each one adds in points and milliseconds."""
    heads = ["input", "branch", "mIoU, %", "added", "p50, ms", "added"]
    rows: list[list[str]] = []
    before: Values | None = None
    branches = [point for point in study["points"] if point["series"] == BRANCH and point["miou"] is not None]
    for point in sorted(branches, key=lambda point: point["size"]):
        gain = cost = ""
        if before and before["size"] == point["size"]:
            gain = f"{100 * (point['miou'] - before['miou']):+.2f}"
            cost = f"{point['ours']['p50_ms'] - before['ours']['p50_ms']:+.1f}"
        size = "x".join(map(str, point["size"]))
        rows.append(
            [
                size,
                point["step"] + _mark(point),
                f"{100 * point['miou']:.2f}",
                gain,
                f"{point['ours']['p50_ms']:.1f}",
                cost,
            ]
        )
        before = point
    return as_table(heads, rows)


def stages_table(study: Values) -> str:
    """Milliseconds by stage of the network, and its share of all."""
    columns = study["stages"]
    heads = [
        "stage",
        *(f"{column['model']}, {'x'.join(map(str, column['size']))}{_mark(column)}" for column in columns),
    ]
    rows = []
    for stage in STAGES:
        cells = [column["ms"].get(stage) for column in columns]
        sums = [sum(column["ms"].values()) for column in columns]
        told = [f"{ms:.1f} ({ms / whole:.0%})" if ms else "" for ms, whole in zip(cells, sums, strict=True)]
        rows.append([stage, *told])
    rows.append(["all", *(f"{sum(column['ms'].values()):.1f}" for column in columns)])
    return as_table(heads, rows)


def networks_table(of_all: Values) -> str:
    """A row a network."""
    heads = ["network", "weights", "parameters, M", "GMAC", "p50 FP16, ms", "p50 INT8, ms", "as it comes, ms",
             "layers in INT8", "logits: graph", "FP16", "INT8", "mIoU, published", "licence", "checkpoint"]  # fmt: skip
    rows = []
    for network in of_all["networks"]:
        executed = network["executed"]["int8"]
        share = executed.get("int8", 0) / sum(executed.values())
        found = [network["logits"].get(kind) for kind in ("graph", "fp16", "int8")]
        logits = ["" if each is None else f"{each:.4f}" for each in found]
        of = f" ({network['miou_of']})" if network["miou_of"] not in ("", "val") else ""
        published = f"{network['miou']:g}{of}" if network["miou"] else ""
        size = "" if network["size"] == list(FRAME) else f", at {'x'.join(map(str, network['size']))}"
        cost = [f"{network['parameters'] / 1e6:.2f}", f"{network['gmac']:.1f}"]
        timed = [network.get(kind) for kind in ("fp16", "int8", "as_it_comes")]
        p50 = ["" if each is None else _ms(each["p50_ms"]) for each in timed]
        name, weights = f"{network['name']}{_mark(network)}{size}", WEIGHTS[network["trained"]]
        told = [published, network["licence"], network["checkpoint"]]
        rows.append([name, weights, *cost, *p50, _share(share), *logits, *told])
    return as_table(heads, rows)


def conditions(document: Values) -> str:
    """On what it was measured, and how: a line."""
    machine, software = document["machine"], document["software"]
    busy = document["load"]["before"]["running_processes"]
    rounds = f"{document['rounds']} round{'s' * (document['rounds'] > 1)}"
    return markdown(
        f"{document['date']}; {machine['cpu']} with {' '.join(machine['features'])}, {machine['threads']} threads; "
        f"openvino {software['openvino']}; one run in turns, {rounds}"
        f"{f'; {busy:.1f} processes ran on the machine before' if busy and busy >= 1 else ''}."
    )


def conditions_of_all(document: Values) -> str:
    """On what a document's rows were measured; a line for its run and one for each other run that a row is of."""
    rows = [row for part in ("points", "stages", "networks") for row in document.get(part, [])]
    lines = dict.fromkeys(conditions(row[RUN]) for row in rows if RUN in row)
    return "\n\n".join([conditions(document), *(f"{OTHER_RUN} Of another run: {line}" for line in lines)])


def write(path: Path, study: Values, of_all: Values) -> None:
    """Put the tables between the marks of a page on disk.

    Raises:
        PipelineError: there is no such page, or it has no place for one of them.
    """
    rewrite(path, STUDY_MARK, f"{study_table(study)}\n\n{conditions_of_all(study)}")
    rewrite(path, CASCADE_MARK, cascade_table(study))
    rewrite(path, STAGES_MARK, stages_table(study))
    rewrite(path, NETWORKS_MARK, f"{networks_table(of_all)}\n\n{conditions_of_all(of_all)}")


def study_text(study: Values) -> str:
    """The study's tables, for a terminal."""
    return "\n\n".join([study_table(study), cascade_table(study), stages_table(study), conditions_of_all(study)])


def networks_text(of_all: Values) -> str:
    """The networks' table, for a terminal."""
    return "\n\n".join([networks_table(of_all), conditions_of_all(of_all)])


def as_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows))


def _mark(row: Values) -> str:
    return OTHER_RUN * (RUN in row)


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"
