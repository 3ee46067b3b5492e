"""What `runtime.regress` found, for people, for a pull request and for CI: made of its JSON document alone."""

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from runtime.measure.clocks import as_line
from runtime.texts import markdown, xml

BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 48  # of a plot
TITLES = {
    "pass": "not slower",
    "slower": "slower",
    "ambiguous": "ambiguous: too noisy to tell",
    "no baseline": "no baseline",
    "recorded": "recorded",
}


def as_text(document: dict[str, Any]) -> str:
    """The outcome and its reasons, as lines."""
    return "\n".join(
        [
            _headline(document),
            *(f"  {line}" for line in _reasons(document) + _change_lines(document) + _clocks(document)),
        ]
    )


def as_markdown(document: dict[str, Any]) -> str:
    """A summary with a plot of the times, as GitHub renders it."""
    lines = [f"### Latency: {_headline(document)}", ""]
    lines += [f"- {markdown(line)}" for line in _reasons(document) + _clocks(document)]
    if _timed(document):
        lines += ["", *_table(document), "", "```", *_plot(document), "```"]
    changes = _change_lines(document)
    if changes:
        lines += ["", "What is done for a frame:", "", *(f"- {markdown(line)}" for line in changes)]
    found = document["candidate"]["fingerprint"]
    machine, engine = found["machine"], found["engine"]
    on = (
        f"{engine['model']} {engine['precision']} on {engine['backend']}, "
        f"{'x'.join(map(str, engine['network_size']))}; {machine['cpu']}, {machine['threads']} threads, "
        f"GPU {machine['gpu']['name'] if machine['gpu'] else 'none'}"
    )
    lines += ["", f"<sub>{markdown(on)}; <code>{markdown(found['command'])}</code></sub>"]
    return "\n".join(lines) + "\n"


def as_junit(document: dict[str, Any]) -> str:
    """JUnit XML with a test case a check: the comparison, and the budget where there is one."""
    reasons = "; ".join(_reasons(document))
    checks = {"not slower than the base": (document.get("compared", document["outcome"]), reasons)}
    budget = document.get("budget")
    if budget:
        checks["p99 within the budget"] = ("pass" if budget["kept"] else "slower", _budget_line(budget))
    suite = ET.Element("testsuite", name="latency", tests=str(len(checks)))
    if document.get("masks"):
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", name="masks_changed", value=str(document["masks"]["changed"]))
    for name, (outcome, message) in checks.items():
        case = ET.SubElement(suite, "testcase", classname="runtime.regress", name=name)
        kind = {"slower": "failure", "ambiguous": "error", "no baseline": "skipped", "recorded": "skipped"}.get(outcome)
        if kind:
            ET.SubElement(case, kind, message=xml(message))
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    ET.SubElement(suite, "system-out").text = xml(as_text(document))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _clocks(document: dict[str, Any]) -> list[str]:
    line = as_line(document.get("clocks"))
    return [line] if line and _timed(document) else []


def _headline(document: dict[str, Any]) -> str:
    budget, verdict = document.get("budget"), document.get("verdict")
    title = "over the budget" if budget and not budget["kept"] else TITLES[document["outcome"]]
    return f"{title} ({verdict['slowdown']:+.1%})" if verdict else title


def _reasons(document: dict[str, Any]) -> list[str]:
    if document["outcome"] == "no baseline":
        return [str(reason) for reason in document["reasons"]]
    verdict, budget, stopped = document["verdict"], document["budget"], document["stopped"]
    lines = [_verdict_line(verdict, document["rule"], paired=document["paired"])] if verdict else []
    lines += [stopped] if stopped else []
    lines += [_budget_line(budget)] if budget else []
    if not lines:
        lines = ["one engine, held to nothing" if _timed(document) else "nothing was timed"]
    return [*lines, *_mask_lines(document), *(f"compared although {line}" for line in document["across"])]


def _mask_lines(document: dict[str, Any]) -> list[str]:
    masks = document["masks"]
    if masks is None:
        return ["masks are not compared: the baseline holds none"] * bool(_timed(document) and document["base"])
    if not masks["changed_px"]:
        return [f"the same mask in both: {masks['pixels']} pixels"]
    return [f"the mask differs on {masks['changed']:.4%} of pixels: {masks['changed_px']} of {masks['pixels']}"]


def _verdict_line(verdict: dict[str, Any], rule: dict[str, Any], *, paired: bool) -> str:
    how = "in turns, signed-rank test" if paired else "of two runs at two times, Mann-Whitney test"
    most, frames = verdict["slowdown_most"], verdict["frames"]
    bound = "not bounded" if most is None else f"less than {most:+.2%} but for a chance of {verdict['alpha']:.2g}"
    return (
        f"median slowdown {verdict['slowdown']:+.2%}, {bound}; p = {verdict['p']:.2g} over {verdict['rounds']} rounds "
        f"of {frames} frame{'s' * (frames > 1)} {how}; fails above {rule['margin']:.0%} with p < "
        f"{verdict['alpha']:.2g}, this look's share of {rule['alpha']:g}"
    )


def _budget_line(budget: dict[str, Any]) -> str:
    return f"p99 {budget['p99_ms']:.1f} ms, budget {budget['limit_ms']:.1f} ms"


def _change_lines(document: dict[str, Any]) -> list[str]:
    if document.get("base") is None:
        return []
    known = ", ".join(name for name in document["candidate"]["counts"] if name in document["base"]["counts"])
    return [change["in_words"] for change in document["changes"]] or [f"the same in both: {known}"]


def _timed(document: dict[str, Any]) -> bool:
    return "samples_ms" in document["candidate"]


def _sides(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: document[name] for name in ("base", "candidate") if document.get(name)}


def _table(document: dict[str, Any]) -> list[str]:
    rows = ["| ms | p50 | p90 | p99 | max | frames | peak MiB | engine MiB |", "|---|---|---|---|---|---|---|---|"]
    for name, side in _sides(document).items():
        times = " | ".join(f"{side['percentiles_ms'][key]:.1f}" for key in ("p50", "p90", "p99", "max"))
        nbytes = side["counts"].get("engine_bytes")
        size = "" if nbytes is None else f"{nbytes / 2**20:.1f}"
        rows.append(f"| {name} | {times} | {side['frames']} | {side['peak_mib']:.0f} | {size} |")
    return rows


def _plot(document: dict[str, Any]) -> list[str]:
    # The frames of both sides on one axis, to the 99th percentile so that one outlier does not squeeze the rest.
    samples = {name: np.ravel(side["samples_ms"]) for name, side in _sides(document).items()}
    together = np.concatenate(list(samples.values()))
    low, high = float(together.min()), float(np.percentile(together, 99))
    edges = np.linspace(low, max(high, low * 1.01), COLUMNS + 1)
    rows = [f"{name:>9} {_bars(np.histogram(values, edges)[0])}" for name, values in samples.items()]
    return [*rows, f"{'':>9} {f'{low:.1f} ms':<{COLUMNS // 2}}{f'{edges[-1]:.1f} ms':>{COLUMNS // 2}}"]


def _bars(counts: np.ndarray) -> str:
    heights = np.ceil(counts / max(counts.max(), 1) * (len(BARS) - 1)).astype(int)
    return "".join(BARS[height] for height in heights)
