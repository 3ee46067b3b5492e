"""All times of the study's page: one run over all engines and stages, which goes on where it was stopped.

What was timed before a stop stays, told apart by its run: a table's rows of another run are marked.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runtime.cli import log
from runtime.measure.fingerprint import load, machine, revision, software, today
from runtime.measure.worker import ENGINE, Job
from streetseg.study.by_stage import stages_of
from streetseg.study.points import FRAME
from streetseg.study.timing import ROUNDS, Timed, measure

HUGE_GMAC = 300.0  # a network whose frame takes more takes turns alone: its engines, and OpenVINO as it comes
BUSY = 0.5  # processes beside this one, from which a run is told not to be of a quiet machine
PLAIN = "openvino"  # the kind of path of OpenVINO as it comes

Values = dict[str, Any]
Keep = Callable[[Values], None]


class Column(NamedTuple):
    """A graph whose milliseconds are told by stage."""

    model: str
    size: tuple[int, int]
    graph: Path


class Unit(NamedTuple):
    """Engines whose times are only worth something beside one another: all of one run, or measured again."""

    timed: dict[str, Timed]  # by key
    group: str  # units of one group take turns


def key_of_time(file: str | Path, frame: Sequence[int]) -> str:
    """What a time is of: a file, whose name has a key of all it was made from, and the frames' size."""
    return f"{Path(file).name} on {frame[0]}x{frame[1]}"


def units_of(points: Iterable[Values], networks: Iterable[Values]) -> list[Unit]:
    """The study's points, the networks' engines and plain graphs; what both have is timed once, in the study's turns.

    Args:
        points: as `building.built_point` gives them.
        networks: as `networks.built_network` gives them.
    """
    units: dict[str, Unit] = {}
    for point in points:
        files = {point["engine"]: ENGINE} | ({point["plain"]: PLAIN} if point["plain"] else {})
        _add(units, files, point["frame"], "study")
    for network in networks:
        group = "networks" if network["gmac"] <= HUGE_GMAC else network["name"]
        files = dict.fromkeys(network["engines"].values(), ENGINE) | {network["plain"]: PLAIN}
        _add(units, files, FRAME, group)
    return list(units.values())


def _add(units: dict[str, Unit], files: dict[str, str], frame: Sequence[int], group: str) -> None:
    keys = {key_of_time(file, frame): Job(kind, (Path(file),)) for file, kind in files.items()}
    unit = units.setdefault(next(iter(keys)), Unit({}, group))  # by its FP16 engine
    size = frame[0], frame[1]
    unit.timed.update({key: Timed(key, job, size) for key, job in keys.items()})


class Wanted(NamedTuple):
    """What is to be timed, and the load of the machine before anything of this was begun (`fingerprint.load`)."""

    units: Sequence[Unit]
    columns: Sequence[Column]
    before: Values
    only: Sequence[Unit] = ()  # these alone, though they are timed


def timed_run(wanted: Wanted, known: Values, keep: Keep) -> Values:
    """Time what is not timed yet; all of it anew where everything is.

    Args:
        wanted: all of it.
        known: what an earlier call gave, or an empty one.
        keep: is given what is known so far, after every group.

    Returns:
        `runs`: the conditions of each; `times` by key and `stages` by the graph's name, each with its `run`'s index.

    Raises:
        EngineError: an engine cannot be opened, or fails.
    """
    units, columns = _left(wanted, known)
    if not units and not columns:
        known, units, columns = {}, list(wanted.units), list(wanted.columns)
    found = _still_wanted(known, wanted)
    index = len(found["runs"])
    found["runs"].append(_conditions(wanted.before))
    for name in dict.fromkeys(unit.group for unit in units):
        group = [timed for unit in units if unit.group == name for timed in unit.timed.values()]
        found["times"] |= {key: {"run": index, **told} for key, told in measure(group).items()}
        _note(found, keep)
    for column in columns:
        told = {"model": column.model, "size": list(column.size), "ms": stages_of(column.graph)}
        found["stages"][column.graph.name] = {"run": index, **told}
        _note(found, keep)
    return found


def _left(wanted: Wanted, known: Values) -> tuple[list[Unit], list[Column]]:
    if wanted.only:
        return list(wanted.only), []
    units = [unit for unit in wanted.units if not _is_timed(unit, known)]
    return units, [column for column in wanted.columns if column.graph.name not in known.get("stages", {})]


def _is_timed(unit: Unit, known: Values) -> bool:
    return unit.timed.keys() <= known.get("times", {}).keys()


def _still_wanted(known: Values, wanted: Wanted) -> Values:
    names = {key for unit in wanted.units for key in unit.timed} | {column.graph.name for column in wanted.columns}
    kept = {
        part: {key: told for key, told in known.get(part, {}).items() if wanted.only or key in names}
        for part in ("times", "stages")
    }
    return {"runs": list(known.get("runs", [])), **kept}


def _conditions(before: Values) -> Values:
    running = before["running_processes"]
    if running and running >= BUSY:
        log(
            f"warning: {running:.1f} processes ran on the machine in the last minute: times are those of a busy machine"
        )
    run = {"date": today(), "revision": revision(), "machine": machine(), "software": software(), "rounds": ROUNDS}
    return {**run, "load": {"before": before}}


def _note(found: Values, keep: Keep) -> None:
    found["runs"][-1]["load"]["after"] = load()
    keep(found)
