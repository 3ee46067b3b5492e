"""Charts as SVG text: no library, no script, nothing from the network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, LABELS, ROW = 860, 270, 26  # px; of a chart, of the column of names, and from one row to the next
OURS, OTHERS = "#1f6feb", "#8c959f"
STAGES = {"preprocess": "#e3b341", "network": "#1f6feb", "postprocess": "#2da44e"}
TICKS = 5


class Point(NamedTuple):
    """One engine between speed and accuracy; `miou` is a share 0..1."""

    name: str
    ms: float
    miou: float


def distributions(samples_ms: Mapping[str, Sequence[float]], ours: str) -> str:
    """A row a path: every sample a dot on one logarithmic axis, the median a bar, p99 a tick.

    Args:
        samples_ms: by name of the path.
        ours: the path that is drawn in colour.
    """
    logs = {name: np.log10(np.asarray(values)) for name, values in samples_ms.items()}
    together = np.concatenate(list(logs.values()))
    scale = _Scale(float(together.min()) - 0.03, float(together.max()) + 0.03)
    marks = _log_ticks(scale, len(samples_ms))
    for row, (name, values) in enumerate(logs.items()):
        y, color = row * ROW + 18, OURS if name == ours else OTHERS
        marks.append(_label(name, y))
        marks += [f'<circle cx="{scale.x(v):.1f}" cy="{y}" r="4" fill="{color}" fill-opacity="0.35"/>' for v in values]
        median, p99 = scale.x(float(np.median(values))), scale.x(float(np.percentile(values, 99)))
        marks.append(f'<rect x="{median - 1.5:.1f}" y="{y - 10}" width="3" height="20" fill="{color}"/>')
        marks.append(f'<rect x="{p99 - 0.5:.1f}" y="{y - 7}" width="1" height="14" fill="{color}"/>')
        marks.append(_text(median, y - 11, f"{10 ** float(np.median(values)):.1f}", "small middle"))
    return _svg(marks, len(samples_ms) * ROW + 40, "Latency of single frames by path", top=12)


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
        marks.append(_text(scale.x(start) + 5, y + 4, f"{start:.1f}", "small"))
    legend = "".join(
        f'<span class="key"><i style="background:{color}"></i>{escape(stage)}</span>' for stage, color in STAGES.items()
    )
    return f'<p class="legend">{legend}</p>' + _svg(marks, len(stages_ms) * ROW + 40, "Median of each stage by path")


def speed_against_accuracy(points: Sequence[Point]) -> str:
    """A dot an engine: milliseconds to the right, mIoU upwards; best is the upper left."""
    height, top, bottom = 300, 20, 250
    milliseconds = _Scale(0, max(point.ms for point in points) * 1.25)
    best, worst = max(point.miou for point in points), min(point.miou for point in points)
    room = max((best - worst) * 0.4, 0.005)
    low, high = worst - room, best + room
    marks = _ticks(milliseconds, 0, bottom=bottom)
    for i in range(TICKS):
        share = low + (high - low) * i / (TICKS - 1)
        y = bottom - (bottom - top) * i / (TICKS - 1)
        marks.append(f'<line x1="{LABELS}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        marks.append(_text(LABELS - 8, y + 4, f"{share:.1%}", "small end"))
    for point in points:
        x, y = milliseconds.x(point.ms), bottom - (bottom - top) * (point.miou - low) / (high - low)
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{OURS}"/>')
        side = ("small end", -10) if x > (LABELS + WIDTH) / 2 else ("small", 10)
        marks.append(_text(x + side[1], y + 4, f"{point.name}: {point.ms:.1f} ms, {point.miou:.2%}", side[0]))
    marks.append(_text(LABELS - 60, (top + bottom) / 2, "mIoU", "end"))
    return _svg(marks, height, "Milliseconds a frame against mIoU")


class _Scale(NamedTuple):
    low: float
    high: float

    def x(self, value: float) -> float:
        return LABELS + (WIDTH - LABELS - 50) * (value - self.low) / (self.high - self.low)


def _ticks(scale: _Scale, rows: int, bottom: int | None = None) -> list[str]:
    values = [scale.low + (scale.high - scale.low) * i / TICKS for i in range(TICKS + 1)]
    return _axis([(scale.x(value), f"{value:.0f}") for value in values], bottom or rows * ROW + 8)


def _log_ticks(scale: _Scale, rows: int) -> list[str]:
    steps = [m * 10.0**e for e in range(-2, 6) for m in (1, 2, 5)]
    shown = [ms for ms in steps if scale.low <= np.log10(ms) <= scale.high]
    return _axis([(scale.x(float(np.log10(ms))), f"{ms:g}") for ms in shown], rows * ROW + 8)


def _axis(ticks: Sequence[tuple[float, str]], bottom: float) -> list[str]:
    lines = [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}" class="grid"/>' for x, _ in ticks]
    texts = [_text(x, bottom + 16, text, "small middle") for x, text in ticks]
    return [*lines, *texts, _text(WIDTH - 4, bottom + 16, "ms", "small end")]


def _label(name: str, y: float) -> str:
    return _text(LABELS - 10, y + 4, name, "end")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _svg(marks: Sequence[str], height: int, title: str, *, top: int = 0) -> str:
    # `top`: room above the first row.
    box, name = f"0 {-top} {WIDTH} {height + top}", escape(title)
    return f'<svg viewBox="{box}" role="img" aria-label="{name}"><title>{name}</title>{"".join(marks)}</svg>'
