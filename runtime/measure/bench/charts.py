"""Charts as SVG text: no library, no script, nothing from the network.

Plotly was held against it, with the same figures: five paths of 20 samples, their stages, three engines. Its page has
4.84 MB with the script that its package brings (1.20 MB with the basic one, which the package does not bring), this
one 14 KB, and 19 KB with a value at every dot; both load nothing. Looked at as pictures, the SVG shows more before
anybody points at it: medians, p99 and sums stand at the marks; Plotly's own layout writes `2 3 4 ... 9 1000` under the
logarithmic axis and cuts the engines' names. What Plotly does better is here too: values where the mouse is (`title`,
which screen readers read as well), round ticks, names that do not cover each other, dark mode by the page's style.
Zooming is not; nothing of so few marks needs it.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, LABELS, ROW = 860, 270, 26  # px; of a chart, of the column of names, and from one row to the next
OURS, ELSEWHERE, OTHERS = "#1f6feb", "#8250df", "#8c959f"
STAGES = {"preprocess": "#e3b341", "network": "#1f6feb", "postprocess": "#2da44e"}
TICKS = 5  # about; on round values
LINE = 14  # px that a name needs


class Point(NamedTuple):
    """One engine between speed and accuracy; `miou` is a share 0..1."""

    name: str
    ms: float
    miou: float


def distributions(samples_ms: Mapping[str, Sequence[float]], ours: str, color: str = OURS) -> str:
    """A row a path: every sample a dot on one logarithmic axis, the median a bar, p99 a tick.

    Args:
        samples_ms: by name of the path.
        ours: the path that is drawn in colour.
        color: which one.
    """
    logs = {name: np.log10(np.asarray(values)) for name, values in samples_ms.items()}
    together = np.concatenate(list(logs.values()))
    scale = _Scale(float(together.min()) - 0.03, float(together.max()) + 0.03)
    marks = _log_ticks(scale, len(samples_ms))
    for row, (name, values) in enumerate(logs.items()):
        y, shown = row * ROW + 18, color if name == ours else OTHERS
        marks.append(_label(name, y))
        marks += [
            dot(scale.x(v), y, 4, shown, f"{name}, frame {i}: {10**v:.1f} ms", 'fill-opacity="0.35"')
            for i, v in enumerate(values, 1)
        ]
        median, p99 = scale.x(float(np.median(values))), scale.x(float(np.percentile(values, 99)))
        marks.append(f'<rect x="{median - 1.5:.1f}" y="{y - 10}" width="3" height="20" fill="{shown}"/>')
        marks.append(f'<rect x="{p99 - 0.5:.1f}" y="{y - 7}" width="1" height="14" fill="{shown}"/>')
        marks.append(words(median, y - 11, f"{10 ** float(np.median(values)):.1f}", "small middle"))
    return svg(marks, len(samples_ms) * ROW + 40, "Latency of single frames by path", top=12)


def stage_bars(stages_ms: Mapping[str, Mapping[str, float]]) -> str:
    """A row a path: the medians of its stages, one behind the other.

    Args:
        stages_ms: by name of the path, then of the stage.
    """
    longest = max(sum(stages.values()) for stages in stages_ms.values())
    scale = _Scale(0, longest * 1.08)
    marks = _ticks(scale, len(stages_ms))
    for row, (name, stages) in enumerate(stages_ms.items()):
        y, start = row * ROW + 18, 0.0
        marks.append(_label(name, y))
        for stage, ms in stages.items():
            x, width = scale.x(start), scale.x(start + ms) - scale.x(start)
            color = STAGES.get(stage, OTHERS)
            marks.append(
                f'<rect x="{x:.1f}" y="{y - 8}" width="{max(width, 0.5):.1f}" height="16" fill="{color}">'
                f"<title>{escape(stage)} {ms:.1f} ms</title></rect>"
            )
            start += ms
        marks.append(words(scale.x(start) + 5, y + 4, f"{start:.1f}", "small"))
    return legend(STAGES) + svg(marks, len(stages_ms) * ROW + 40, "Median of each stage by path")


def legend(colors: Mapping[str, str]) -> str:
    """A line that says what each colour is; by name."""
    keys = (
        f'<span class="key"><i style="background:{color}"></i>{escape(name)}</span>' for name, color in colors.items()
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def speed_against_accuracy(points: Sequence[Point]) -> str:
    """A dot an engine: milliseconds to the right, mIoU upwards; best is the upper left."""
    height, top, bottom = 300, 20, 250
    milliseconds = _Scale(0, max(point.ms for point in points) * 1.25)
    best, worst = max(point.miou for point in points), min(point.miou for point in points)
    room = max((best - worst) * 0.4, 0.005)
    low, high = worst - room, best + room
    marks = _ticks(milliseconds, 0, bottom=bottom)
    for share in _round_values(low, high):
        y = bottom - (bottom - top) * (share - low) / (high - low)
        marks.append(f'<line x1="{LABELS}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        marks.append(words(LABELS - 8, y + 4, f"{share:.1%}", "small end"))
    above = {"small": -LINE, "small end": -LINE}  # where the last name of each side stands
    for point in sorted(points, key=lambda point: -point.miou):
        x, y = milliseconds.x(point.ms), bottom - (bottom - top) * (point.miou - low) / (high - low)
        text = f"{point.name}: {point.ms:.1f} ms, {point.miou:.2%}"
        marks.append(dot(x, y, 6, OURS, text))
        kind, shift = ("small end", -10) if x > (LABELS + WIDTH) / 2 else ("small", 10)
        above[kind] = max(round(y) + 4, above[kind] + LINE)
        marks.append(words(x + shift, above[kind], text, kind))
    marks.append(words(LABELS - 60, (top + bottom) / 2, "mIoU", "end"))
    return svg(marks, height, "Milliseconds a frame against mIoU")


class _Scale(NamedTuple):
    low: float
    high: float

    def x(self, value: float) -> float:
        return LABELS + (WIDTH - LABELS - 50) * (value - self.low) / (self.high - self.low)


def _ticks(scale: _Scale, rows: int, bottom: int | None = None) -> list[str]:
    ticks = [(scale.x(value), f"{value:g}") for value in _round_values(scale.low, scale.high)]
    return _axis(ticks, bottom or rows * ROW + 8)


def _round_values(low: float, high: float) -> list[float]:
    # Multiples of 1, 2 or 5 times a power of ten, about TICKS of them.
    wanted = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= wanted)
    return [round(step * i, 9) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(scale: _Scale, rows: int) -> list[str]:
    steps = [m * 10.0**e for e in range(-2, 6) for m in (1, 2, 5)]
    shown = [ms for ms in steps if scale.low <= np.log10(ms) <= scale.high]
    return _axis([(scale.x(float(np.log10(ms))), f"{ms:g}") for ms in shown], rows * ROW + 8)


def _axis(ticks: Sequence[tuple[float, str]], bottom: float) -> list[str]:
    lines = [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}" class="grid"/>' for x, _ in ticks]
    texts = [words(x, bottom + 16, text, "small middle") for x, text in ticks]
    return [*lines, *texts, words(WIDTH - 4, bottom + 16, "ms", "small end")]


def _label(name: str, y: float) -> str:
    return words(LABELS - 10, y + 4, name, "end")


def dot(x: float, y: float, radius: int, color: str, says: str, more: str = "") -> str:
    """A mark that says what it is where the mouse is."""
    title = f"<title>{escape(says)}</title>"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}" {more}>{title}</circle>'


def words(x: float, y: float, text: str, kind: str) -> str:
    """A text; `kind` is its classes of the page's style."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def svg(marks: Sequence[str], height: int, title: str, *, top: int = 0) -> str:
    """A picture of the marks, `WIDTH` px wide in its own units, with `top` of room above the first row."""
    box, name = f"0 {-top} {WIDTH} {height + top}", escape(title)
    return f'<svg viewBox="{box}" role="img" aria-label="{name}"><title>{name}</title>{"".join(marks)}</svg>'
