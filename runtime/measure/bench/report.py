"""One HTML file of what was measured, with nothing to load: `python -m runtime.report -o report.html`; `make report`.

Latency and stages come from `runtime.bench --json`, accuracies from `runtime.evaluate --json`; the engines are timed in
turns and drawn on one frame here. A file is of "this engine" only if one of the engines was measured in it on this
machine; what others measured stands below, by machine and date.
"""

import argparse
import base64
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS, write_atomically
from runtime.cli import DONE, log, show
from runtime.commands import command
from runtime.errors import EngineError
from runtime.kernels.cpu import overlay
from runtime.labels import palette
from runtime.manifest import read_manifest
from runtime.measure.bench import charts, scaling, scaling_chart
from runtime.measure.bench.tables import conditions, read_document, title
from runtime.measure.documents import Evaluation, read
from runtime.measure.fingerprint import machine, today
from runtime.measure.rivals import RIVALS
from runtime.measure.rounds import take_turns, turns
from runtime.measure.scratch import scratch
from runtime.measure.worker import ENGINE, Job, Worker, mask_of, warm_up
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET

ROUNDS, WARMUP = 20, 3
OURS_HERE = "this engine"
SHOWN_WIDTH = 640  # px of the frame in the report
JPEG_QUALITY = 92
DIFFERENT = (255, 0, 60)
STYLE = """
:root{color-scheme:light dark;--text:#1f2328;--page:#fff;--line:#d0d7de;--quiet:#57606a}
@media (prefers-color-scheme:dark){:root{--text:#e6edf3;--page:#0d1117;--line:#30363d;--quiet:#9198a1}}
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:var(--text);
background:var(--page)}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid var(--line)}
svg{width:100%;height:auto}text{font:13px system-ui,sans-serif;fill:var(--text)}.small{font-size:11px;fill:var(--quiet)}
.panel{font-weight:600;font-size:12px}.middle{text-anchor:middle}.end{text-anchor:end}.grid{stroke:var(--line);stroke-width:1}
.legend .key{margin-right:1.2rem}.key i{display:inline-block;width:.8em;height:.8em;margin-right:.4em}
.frames{display:grid;grid-template-columns:1fr 1fr;gap:.8rem}figure{margin:0}img{width:100%;height:auto;display:block}
figcaption,.note{color:var(--quiet);font-size:.88rem}
"""


class Drawn(NamedTuple):
    """One engine on the report's frame."""

    name: str  # its precision, and what it executes
    stem: str
    ms: float  # median, measured in turns with the others
    mask: np.ndarray  # uint8 (H, W) train ids


def main(argv: Sequence[str]) -> int:
    """Write the report.

    Raises:
        PipelineError: an input is not what it should be, or the report cannot be written.
    """
    options = _parser().parse_args(argv)
    documents = [read_document(path) for path in options.bench]
    accuracies = _accuracies(options.evaluate)
    frame = read_frame(options.frame)
    drawn = draw(options.engines, frame) if options.engines else []
    mine = {read_manifest(engine).engine_sha256 for engine in options.engines}
    here = [document for document in documents if is_of_here(document["fingerprint"], mine)]
    others = [document for document in documents if document not in here]
    grown = [scaling.read_document(path) for path in options.scaling]
    html = page(here, others, drawn, accuracies, frame, _colors(options.engines), grown)
    write_atomically(options.output, html.encode())
    show(options.output)
    return DONE


def draw(engines: Sequence[Path], frame: np.ndarray) -> list[Drawn]:
    """Each engine's mask of a frame, uint8 (H, W, 3) RGB at the network's size, and its time, in turns.

    Raises:
        EngineError: one cannot be opened, or they are of several sizes.
    """
    manifests = [read_manifest(engine) for engine in engines]
    sizes = {(m.spec.preprocess.height, m.spec.preprocess.width) for m in manifests}
    if len(sizes) != 1:
        raise EngineError(
            f"the engines are of sizes {sorted(sizes)}; build them with one SIZE to draw them side by side"
        )
    with scratch() as folder, ExitStack() as stack:
        np.save(path := folder / "frame.npy", resize_frame(frame, *sizes.pop()))
        workers = [stack.enter_context(Worker(Job(ENGINE, (engine,)), path)) for engine in engines]
        masks = [mask_of(worker, folder) for worker in workers]
        warm_up(workers, WARMUP)
        log(f"measuring {ROUNDS} rounds of {len(workers)} engines")
        samples = take_turns([w.frame_ms for w in workers], turns(np.random.default_rng(0), ROUNDS, 1, len(workers)))
    medians = np.median(samples, axis=(1, 2))
    names = [f"{m.spec.name} {m.precision} ({', '.join(m.executed)})" for m in manifests]
    stems = [engine.stem for engine in engines]
    return [Drawn(*each) for each in zip(names, stems, map(float, medians), masks, strict=True)]


def is_of_here(found: dict[str, Any], engines: Collection[str]) -> bool:
    """Whether a fingerprint is of this machine and of one of the engines, which are named by their sha256."""
    now = machine()
    same = all(found["machine"][part] == now[part] for part in ("cpu", "features", "threads", "system"))
    gpus = [side["gpu"] and side["gpu"]["name"] for side in (found["machine"], now)]
    return same and gpus[0] == gpus[1] and found["engine"]["engine_sha256"] in engines


def page(
    here: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    drawn: Sequence[Drawn],
    accuracies: dict[str, tuple[float, str]],
    frame: np.ndarray,
    colors: np.ndarray | None,
    grown: Sequence[dict[str, Any]] = (),
) -> str:
    """The whole HTML text.

    Args:
        here: documents of `runtime.bench`, of these engines on this machine.
        others: of other engines or machines.
        drawn: what `draw` gives.
        accuracies: by an engine's stem, its mIoU and on what it was evaluated.
        frame: uint8 (H, W, 3) RGB, of which the masks are.
        colors: uint8 (256, 3), what `palette` gives; None without engines.
        grown: documents of `runtime.bench_scaling`.
    """
    parts = ["<h1>Street-scene segmentation: figures</h1>"]
    for document in here:
        parts += _bench_section(document, OURS_HERE, charts.OURS)
    parts += ["<h2>Speed against accuracy</h2>", *_accuracy_section(drawn, accuracies)]
    if drawn and colors is not None:
        parts += ["<h2>One frame through every precision</h2>", *_frames_section(drawn, frame, colors)]
    if grown:
        parts += ["<h2>Larger than two cores</h2>", *(part for each in grown for part in _scaling_section(each))]
    for document in others:
        parts += _bench_section(document, title(document["fingerprint"]).partition(" (")[0], charts.ELSEWHERE)
    head = f'<meta charset="utf-8"><title>Figures</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _bench_section(document: dict[str, Any], ours: str, color: str) -> list[str]:
    names = {name: ours if name == ENGINE else RIVALS[name].split(",")[0] for name in document["paths"]}
    paths = {names[name]: path for name, path in document["paths"].items()}
    stages = {
        name: {stage: values["p50"] for stage, values in path["stages_ms"].items()} for name, path in paths.items()
    }
    when = measured_at(document["fingerprint"])
    told = f"measured here, {when}" if color == charts.OURS else f"measured elsewhere or of another engine: {when}"
    colors = {f"{ours}, {told}": color, "rivals in the same run": charts.OTHERS}
    return [
        f"<h2>{escape(title(document['fingerprint']))}</h2>",
        f'<p class="note">{escape(told[0].upper() + told[1:])}.</p>',
        "<h3>Latency of single frames</h3>",
        '<p class="note">A dot a frame, the bar is the median, the thin tick p99; the axis is logarithmic.</p>',
        charts.legend(colors),
        charts.distributions({name: path["samples_ms"] for name, path in paths.items()}, ours, color),
        "<h3>Where the time goes</h3>",
        charts.stage_bars(stages),
        f'<p class="note">{escape(conditions(document))}</p>',
    ]


def _scaling_section(document: dict[str, Any]) -> list[str]:
    found = document["fingerprint"]
    key = {
        "latency of single frames": charts.OURS, "throughput": scaling_chart.THROUGHPUT,
        "dashed: in proportion": charts.OTHERS,
    }  # fmt: skip
    flights = sorted({each["in_flight"] for each in document["threads"]})
    told = f"{measured_at(found)}; {document['rounds']} rounds in turns; throughput with as many frames in flight as"
    return [
        f"<h3>{escape(title(found))}</h3>",
        charts.legend(key),
        scaling_chart.scaling(document),
        f'<p class="note">{escape(told)} threads ({", ".join(map(str, flights))}).</p>',
    ]


def measured_at(found: dict[str, Any]) -> str:
    """Machine and date of a fingerprint, in words; older ones hold no date but the revision."""
    where, gpu = found["machine"], found["machine"]["gpu"]
    revision = f", at revision {found['revision'][:10]}" if found["revision"] else ""
    date = found.get("measured") or f"date not recorded{revision}"
    return f"{gpu['name'] + '; ' if gpu else ''}{where['cpu']}, {where['threads']} threads; {date}"


def _accuracy_section(drawn: Sequence[Drawn], accuracies: dict[str, tuple[float, str]]) -> list[str]:
    known = [each for each in drawn if each.stem in accuracies]
    if not known:
        return [f'<p class="note">No accuracy was given: {command("evaluate", data="path")} measures it.</p>']
    points = [charts.Point(each.name, each.ms, accuracies[each.stem][0]) for each in known]
    where = sorted({accuracies[each.stem][1] for each in known})
    now = measured_at({"machine": machine(), "revision": None, "measured": today()})
    return [
        charts.legend({"these engines, measured here in turns": charts.OURS}),
        charts.speed_against_accuracy(points),
        f'<p class="note">Times: {escape(now)}. {escape("; ".join(where))}</p>',
    ]


def _frames_section(drawn: Sequence[Drawn], frame: np.ndarray, colors: np.ndarray) -> list[str]:
    first = drawn[0]
    small = resize_frame(frame, SHOWN_WIDTH * frame.shape[0] // frame.shape[1], SHOWN_WIDTH)
    figures = []
    for each in drawn:
        shown = _nearest(each.mask, small.shape[0], small.shape[1])
        figures.append(_figure(overlay(small, shown, colors, 0.55), f"{each.name}: {each.ms:.1f} ms"))
        differs = each.mask != first.mask
        share = float(differs.mean())
        # Any differing pixel of those that one shown pixel stands for: single ones must not vanish.
        figures.append(
            _figure(_difference(small, _any_in_cell(differs, small.shape[0], small.shape[1])),
                    f"differs from {first.name} on {share:.3%} of pixels" if each is not first
                    else "what the others are compared with")
        )  # fmt: skip
    return [f'<div class="frames">{"".join(figures)}</div>']


def _difference(frame: np.ndarray, differs: np.ndarray) -> np.ndarray:
    grey = np.repeat(frame.mean(axis=2, keepdims=True), 3, axis=2) * 0.5 + 120
    pixels = np.minimum(grey, 255).astype(np.uint8)
    pixels[differs] = DIFFERENT
    return pixels


def _any_in_cell(differs: np.ndarray, height: int, width: int) -> np.ndarray:
    found = np.zeros((height, width), bool)
    rows, columns = np.nonzero(differs)
    found[rows * height // differs.shape[0], columns * width // differs.shape[1]] = True
    return found


def _nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = np.arange(height) * mask.shape[0] // height, np.arange(width) * mask.shape[1] // width
    shown: np.ndarray = mask[rows[:, None], columns]
    return shown


def _figure(pixels: np.ndarray, caption: str) -> str:
    import cv2

    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    data = base64.b64encode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _colors(engines: Sequence[Path]) -> np.ndarray | None:
    return palette(read_manifest(engines[0]).spec.classes) if engines else None


def _accuracies(paths: Sequence[Path]) -> dict[str, tuple[float, str]]:
    found: dict[str, tuple[float, str]] = {}
    for path in paths:
        document = read(path, Evaluation, "runtime.evaluate")
        for engine in document["engines"]:
            where = f"mIoU on {engine['frames']} frames of {document['dataset']} {document['split']}"
            if engine["miou"] is not None:  # no pixel had a label
                found[engine["engine"]] = (float(engine["miou"]), where)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m runtime.report", description=__doc__)
    parser.add_argument("--bench", type=Path, nargs="*", default=[], metavar="FILE", help="of runtime.bench --json")
    parser.add_argument(
        "--evaluate", type=Path, nargs="*", default=[], metavar="FILE", help="of runtime.evaluate --json"
    )
    parser.add_argument(
        "--scaling", type=Path, nargs="*", default=[], metavar="FILE", help="of runtime.bench_scaling --json"
    )
    parser.add_argument(
        "--engines", type=Path, nargs="*", default=[], metavar="ENGINE", help="of one size; the first is compared with"
    )
    parser.add_argument("--frame", type=Path, default=STREET, help="an image (the bundled street)")
    parser.add_argument("-o", "--output", type=Path, default=ARTIFACTS / "report.html", help="default: %(default)s")
    return parser
