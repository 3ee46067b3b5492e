"""A run as a page and as JSON: what was done, what it cost, what was seen, what went wrong."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from html import escape
from typing import Any

from runtime.fleet.results import Joined
from runtime.fleet.rows import Row
from runtime.fleet.stores import Store

PAGE, DOCUMENT = "summary.html", "summary.json"
MOST_ERRORS = 200  # on the page; all are in the table
SECONDS_AN_HOUR = 3600
COUNTED = (
    "Machine seconds are those in which a worker had an item, from when it took it until its row was written, by as "
    "many as shared its machine. Listing the inputs, starting, and opening the engine are not among them."
)
STYLE = """:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;
padding:0 1rem}table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .8rem;text-align:left;
border-bottom:1px solid #8884}td.n{text-align:right;font-variant-numeric:tabular-nums}h2{font-size:1.1rem}"""


def summary_of(joined: Joined) -> dict[str, Any]:
    """The figures of a run; seconds are of machines: a worker's time, by how many shared its machine."""
    rows = joined.rows
    film = [row for row in rows if row.is_video]
    video_h = sum(row.video_s for row in film) / SECONDS_AN_HOUR
    return {
        "items": len(rows) + len(joined.open),
        "done": len(rows) - len(joined.failed),
        "failed": len(joined.failed),
        "open": len(joined.open),
        "frames": sum(row.frames for row in rows),
        "damaged_frames": sum(row.damaged for row in rows),
        "machine_seconds": round(machine_seconds(rows), 3),
        "video_hours": round(video_h, 6),
        "machine_seconds_per_video_hour": round(machine_seconds(film) / video_h, 1) if video_h else None,
        "workers": _by(rows, lambda row: row.worker.partition(":")[0]),
        "engines": _by(rows, lambda row: f"{row.engine} on {row.device}" if row.engine else ""),
        "shares": _shares(rows),
    }


def machine_seconds(rows: Iterable[Row]) -> float:
    """How long machines were busy with these items, a time in which a worker did several of them counted once."""
    spans: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        spans[row.worker, row.workers].append((row.started, row.started + row.seconds))
    total = 0.0
    for (_, workers), several in spans.items():
        until = 0.0
        for begin, end in sorted(several):
            total += max(0.0, end - max(begin, until)) / workers
            until = max(until, end)
    return total


def write_summary(store: Store, joined: Joined) -> dict[str, Any]:
    """Write `PAGE` and `DOCUMENT`.

    Returns:
        The figures.

    Raises:
        OutputError: they cannot be written.
    """
    told = summary_of(joined)
    store.write(DOCUMENT, f"{json.dumps(told, indent=1)}\n".encode())
    store.write(PAGE, page(told, joined.failed).encode())
    return told


def page(told: dict[str, Any], failed: Iterable[Row]) -> str:
    """The summary as HTML, with nothing to load."""
    hour = told["machine_seconds_per_video_hour"]
    figures = [
        ("items", f"{told['items']}"), ("done", f"{told['done']}"), ("with an error", f"{told['failed']}"),
        ("still open", f"{told['open']}"), ("frames", f"{told['frames']}"),
        ("frames left out as damaged", f"{told['damaged_frames']}"),
        ("machine seconds", f"{told['machine_seconds']:.1f}"), ("hours of video", f"{told['video_hours']:.3f}"),
        ("machine seconds an hour of video", "" if hour is None else f"{hour:.1f}"),
    ]  # fmt: skip
    shares = sorted(told["shares"].items(), key=lambda each: -each[1])
    errors = [(row.input, row.error) for row in failed]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Masks of a fleet</title>", f"<style>{STYLE}</style>",
        "<h1>Masks of a fleet</h1>", _table(("", ""), figures), f"<p>{COUNTED}</p>",
        "<h2>Machines</h2>", _table(("machine", "items", "frames", "seconds"), _numbers(told["workers"])),
        "<h2>Engines</h2>", _table(("engine", "items", "frames", "seconds"), _numbers(told["engines"])),
        "<h2>Classes</h2>", _table(("class", "share"), [(name, f"{share:.2%}") for name, share in shares]),
        "<h2>Errors</h2>" if errors else "", _table(("input", "error"), errors[:MOST_ERRORS]) if errors else "",
    ]  # fmt: skip
    return "\n".join(filter(None, parts)) + "\n"


def _by(rows: Iterable[Row], name_of: Any) -> dict[str, dict[str, float]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if name := name_of(row):
            found[name].append(row)
    return {
        name: {
            "items": len(of), "frames": sum(row.frames for row in of), "seconds": round(machine_seconds(of), 3),
        }
        for name, of in sorted(found.items())
    }  # fmt: skip


def _shares(rows: Iterable[Row]) -> dict[str, float]:
    pixels: Counter[str] = Counter()
    for row in rows:
        weight = row.frames * row.height * row.width
        pixels.update({name: share * weight for name, share in row.shares.items()})
    whole = sum(pixels.values())
    return {name: of / whole for name, of in pixels.items()} if whole else {}


def _numbers(told: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    return [(name, f"{of['items']:.0f}", f"{of['frames']:.0f}", f"{of['seconds']:.1f}") for name, of in told.items()]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"] if any(head) else []
    for first, *rest in rows:
        cells = "".join(f"<td{'' if len(rest[0]) > 20 else ' class=n'}>{escape(cell)}</td>" for cell in rest)
        lines.append(f"<tr><td>{escape(first)}</td>{cells}</tr>")
    return "<table>" + "\n".join(lines) + "</table>"
