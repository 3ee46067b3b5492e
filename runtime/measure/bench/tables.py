"""What `runtime.bench` found, as text and as tables: made of its JSON documents alone.

`python -m runtime.bench_report FILE... --readme README.md --page docs/benchmarks.md` writes the best row of each
network and precision into the one and every row into the other, each between its two marks; `make figures`.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.cli import DONE, show
from runtime.errors import PipelineError
from runtime.measure.clocks import as_line
from runtime.measure.documents import Bench, read
from runtime.measure.rivals import RIVALS
from runtime.measure.worker import ENGINE
from runtime.texts import markdown

VERSION = 2  # of the JSON document
BEGIN, END = "<!-- figures: made by `make figures` -->", "<!-- end of figures -->"
LINE = 120  # characters, of README
PERCENTILES = ("p50", "p90", "p99", "max")


def as_text(document: dict[str, Any]) -> str:
    """Latency by path, then the engine's stages, throughput, memory and size."""
    engine = document["paths"][ENGINE]
    found = document["fingerprint"]
    throughput = engine["throughput"]
    lines = [
        f"{title(found)}, frame {_size(found['frame_size'])} in memory to mask in memory",
        f"latency of single frames, ms; {document['rounds']} interleaved rounds after {document['warmup']} of warm-up",
        f"  {'':<42}" + "".join(f"{name:>9}" for name in PERCENTILES),
    ]
    for name, path in document["paths"].items():
        lines.append(f"  {_name(name):<42}" + _row(path["percentiles_ms"]))
        stages = path["stages_ms"] if name == ENGINE else {}
        lines += [f"    {stage:<40}" + _row(values) for stage, values in stages.items()]
    lines += [_compared(name, path) for name, path in document["paths"].items() if name != ENGINE]
    lines += [
        f"throughput: {throughput['frames_per_s']:.1f} frames a second with {throughput['in_flight']} in flight "
        f"({throughput['frames']} frames)",
        f"engine {found['engine']['engine_mib']:.1f} MiB, peak memory of its process {engine['peak_mib']:.0f} MiB",
    ]
    clocks = as_line(document.get("clocks"))
    return "\n".join([*lines, *([clocks] if clocks else [])])


def title(found: dict[str, Any]) -> str:
    """The engine in words, from a fingerprint."""
    engine = found["engine"]
    executed = ", ".join(engine["executed"])
    return f"{engine['model']} {engine['precision']} on {engine['backend']} (executed in {executed})"


def table(documents: Sequence[dict[str, Any]]) -> str:
    """Every row: one a path, networks one below the other, and under what it was measured."""
    lines = ["| network | path | p50 ms | p90 | p99 | max | times slower | same mask | peak MiB |", "|---" * 9 + "|"]
    for document in documents:
        for name, path in document["paths"].items():
            times = " | ".join(_ms(path["percentiles_ms"][key]) for key in PERCENTILES)
            what = f"**{markdown(_executed(document))}**" if name == ENGINE else RIVALS[name]
            slower = "1" if name == ENGINE else f"{path['times_slower']:.2f}"
            lines.append(
                f"| {markdown(document['fingerprint']['engine']['model'])} | {what} | {times} | {slower} "
                f"| {path['mask_agreement']:.2%} | {path['peak_mib']:.0f} |"
            )
    return "\n".join([*lines, "", *(markdown(conditions(document).rstrip()) + "\n" for document in documents)])


def summary(documents: Sequence[dict[str, Any]]) -> str:
    """README's table: of each network and precision the quickest engine, beside the best rival in the same run."""
    best = quickest(documents)
    lines = [
        "| network | precision | this project, ms | p99, ms | best rival | rival, ms | times slower | same mask |",
        "|---" * 8 + "|",
    ]
    for document in best:
        engine, rival = document["paths"][ENGINE], best_rival(document)
        what = document["fingerprint"]["engine"]
        times = f"**{_ms(_p50(engine))}** | {_ms(engine['percentiles_ms']['p99'])}"
        beside = "none | | |"
        if rival:
            path = document["paths"][rival]
            slower, same = f"{path['times_slower']:.1f}", f"{path['mask_agreement']:.1%}".replace("%", " %")
            # What follows the comma is how it is run, for the page that has every row.
            name = RIVALS[rival].partition(",")[0] + ", the only one" * (len(document["paths"]) == 2)
            beside = f"{name} | {_ms(_p50(path))} | {slower} | {same}"
        lines.append(f"| {markdown(what['model'])} | {markdown(what['precision'])} | {times} | {beside} |")
    return "\n".join([*lines, "", "\n\n".join(_machines(best))])


def quickest(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each network and precision the document whose engine has the lowest median, in their order."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for document in sorted(documents, key=lambda document: _p50(document["paths"][ENGINE])):
        engine = document["fingerprint"]["engine"]
        found.setdefault((engine["model"], engine["precision"]), document)
    return [found[key] for key in sorted(found)]


def best_rival(document: dict[str, Any]) -> str | None:
    """The quickest path of a document that is not the engine's; None if there is none."""
    rivals = [name for name in document["paths"] if name != ENGINE]
    return min(rivals, key=lambda name: _p50(document["paths"][name]), default=None)


def between_marks(text: str, begin: str, body: str) -> str:
    """A page with what stands between the mark `begin` and the next `END` replaced.

    Raises:
        PipelineError: the marks are not there, the first one once, or another comment stands between them.
    """
    before, found, rest = text.partition(begin)
    old, end, after = rest.partition(END)
    if not (found and end) or begin in rest or "<!--" in old:
        raise PipelineError(f"the page wants one {begin!r} and then one {END!r}; put them where the table belongs")
    return f"{before}{begin}\n\n{body.strip()}\n\n{END}{after}"


def rewrite(page: Path, begin: str, body: str) -> None:
    """Put `body` between the marks of a page on disk; see `between_marks`.

    Raises:
        PipelineError: there is no such page, or it has no place for the table.
    """
    try:
        text = page.read_text()
    except FileNotFoundError:
        raise PipelineError(f"{page}: there is no such page to write a table into") from None
    try:
        write_atomically(page, between_marks(text, begin, body).encode())
    except PipelineError as error:
        raise PipelineError(f"{page}: {error}") from None


def read_document(path: Path) -> dict[str, Any]:
    """A document that `runtime.bench --json` wrote; see `runtime.measure.documents.read`."""
    return read(path, Bench, "runtime.bench", VERSION)


def _executed(document: dict[str, Any]) -> str:
    engine = document["fingerprint"]["engine"]
    return f"this project: {engine['precision']} on {engine['backend']}, executed in {', '.join(engine['executed'])}"


def conditions(document: dict[str, Any]) -> str:
    """On what a document was measured, and what beside latency: a line."""
    found, engine = document["fingerprint"], document["paths"][ENGINE]
    machine, software = found["machine"], found["software"]
    gpu = machine.get("gpu")
    device = f"{gpu['name']}, driver {gpu['driver_version']}; " if gpu else ""
    shown = ("tensorrt", "tensorrt-rtx-cu13") * bool(gpu) + ("openvino", "onnxruntime", "torch")
    stages = ", ".join(f"{name} {values['p50']:.1f}" for name, values in engine["stages_ms"].items())
    throughput = engine["throughput"]
    libraries = ", ".join(f"{name} {software[name]}" for name in shown if name in software)
    return (
        f"{found['engine']['model']}: {document['rounds']} rounds at {_size(found['frame_size'])}; {stages} ms; "
        f"{throughput['frames_per_s']:.1f} frames a second with {throughput['in_flight']} in flight; engine "
        f"{found['engine']['engine_mib']:.1f} MiB; {machine['cpu']}, {machine['threads']} threads, "
        f"{' '.join(machine['features'])}; {device}{libraries}{_busy(document)}{_clocks(document)}.\n"
    )


def _machines(documents: Sequence[dict[str, Any]]) -> list[str]:
    # A line a machine, and which rows are of it where there are several.
    rows: dict[str, list[str]] = {}
    for document in documents:
        found = document["fingerprint"]
        machine, engine = found["machine"], found["engine"]
        device = f"{machine['gpu']['name']}; " if machine.get("gpu") else ""
        library = f"{engine['backend']} {found['software'].get(engine['backend'], '')}".strip()
        line = (
            f"{device}{machine['cpu']}, {machine['threads']} threads, {' '.join(machine['features'])}; {library}; "
            f"frames of {_size(found['frame_size'])}; medians of {document['rounds']} rounds in turns"
        )
        rows.setdefault(line, []).append(f"{engine['model']} {engine['precision']}")
    told = (f"{line}." if len(rows) == 1 else f"{', '.join(of)}: {line}." for line, of in rows.items())
    return [textwrap.fill(markdown(line), LINE, replace_whitespace=False) for line in told]


def _p50(path: dict[str, Any]) -> float:
    return float(path["percentiles_ms"]["p50"])


def _ms(value: float) -> str:
    # Of a GPU's frames a millisecond is much.
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _busy(document: dict[str, Any]) -> str:
    # What else ran: times of a busy machine are not those of a quiet one, and the reader must know.
    running = document["load"]["before"]["running_processes"]
    return "" if running is None or running < 1 else f"; {running:.1f} processes ran on the machine before"


def _clocks(document: dict[str, Any]) -> str:
    line = as_line(document.get("clocks"))
    return f"; {line}" if line else ""


def _compared(name: str, path: dict[str, Any]) -> str:
    return (
        f"  {_name(name)}: {path['times_slower']:.2f}x slower (median of the rounds' ratios), "
        f"same mask on {path['mask_agreement']:.3%}, peak memory {path['peak_mib']:.0f} MiB"
    )


def _name(path: str) -> str:
    return "this engine" if path == ENGINE else path


def _row(values: dict[str, float]) -> str:
    return "".join(f"{values[name]:>9.1f}" for name in PERCENTILES)


def _size(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def main(argv: Sequence[str]) -> int:
    """Write the tables into README and a page, or print every row.

    Raises:
        PipelineError: a file is no document of `runtime.bench`, or a page has no place for its table.
    """
    parser = Parser(prog="python -m runtime.bench_report", description=__doc__)
    parser.add_argument("documents", type=Path, nargs="+", help="what runtime.bench --json wrote")
    parser.add_argument("--readme", type=Path, help="the file to write the best rows into")
    parser.add_argument("--page", type=Path, help="the file to write every row into (with neither they are printed)")
    options = parser.parse_args(argv)
    documents = [read_document(path) for path in options.documents]
    if options.readme:
        rewrite(options.readme, BEGIN, summary(documents))
    if options.page:
        rewrite(options.page, BEGIN, table(documents))
    if not (options.readme or options.page):
        show(table(documents))
    return DONE
