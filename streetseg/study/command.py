"""`streetseg study`: what each step from PSPNet50 to ICNet buys on this machine, and a table of all networks."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.cli import DONE, add_threads, log, one_of, show
from runtime.errors import PipelineError
from runtime.json_values import read_json
from runtime.measure.fingerprint import load, machine, revision, software, today
from runtime.measure.worker import ENGINE, Job
from runtime.threads import for_command
from streetseg.study import page
from streetseg.study.building import FOLDER, built_point, graph_of
from streetseg.study.plot import picture
from streetseg.study.points import BRANCH, CASCADE, FRAME, STUDY
from streetseg.study.timing import ROUNDS, Timed, measure

HUGE_GMAC = 300.0  # a network whose frame takes more takes turns with its own INT8 engine alone
STEPS = ("build", "networks", "accuracy", "times", "stages", "network-times")
STAGED = (("pspnet50-sum", FRAME), ("pspnet50-sum", (512, 1024)), ("icnet", FRAME), ("icnet", (512, 1024)))
FIGURES = Path("figures")

Values = dict[str, Any]


class Asked(NamedTuple):
    """What a step is told: where CamVid is, and which networks of the table it is for, where not for all."""

    data: Path | None = None
    only: Sequence[str] = ()


def build(_: Asked) -> Values:
    """The study's engines; what is built already is found."""
    return {"points": [built_point(point) for point in (*STUDY, *CASCADE)]}


def networks(asked: Asked) -> Values:
    """Registered networks' engines and their logits beside PyTorch's; small ones first. Rows of others are kept."""
    from export import registry
    from streetseg.study.building import cost_of
    from streetseg.study.networks import built_network

    names = [registry.find(name).name for name in asked.only] or registry.names()
    rows = _kept_rows() if asked.only else {}
    for name in sorted(names, key=lambda name: cost_of(name, FRAME).gmac):
        rows[name] = built_network(name)
        _write(FOLDER / "networks.json", {"networks": list(rows.values())})  # can be timed, though it is stopped
    return {"networks": list(rows.values())}


def _kept_rows() -> dict[str, Values]:
    known = kept("networks")["networks"] if (FOLDER / "networks.json").is_file() else []
    return {row["name"]: row for row in known}


def accuracy(asked: Asked) -> Values:
    """mIoU of ICNet's branches on CamVid's validation frames, of the engines that are timed."""
    if asked.data is None:
        log("no DATA: the branches' accuracy is left out")
        return {}
    from runtime.accuracy.evaluate import evaluated

    points = [point for point in kept("build")["points"] if point["series"] == BRANCH]
    found = evaluated([Path(point["engine"]) for point in points], "camvid", asked.data, "val")
    miou = {point["name"]: engine["miou"] for point, engine in zip(points, found["engines"], strict=True)}
    return {"dataset": found["dataset"], "split": found["split"], "frames": found["engines"][0]["frames"], "miou": miou}


def times(_: Asked) -> Values:
    """One run: the study's engines in turns, and beside them OpenVINO as it comes."""
    return _run([_study_group()], "times")


def network_times(asked: Asked) -> Values:
    """One run: all networks' FP16 and INT8 engines, or those of some."""
    return _run(_network_groups(asked.only), "network-times")


def stages(_: Asked) -> Values:
    """Milliseconds by stage of the network."""
    from streetseg.study.by_stage import stages_of

    return {
        "stages": [
            {"model": model, "size": list(size), "ms": stages_of(graph_of(model, "fp16", size))}
            for model, size in STAGED
        ]
    }


DO: dict[str, Callable[[Asked], Values]] = {
    "build": build, "networks": networks, "accuracy": accuracy, "times": times, "stages": stages,
    "network-times": network_times,
}  # fmt: skip


def kept(step: str) -> Values:
    """What a step found.

    Raises:
        PipelineError: it was not done yet.
    """
    return _read(FOLDER / f"{step}.json", f" {step}")


def main(argv: Sequence[str]) -> int:
    """Do the steps, each of which keeps what it found, and print the tables; or only write a page of them.

    Raises:
        PipelineError: a step cannot be done, or needs another one first; a page has no place for a table.
    """
    asked = _parser().parse_args(argv)
    if asked.page:
        study, of_all = (_read(asked.folder / name, "") for name in ("study.json", "networks.json"))
        page.write(asked.page, study, of_all)
        if asked.plot:
            cpu = study["machine"]["cpu"], study["machine"]["threads"]
            write_atomically(asked.plot, picture(study["points"], f"{cpu[0]}, {cpu[1]} threads").encode())
        return DONE
    steps = [one_of(step, STEPS, "step") for step in asked.steps] or STEPS
    with for_command(asked.threads):
        for step in steps:
            _write(FOLDER / f"{step}.json", DO[step](Asked(asked.data, asked.only)))
    parts = {step: kept(step) for step in STEPS if (FOLDER / f"{step}.json").is_file()}
    if "times" in parts:
        _write(asked.folder / "study.json", study := page.study_document(parts))
        show(page.study_text(study))
    if "network-times" in parts:
        before = asked.folder / "networks.json"
        of_all = page.networks_document(parts, read_json(before) if asked.only and before.is_file() else None)
        _write(before, of_all)
        show(page.networks_text(of_all))
    return DONE


def _run(groups: Sequence[list[Timed]], step: str) -> Values:
    where = {"date": today(), "revision": revision(), "machine": machine(), "software": software(), "rounds": ROUNDS}
    found: Values = {**where, "load": {"before": load()}, "times": {}}
    for group in groups:
        found["times"] |= measure(group)
        found["load"]["after"] = load()
        _write(FOLDER / f"{step}.json", found)  # groups that are done are told, though it is stopped
    return found


def _study_group() -> list[Timed]:
    group = []
    for point in kept("build")["points"]:
        what = (point["frame"][0], point["frame"][1]), point["gmac"]
        group.append(Timed(point["name"], Job(ENGINE, (Path(point["engine"]),)), *what))
        if point["plain"]:
            group.append(Timed(point["name"] + page.PLAIN, Job("openvino", (Path(point["plain"]),)), *what))
    return group


def _network_groups(only: Sequence[str]) -> list[list[Timed]]:
    rows = kept("networks")["networks"]
    for name in only:
        if name not in (row["name"] for row in rows):
            raise PipelineError(
                f"{name} has no engines to time; this makes them: streetseg study networks --only {name}"
            )
    pairs = [
        [
            Timed(f"{network['name']} {kind}", Job(ENGINE, (Path(engine),)), FRAME, network["gmac"])
            for kind, engine in network["engines"].items()
        ]
        for network in rows
        if not only or network["name"] in only
    ]
    small = [timed for pair in pairs for timed in pair if timed.gmac <= HUGE_GMAC]
    huge = [pair for pair in pairs if pair[0].gmac > HUGE_GMAC]
    return [*([small] if small else []), *huge]


def _read(path: Path, step: str) -> Values:
    try:
        found: Values = read_json(path)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} cannot be read ({error}); this makes it: streetseg study{step}") from None
    return found


def _write(path: Path, values: Values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def _parser() -> Parser:
    parser = Parser(prog="streetseg study", description=__doc__)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)} (all)")
    parser.add_argument("--data", type=Path, help="CamVid's folder, for the accuracy of ICNet's branches")
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="NETWORK",
        help="of the steps networks and network-times: these alone; the folder's other rows stay, told apart",
    )
    parser.add_argument("--folder", type=Path, default=FIGURES, help="of study.json and networks.json (%(default)s)")
    parser.add_argument(
        "--page", type=Path, help="measure nothing: write the folder's documents into this page's tables"
    )
    parser.add_argument("--plot", type=Path, metavar="SVG", help="with --page: the picture")
    add_threads(parser)
    return parser
