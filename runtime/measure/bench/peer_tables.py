"""What `runtime.bench_rivals` found, as Markdown: made of its JSON documents alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.measure.documents import read
from runtime.measure.peer_documents import Peers
from runtime.measure.peers import PEERS
from runtime.measure.roof import floor_ms
from runtime.measure.worker import ENGINE
from runtime.texts import markdown

VERSION = 1  # of the JSON document
BEGIN = "<!-- rivals: made by `make figures` -->"
COLUMNS = (
    "path",
    "computed in",
    "p50 ms",
    "p90",
    "times slower",
    "times its floor",
    "mIoU",
    "same as FP32",
    "peak MiB",
)


def read_document(path: Path) -> dict[str, Any]:
    """A document that `--json` wrote; see `runtime.measure.documents.read`."""
    return read(path, Peers, "runtime.bench_rivals", VERSION)


def table(document: Mapping[str, Any]) -> str:
    """A row a path, the quickest first, then those that are not there; and under what they were measured."""
    engine = document["fingerprint"]["engine"]
    title = f"{engine['model']} {engine['precision']}, {_size(engine['network_size'])}"
    lines = [f"**{markdown(title)}**", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    paths = sorted(document["paths"].items(), key=lambda item: item[1]["percentiles_ms"]["p50"])
    lines += [_row(name, path) for name, path in paths]
    lines += [
        f"| {PEERS.get(name, name)} | not measured: {markdown(why)} {'| ' * (len(COLUMNS) - 2)}|"
        for name, why in document["failed"].items()
    ]
    return "\n".join([*lines, "", markdown(conditions(document))])


def conditions(document: Mapping[str, Any]) -> str:
    """The floors, on what it was measured, and by which command: a line."""
    found, accuracy = document["fingerprint"], document["accuracy"]
    machine, size = found["machine"], _size(found["frame_size"])
    floors = ", ".join(
        f"{per_s:.0f} in {kind.upper()} ({floor_ms(document['gmac'], per_s):.0f} ms)"
        for kind, per_s in document["reached"].items()
    )
    held = (
        f"mIoU on {accuracy['frames']} of {accuracy['frames_in_split']} frames of {accuracy['dataset']} "
        f"{accuracy['split']}; " if accuracy else ""
    )  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in document["libraries"].items())
    date = f"; {found['measured']}" if found.get("measured") else ""
    return (
        f"Floor: {document['gmac']:.1f} GMAC, of which this CPU's convolutions reach a second {floors}. "
        f"{document['rounds']} rounds in turns, frame of {size} in memory to mask in memory; {held}{machine['cpu']}, "
        f"{machine['threads']} threads, {' '.join(machine['features'])}; {versions}{date}."
    )


def _row(name: str, path: Mapping[str, Any]) -> str:
    times = path["percentiles_ms"]
    what = "**this project**" if name == ENGINE else PEERS[name]
    cells = [
        what, path["precision"].upper(), f"{times['p50']:.1f}", f"{times['p90']:.1f}", f"{path['times_slower']:.2f}",
        _or_none(path["times_floor"], "{:.2f}"), _or_none(path["miou"] and 100 * path["miou"], "{:.2f}"),
        _or_none(path["same_as_fp32"], "{:.2%}"), f"{path['peak_mib']:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _or_none(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _size(size: Any) -> str:
    return "x".join(map(str, size))
