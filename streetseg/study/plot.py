"""The study as one picture, SVG text: published mIoU against milliseconds, here and on the paper's Titan X."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from streetseg.study.points import BRANCH, KERNELS, SCALE, STRIDE

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 96, 56  # px around the axes
COLORS = {SCALE: "#1f6feb", STRIDE: "#1a7f37", KERNELS: "#bc4c00", BRANCH: "#8250df"}
STEPS = (1, 2, 5)  # ticks, times powers of ten
LABELS = {SCALE: "scale {}", STRIDE: "stride {}", KERNELS: "{} of kernels", BRANCH: "{}"}
STYLE = """
text { font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px; fill: #263238 }
.small { font-size: 12px; fill: #546e7a }
.middle { text-anchor: middle }
.end { text-anchor: end }
.grid { stroke: #dfe5ea; stroke-width: 1 }
"""


class Dot(NamedTuple):
    """A point of the study at one place."""

    ms: float
    miou: float  # percent
    label: str


class Axes(NamedTuple):
    """From milliseconds, on a logarithm, and percent to pixels."""

    ms: tuple[float, float]
    miou: tuple[float, float]

    def x(self, ms: float) -> float:
        """Of milliseconds."""
        low, high = map(math.log10, self.ms)
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(ms) - low) / (high - low)

    def y(self, miou: float) -> float:
        """Of percent."""
        low, high = self.miou
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (miou - low) / (high - low)


def picture(points: Sequence[dict[str, Any]], machine: str) -> str:
    """The SVG.

    Args:
        points: of the study's document; those without published figures are left out.
        machine: whose milliseconds ours are.
    """
    lines = _lines(points)
    dots = [dot for here, there in lines.values() for dot in (*here, *there)]
    axes = Axes((min(dot.ms for dot in dots) / 1.3, max(dot.ms for dot in dots) * 1.5), (57, 73))
    marks = [*_grid(axes), *_legend(machine)]
    for series, (here, there) in lines.items():
        marks += _line(axes, there, COLORS[series], hollow=True)
        marks += _line(axes, here, COLORS[series], hollow=False)
    title = "Published mIoU against milliseconds a frame: PSPNet50's study and ICNet's branches"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title">\n'
        f'<title id="title">{title}</title>\n<style>{STYLE}</style>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>\n' + "\n".join(marks) + "\n</svg>\n"
    )


def _lines(points: Sequence[dict[str, Any]]) -> dict[str, tuple[list[Dot], list[Dot]]]:
    # Of each series the dots here and the paper's; PSPNet50's begin where nothing is taken from it.
    published = [point for point in points if point["published"]]
    full = published[0]
    found = {}
    for series in COLORS:
        of = [point for point in published if point["series"] == series]
        of = of if series in (SCALE, BRANCH) else [full, *of]
        names = ["" if point is full else LABELS[series].format(point["step"]) for point in of]
        pairs = list(zip(of, names, strict=True))
        here = [Dot(point["ours"]["p50_ms"], point["published"]["miou"], name) for point, name in pairs]
        there = [Dot(point["published"]["ms"], point["published"]["miou"], "") for point, _ in pairs]
        found[series] = (here, there)
    return found


def _line(axes: Axes, dots: Sequence[Dot], color: str, *, hollow: bool) -> list[str]:
    path = " ".join(f"{axes.x(dot.ms):.1f},{axes.y(dot.miou):.1f}" for dot in dots)
    dash, fill = (' stroke-dasharray="4 4"', "#ffffff") if hollow else ("", color)
    marks = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dash}/>']
    for dot in dots:
        x, y = axes.x(dot.ms), axes.y(dot.miou)
        says = escape(f"{dot.label} {dot.ms:.0f} ms, {dot.miou:.1f} % mIoU".strip())
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{color}" stroke-width="1.5">'
            f"<title>{says}</title></circle>"
        )
        if dot.label:
            # Away from the dots of the other series.
            place = f'x="{x - 9:.1f}" y="{y - 6:.1f}" class="small end"' if color == COLORS[SCALE] else (
                f'x="{x + 9:.1f}" y="{y + 16:.1f}" class="small"'
            )  # fmt: skip
            marks.append(f"<text {place}>{escape(dot.label)}</text>")
    return marks


def _grid(axes: Axes) -> list[str]:
    marks = []
    for miou in range(math.ceil(axes.miou[0] / 2) * 2, math.floor(axes.miou[1]) + 1, 2):
        y = axes.y(miou)
        marks.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        marks.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" class="small end">{miou}</text>')
    for ms in (step * 10**power for power in range(6) for step in STEPS):
        if axes.ms[0] <= ms <= axes.ms[1]:
            x = axes.x(ms)
            marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="grid"/>')
            marks.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" class="small middle">{ms}</text>')
    marks.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 14}" class="end">ms a frame, frame to mask</text>')
    marks.append(f'<text x="{LEFT - 40}" y="{TOP - 14}">mIoU, %, as published (Cityscapes val)</text>')
    return marks


def _legend(machine: str) -> list[str]:
    names = {SCALE: "PSPNet50: input scale", STRIDE: "feature stride", KERNELS: "kernels kept", BRANCH: BRANCH}
    marks, x = [], 24.0
    for series, name in names.items():
        marks.append(f'<circle cx="{x:.0f}" cy="28" r="5" fill="{COLORS[series]}"/>')
        marks.append(f'<text x="{x + 11:.0f}" y="32">{escape(name)}</text>')
        x += 44 + 7 * len(name)
    marks.append('<circle cx="24" cy="52" r="5" fill="#546e7a"/>')
    marks.append(f'<text x="35" y="56" class="small">filled: {escape(machine)}</text>')
    marks.append('<circle cx="474" cy="52" r="5" fill="#ffffff" stroke="#546e7a" stroke-width="1.5"/>')
    marks.append('<text x="485" y="56" class="small">hollow: the paper\'s Titan X, with Caffe</text>')
    return marks
