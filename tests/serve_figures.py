"""What serving costs: `python -m tests.serve_figures --engine FILE --json figures/serving-NAME.json`, some minutes.

The server beside a program that uses the engine by itself, in turns; then too many, slow and hostile clients. All of
it on loopback, where the clients take the same cores.
"""

import argparse
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from runtime.artifacts import write_atomically
from runtime.backend import open_backend
from runtime.cli import DONE, count_from_text, lanes_from_text, log, one_of, run
from runtime.manifest import read_manifest
from runtime.measure.bench.tables import rewrite
from runtime.measure.fingerprint import engine_facts, machine, software, today
from runtime.media.frames import read_frame
from runtime.samples import STREET
from tests.helpers.fake_backend import write_fake_engine
from tests.helpers.fake_server import Server, server
from tests.helpers.runs import conditions, run_of, unlike, with_parts
from tests.helpers.serve_direct import cpu_s, direct, memory_mib
from tests.helpers.serve_load import (
    flood,
    good,
    killed_clients,
    slow_readers,
    slow_uploaders,
    too_large,
    too_slow,
)  # fmt: skip
from tests.helpers.serve_overload import overload, told
from tests.runtime.serve.test_answers import decoded, mask_of
from tests.runtime.serve.test_bodies import bomb

MARK = "<!-- serving: made by `python -m tests.serve_figures` -->"
SIZE = (720, 960)  # of the picture that is sent
CLIENTS, QUEUE = 4, 16
OVERLOAD, OVERLOAD_S, FLOODS = 10, 8.0, 5
WAITS = ("auto", "0")  # of --wait-seconds, the default first
EVEN_S = 0.25  # of every frame of an engine whose frames take equally long
PAIRS, LONE = 15, 4  # of processes; frames of a round, one after the other
LONE_PAIRS = 3
PARTS = ("masks", "lone_by_lanes", "throughput", "cpu", "hostile", "overload", "even")
UPLOADERS, READERS, KILLED = 24, 12, 20
UPLOAD_S, MAX_BODY_MIB = 20, 8
TURNS = 3
SETTLE_S = 1.0  # for frames that were in a lane already
CHEAP_FRAMES = 200  # of the engine that costs next to nothing


def measured(
    engine: Path, lanes: int, rounds: int, frames: int, parts: Sequence[str] = PARTS, before: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """These parts, as JSON values, beside those that were measured before, each with the run that it is from."""
    run_ = {"machine": machine(), "software": software(), "engine": engine_facts(engine, read_manifest(engine))}
    run_ |= {"measured": today(), "lanes": lanes}
    with TemporaryDirectory() as place:
        folder = Path(place)
        picture = folder / "street.jpg"
        frame = cv2.resize(read_frame(STREET), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        picture.write_bytes(cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
        data = picture.read_bytes()
        run_ |= {"picture": {"size": list(SIZE), "bytes": len(data)}}
        found: dict[str, Any] = {}
        ways: dict[str, Callable[[], Any]] = {
            "masks": lambda: masks(engine, lanes, folder, read_frame(picture), data),
            "lone_by_lanes": lambda: lone_by_lanes(engine, folder, data, rounds),
            "throughput": lambda: throughput(engine, lanes, folder, rounds, frames),
            "cpu": lambda: cpu(picture, folder, lanes, rounds),
            "hostile": lambda: hostile(engine, lanes, folder, data, frames),
            "overload": lambda: too_many(engine, lanes, folder, data, frames),
            "even": lambda: too_many_even(lanes, folder, data),
        }
        for name in (name for name in PARTS if name in parts):
            found[name] = ways[name]()
            log(f"{name} is measured")
    return with_parts(before, run_, found)


@contextmanager
def serving(engine: Path, lanes: int, folder: Path, *more: object) -> Iterator[Server]:
    """A server over the engine, ready."""
    options = ("--engine", engine.resolve(), "--lanes", lanes, "--queue", QUEUE, "--upload-seconds", UPLOAD_S, *more)
    with server(*options, "--max-body", MAX_BODY_MIB, folder=folder, module="runtime.serve") as running:
        assert running.ask("GET", "/v2/health/ready").status == 200
        yield running


def masks(engine: Path, lanes: int, folder: Path, frame: np.ndarray, data: bytes) -> dict[str, bool]:
    """Whether the mask of every path is that of `segment`, bit for bit."""
    with serving(engine, lanes, folder) as running:
        return _masks(running, engine, frame, data)


def _masks(running: Server, engine: Path, frame: np.ndarray, data: bytes) -> dict[str, bool]:
    triton = __import__("tritonclient.http").http
    with open_backend(engine) as alone:
        mask, confidence = alone.confidence(frame)
        assert np.array_equal(mask, alone.segment(frame))
    raw = running.segment(data, "?as=raw&confidence=1").body
    tensor = triton.InferInput("frame", list(frame.shape), "UINT8")
    tensor.set_data_from_numpy(frame)
    with triton.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        answer = client.infer(engine.stem, [tensor])
    size = "{}x{}".format(*frame.shape)
    found = {
        "JPEG to PNG": decoded(running.segment(data).body),
        "JPEG to raw": np.frombuffer(raw, np.uint8)[: mask.size].reshape(mask.shape),
        "JPEG to runs": mask_of(running.segment(data, "?as=runs").values),
        "raw to PNG": decoded(running.segment(frame.tobytes(), X_Frame_Size=size).body),
        "V2, binary": answer.as_numpy("mask"),
    }
    same = {name: bool(np.array_equal(own, mask)) for name, own in found.items()}
    same["confidence, raw"] = raw[mask.size :] == confidence.tobytes()
    same["confidence, V2"] = bool(np.array_equal(answer.as_numpy("confidence"), confidence))
    for fit in ("stretch", "pad", "auto"):
        wide = np.ascontiguousarray(frame[: frame.shape[0] // 3])
        with open_backend(engine, fit=fit) as alone:
            own = running.segment(wide.tobytes(), f"?fit={fit}&as=raw", X_Frame_Size="{}x{}".format(*wide.shape)).body
            same[f"fit={fit}"] = own == alone.segment(wide).tobytes()
    return same


def lone_by_lanes(engine: Path, folder: Path, data: bytes, rounds: int) -> dict[str, Any]:
    """What a request by itself takes of a server with one lane and of one with two, in turns."""
    taken: list[list[float]] = [[], []]
    for _ in range(LONE_PAIRS):
        with serving(engine, 1, folder) as one, serving(engine, 2, folder) as two:
            ways = [partial(good, each, data, LONE, 1) for each in (one, two)]
            for way in ways:
                way()
            for own, more in zip(taken, in_turns(ways, 2 * rounds), strict=True):
                own.extend(1e3 / LONE * each for each in more)
    times = [one / two for one, two in zip(*taken, strict=True)]
    quarters = [float(np.percentile(times, share)) for share in (25, 75)]
    return {"1": median(taken[0]), "2": median(taken[1]), "one_of_two": median(times), "quarters": quarters,
            "pairs": LONE_PAIRS, "rounds": len(times)}  # fmt: skip


def throughput(engine: Path, lanes: int, folder: Path, rounds: int, frames: int) -> dict[str, Any]:
    """Frames a second of the server and of the program, with as many in flight, in turns; and the memory of each.

    Two processes of one program differ by some percent, as their memory happens to lie: so several pairs are compared.
    """
    pairs = [_pair(engine, lanes, folder, rounds, frames) for _ in range(PAIRS)]
    found = {name: [each[name] for each in pairs] for name in pairs[0]}
    return {"clients": CLIENTS, "pairs": PAIRS, "rounds": rounds, "frames": frames, "of_pairs": found,
            **{name: median(values) for name, values in found.items()}}  # fmt: skip


def _pair(engine: Path, lanes: int, folder: Path, rounds: int, frames: int) -> dict[str, float]:
    picture = folder / "street.jpg"
    data = picture.read_bytes()
    with serving(engine, lanes, folder) as running, direct(engine, lanes, picture) as alone:
        many = (lambda: good(running, data, frames, CLIENTS), lambda: alone.frames(frames, CLIENTS))
        one = (lambda: good(running, data, LONE, 1), lambda: alone.frames(LONE, 1))
        for way in (*many, *one):
            way()
        seconds, lone = in_turns(many, rounds), in_turns(one, rounds)
        peaks = [memory_mib(pid, "VmHWM") for pid in (running.process.pid, alone.pid)]
    return {
        "server_per_s": frames / median(seconds[0]), "direct_per_s": frames / median(seconds[1]),
        "share": median(theirs / own for own, theirs in zip(*seconds, strict=True)),
        "lone_server_ms": 1e3 / LONE * median(lone[0]), "lone_direct_ms": 1e3 / LONE * median(lone[1]),
        "server_peak_mib": peaks[0], "direct_peak_mib": peaks[1], "peak_ratio": peaks[0] / peaks[1],
    }  # fmt: skip


def cpu(picture: Path, folder: Path, lanes: int, rounds: int) -> dict[str, Any]:
    """Processor time of a request beyond what it takes to decode, segment and encode, with an engine made of NumPy.

    Of a real one a frame's own processor time varies by more than what is to be measured.
    """
    engine = write_fake_engine(folder, name="cheap")
    data = picture.read_bytes()
    options = ("--engine", engine, "--lanes", lanes)
    with server(*options, folder=folder) as running, direct(engine, lanes, picture, fake=True) as alone:
        spent = in_turns(
            (
                lambda: _spent(running.process.pid, lambda: good(running, data, CHEAP_FRAMES, 1)),
                lambda: _spent(alone.pid, lambda: alone.frames(CHEAP_FRAMES, 1)),
            ),
            rounds,
        )
    per_request = [[1e3 * each / CHEAP_FRAMES for each in way] for way in spent]
    beyond = median(own - theirs for own, theirs in zip(*per_request, strict=True))
    return {"requests": CHEAP_FRAMES, "rounds": rounds, "server_ms": median(per_request[0]),
            "direct_ms": median(per_request[1]), "beyond_ms": beyond}  # fmt: skip


def hostile(engine: Path, lanes: int, folder: Path, data: bytes, frames: int) -> dict[str, Any]:
    """How soon a good request is answered beside and after bad ones, and what those got."""
    with serving(engine, lanes, folder) as running:
        return _hostile(running, data, frames)


def _hostile(running: Server, data: bytes, frames: int) -> dict[str, Any]:
    got: dict[str, int] = {}

    def bad_bodies() -> None:
        got["100 megapixels"] = running.segment(bomb(10000, 10000)).status
        got["garbage"] = running.segment(b"garbage" * 1000).status
        got[f"{2 * MAX_BODY_MIB} MiB"] = too_large(running, 2 * MAX_BODY_MIB).status

    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
        f"{UPLOADERS} slow uploaders": lambda: slow_uploaders(running, UPLOADERS),
        f"{READERS} slow readers": lambda: slow_readers(running, data, READERS),
        f"after {KILLED} killed clients": lambda: _after(lambda: killed_clients(running, data, KILLED)),
        "after a bomb, garbage and a body over the limit": lambda: _after(bad_bodies),
    }
    good(running, data, 4, 1)
    idle_ms: dict[str, list[float]] = {name: [] for name in ways}
    beside_ms: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            # In turns, on connections of their own: the machine itself is quicker or slower for seconds.
            idle_ms[name].append(_good_ms(running, data, frames))
            with way():
                beside_ms[name].append(_good_ms(running, data, frames))
    slow = too_slow(running, 2 * UPLOAD_S)
    got["a body that does not come"] = int(slow.split()[1]) if slow.startswith(b"HTTP/") else 0
    times = {
        name: median(own / idle for own, idle in zip(beside_ms[name], idle_ms[name], strict=True)) for name in ways
    }
    return {"turns": TURNS, "idle_ms": idle_ms, "good_ms": beside_ms, "times_idle": times, "got": got}


def _good_ms(running: Server, data: bytes, frames: int) -> float:
    return 1e3 * median(good(running, data, 1, 1) for _ in range(frames))


@contextmanager
def _after(bad: Callable[[], None]) -> Iterator[None]:
    bad()
    time.sleep(SETTLE_S)
    yield


def too_many(engine: Path, lanes: int, folder: Path, data: bytes, frames: int) -> dict[str, Any]:
    """Ten times what it can do beside so many clients, by --wait-seconds, in turns."""
    places_a_lane = (QUEUE + lanes) / lanes
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(engine, lanes, folder, "--wait-seconds", wait)) for wait in WAITS]
        # Those who are refused take the cores, too: what it does for four clients it cannot do then.
        per_s = frames / good(servers[0], data, frames, CLIENTS)
        per_s = told(flood(servers[0], data, OVERLOAD * per_s, OVERLOAD_S), OVERLOAD_S, places_a_lane)["accepted_per_s"]
        found = overload(servers, data, OVERLOAD * per_s, OVERLOAD_S, FLOODS, places_a_lane)
    return {"queue": QUEUE, "waits": dict(zip(WAITS, found, strict=True))}


def too_many_even(lanes: int, folder: Path, data: bytes) -> dict[str, Any]:
    """The same with an engine whose frames take equally long: what of the tail is the server's own."""
    engine = write_fake_engine(folder, name="even", delay_s=EVEN_S, tells_stages=False)
    with server("--engine", engine, "--lanes", lanes, "--queue", QUEUE, folder=folder) as running:
        given = (OVERLOAD * lanes / EVEN_S, OVERLOAD_S, FLOODS, (QUEUE + lanes) / lanes)
        return overload([running], data, *given)[0]


def as_markdown(found: dict[str, Any]) -> str:
    """The page's tables."""
    through, hostile_, lone = found["throughput"], found["hostile"], found["lone_by_lanes"]
    run_ = run_of(found, "throughput")
    rows = [
        f"| frames a second, {through['clients']} at once | {through['server_per_s']:.1f} "
        f"| {through['direct_per_s']:.1f} | {through['share']:.1%} |",
        f"| one at a time, ms | {through['lone_server_ms']:.1f} | {through['lone_direct_ms']:.1f} | |",
        f"| most memory, MiB | {through['server_peak_mib']:.0f} | {through['direct_peak_mib']:.0f} "
        f"| {through['peak_ratio']:.2f} times |",
        f"| processor time a picture without the network, ms | {found['cpu']['server_ms']:.1f} "
        f"| {found['cpu']['direct_ms']:.1f} | {found['cpu']['beyond_ms']:+.1f} ms |",
    ]
    bad = [f"| {name} | {share:.2f} |" for name, share in hostile_["times_idle"].items()]
    got = ", ".join(f"{name}: {code}" for name, code in hostile_["got"].items())
    return "\n".join([
        f"{conditions(run_)}; a JPEG of {'x'.join(map(str, run_['picture']['size']))}; medians of {through['pairs']} "
        f"pairs of processes in turns.{unlike(found, 'cpu', 'throughput', 'The last row')}",
        "", "| | server | by itself | |", "|---|---|---|---|", *rows, "",
        f"A request by itself takes {lone['1']:.0f} ms of a server with one lane, {lone['2']:.0f} ms of one with two: "
        f"{lone['one_of_two']:.2f} times as long in the median of {lone['rounds']} turns, half of them "
        f"{lone['quarters'][0]:.2f} to {lone['quarters'][1]:.2f}."
        f"{unlike(found, 'lone_by_lanes', 'throughput', 'This')}",
        "", "| a good request beside | times an idle server's |", "|---|---|", *bad, "",
        f"What arrived: {got}.{unlike(found, 'hostile', 'throughput', 'This and the table above it')}",
        "", *_overloaded(found),
    ])  # fmt: skip


def _overloaded(found: Mapping[str, Any]) -> list[str]:
    even, waits = found["even"], found["overload"]["waits"]
    ways = {**{f"`--wait-seconds {wait}`": each for wait, each in waits.items()},
            f"an engine whose frames all take {1e3 * EVEN_S:.0f} ms": even}  # fmt: skip
    flooded = next(iter(waits.values()))
    heads = ("", "offered a second, times what was accepted", "answers", "accepted a second",
             "one without its wait, ms: mean, 99 %", "the bound, s", "accepted took, s: half, 99 %",
             "99 % by the bound")  # fmt: skip
    lines = [
        f"Offered far more than it can do, for {flooded['seconds']:.0f} s each: "
        f"{conditions(run_of(found, 'overload'))}.{unlike(found, 'even', 'overload', 'The last row')} The bound is "
        "(queue + lanes) / lanes times the mean of one request without its wait:",
        "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|",
    ]  # fmt: skip
    for name, each in ways.items():
        answered = ", ".join(f"{count} x {code}" for code, count in sorted(each["statuses"].items()))
        offered, accepted = each["offered_per_s"], each["accepted_per_s"]
        lines.append(
            f"| {name} | {offered:.0f}, {offered / accepted:.1f} times | {answered} | {accepted:.1f} "
            f"| {each['service_ms']:.0f}, {each['service_p99_ms']:.0f} | {each['bound_s']:.2f} "
            f"| {each['p50_s']:.2f}, {each['p99_s']:.2f} | {each['p99_of_bound']:.2f} |"
        )
    memory = " -> ".join(f"{each:.0f}" for each in flooded["rss_mib"])
    return [*lines, "", f"Memory through that: {memory} MiB."]


def in_turns(ways: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """What each way gives, a round after the other, each the first in every second round."""
    found: list[list[float]] = [[] for _ in ways]
    for number in range(rounds):
        order = list(range(len(ways)))
        for way in order if number % 2 else reversed(order):
            found[way].append(ways[way]())
    return found


def _spent(pid: int, work: Callable[[], object]) -> float:
    before = cpu_s(pid)
    work()
    return cpu_s(pid) - before


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m tests.serve_figures", description=__doc__)
    parser.add_argument("--engine", type=Path, help="not needed where no part is measured")
    parser.add_argument("--lanes", type=lanes_from_text, default=2)
    parser.add_argument("--rounds", type=count_from_text, default=4)
    parser.add_argument("--frames", type=count_from_text, default=48, help="of a round")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="whose tables are written anew")
    what = "the others stay as they are in --json; none after it: the tables alone are written"
    parser.add_argument("--parts", nargs="*", metavar="PART", default=PARTS, help=f"{', '.join(PARTS)}; {what}")
    options = parser.parse_args(argv)
    for name in options.parts:
        one_of(name, PARTS, "part")
    if options.parts and not options.engine:
        parser.error("--engine is needed")
    found = json.loads(options.json.read_text()) if set(options.parts) != set(PARTS) and options.json.exists() else {}
    if options.parts:
        found = measured(options.engine, options.lanes, options.rounds, options.frames, options.parts, found)
        found["runs"][-1]["command"] = shlex.join(["python", "-m", "tests.serve_figures", *argv])
        write_atomically(options.json, json.dumps(found, indent=1).encode())
    if options.page and set(PARTS) <= set(found):
        rewrite(options.page, MARK, as_markdown(found))
    log(f"{options.json if options.parts else options.page}: written")
    return DONE


if __name__ == "__main__":
    run(main)
