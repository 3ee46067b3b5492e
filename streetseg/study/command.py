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
from runtime.measure.fingerprint import load
from runtime.measure.worker import ENGINE
from runtime.threads import for_command
from streetseg.study import page
from streetseg.study.building import FOLDER, built_point, graph_of
from streetseg.study.plot import picture
from streetseg.study.points import BRANCH, CASCADE, FRAME, STUDY
from streetseg.study.run import Column, Wanted, timed_run, units_of
from streetseg.study.timing import peaks_mib

STEPS = ("build", "networks", "accuracy", "memory", "times")
PREPARED = STEPS[:-1]  # what may be done on a busy machine
STAGED = (("pspnet50-sum", FRAME), ("pspnet50-sum", (512, 1024)), ("icnet", FRAME), ("icnet", (512, 1024)))
FIGURES = Path("figures")

Values = dict[str, Any]


class Asked(NamedTuple):
    """What a step is told: where CamVid is, and which networks of the table it is for, where not for all."""

    data: Path | None = None
    only: Sequence[str] = ()
    before: Values | None = None  # how busy the machine was when the command began


def build(_: Asked) -> Values:
    """The study's engines, and the graphs whose stages are told; what is built already is found."""
    points = [built_point(point) for point in (*STUDY, *CASCADE)]
    graphs = [(model, size, str(graph_of(model, "fp16", size))) for model, size in STAGED]
    return {"points": points, "stages": graphs}


def networks(asked: Asked) -> Values:
    """Registered networks' engines and their logits beside PyTorch's; small ones first. Rows of others are kept."""
    from export import registry
    from streetseg.study.building import cost_of
    from streetseg.study.networks import built_network

    names = [registry.find(name).name for name in asked.only] or registry.names()
    known = {row["name"]: row for row in _known("networks").get("networks", [])}
    rows = {name: known[name] for name in registry.names() if name in known}
    for name in sorted(names, key=lambda name: cost_of(name, FRAME).gmac):
        rows[name] = built_network(name, known.get(name, {}))
        _write(FOLDER / "networks.json", {"networks": list(rows.values())})  # can be timed, though it is stopped
    return {"networks": list(rows.values())}


def accuracy(asked: Asked) -> Values:
    """mIoU of ICNet's branches on CamVid's validation frames, of the engines that are timed; each is evaluated once."""
    points = [point for point in kept("build")["points"] if point["series"] == BRANCH]
    known = _known("accuracy")
    of = {Path(point["engine"]).name: Path(point["engine"]) for point in points}
    miou = {name: value for name, value in known.get("of_engine", {}).items() if name in of}
    told: Values = {key: known[key] for key in ("dataset", "split", "frames") if key in known}
    left = [path for name, path in of.items() if name not in miou]
    if left and asked.data is None:
        log("no DATA: the branches' accuracy is left out")
    elif left and asked.data:
        from runtime.accuracy.evaluate import evaluated

        found = evaluated(left, "camvid", asked.data, "val")
        told = {"dataset": found["dataset"], "split": found["split"], "frames": found["engines"][0]["frames"]}
        miou |= {path.name: engine["miou"] for path, engine in zip(left, found["engines"], strict=True)}
    by_point = {point["name"]: miou[name] for point in points if (name := Path(point["engine"]).name) in miou}
    return {**told, "of_engine": miou, "miou": by_point}


def memory(_: Asked) -> Values:
    """The most memory of a process of each of the study's engines."""
    units = units_of(kept("build")["points"], ())
    wanted = {key: timed for unit in units for key, timed in unit.timed.items() if timed.job.kind == ENGINE}
    known = {key: mib for key, mib in _known("memory").get("peak_mib", {}).items() if key in wanted}
    return {"peak_mib": known | peaks_mib([timed for key, timed in wanted.items() if key not in known])}


def times(asked: Asked) -> Values:
    """One run of everything: the study's engines, beside them OpenVINO as it comes, all networks', and the stages.

    Of networks that are asked by name these alone are timed anew, in a run of their own.
    """
    built = _known("build") if asked.only else kept("build")
    rows = kept("networks")["networks"]
    for name in asked.only:
        if name not in (row["name"] for row in rows):
            raise PipelineError(
                f"{name} has no engines to time; this makes them: streetseg study networks --only {name}"
            )
    units = units_of(built.get("points", []), rows)
    named = {engine for row in rows if row["name"] in asked.only for engine in row["engines"].values()}
    only = [unit for unit in units if named & {str(timed.job.files[0]) for timed in unit.timed.values()}]
    columns = [] if asked.only else [Column(model, size, Path(graph)) for model, size, graph in built["stages"]]
    wanted = Wanted(units, columns, asked.before or load(), only)
    return timed_run(wanted, _known("times"), lambda found: _write(FOLDER / "times.json", found))


DO: dict[str, Callable[[Asked], Values]] = {
    "build": build, "networks": networks, "accuracy": accuracy, "memory": memory, "times": times
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
    steps = [one_of(step, STEPS, "step") for step in asked.steps] or (PREPARED if asked.prepare else STEPS)
    with for_command(asked.threads):
        told = Asked(asked.data, asked.only, load())
        for step in steps:
            _write(FOLDER / f"{step}.json", DO[step](told))
    if "times" in steps:
        _tell(asked.folder, {step: kept(step) for step in STEPS if (FOLDER / f"{step}.json").is_file()}, told)
    return DONE


def _tell(folder: Path, parts: Values, asked: Asked) -> None:
    if page.has_study(parts):
        _write(folder / "study.json", study := page.study_document(parts))
        show(page.study_text(study))
    before = folder / "networks.json"
    of_all = page.networks_document(parts, read_json(before) if asked.only and before.is_file() else None)
    _write(before, of_all)
    show(page.networks_text(of_all))


def _known(step: str) -> Values:
    return kept(step) if (FOLDER / f"{step}.json").is_file() else {}


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
        help="of the steps networks and times: these alone; the folder's other rows stay, told apart",
    )
    parser.add_argument(
        "--prepare", action="store_true", help=f"{', '.join(PREPARED)}: all but the times, for a machine that is busy"
    )
    parser.add_argument("--folder", type=Path, default=FIGURES, help="of study.json and networks.json (%(default)s)")
    parser.add_argument(
        "--page", type=Path, help="measure nothing: write the folder's documents into this page's tables"
    )
    parser.add_argument("--plot", type=Path, metavar="SVG", help="with --page: the picture")
    add_threads(parser)
    return parser
