"""Three panels of one picture, as SVG text: time by threads, time by pixels, memory by pixels."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.measure.bench.charts import OTHERS, OURS, dot, svg, words

PANEL, GAP, LEFT, TOP, BOTTOM = 240, 44, 44, 44, 250  # px
THROUGHPUT = "#2da44e"
MOST_NAMED = 4  # threads; of more the values stand at the ends, and where the mouse is
STEPS = (1, 2, 5)  # ticks, times powers of ten


class Axis(NamedTuple):
    """From values to pixels, on a logarithm or not."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def megapixels(found: dict[str, Any]) -> float:
    """Of the network's input."""
    height, width = found["size"]
    return float(height * width / 1e6)


def memory_line(sizes: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """MiB a megapixel, and MiB without any: the line that is nearest to all sizes, by least squares."""
    slope, start = np.polyfit([megapixels(found) for found in sizes], [found["peak_mib"] for found in sizes], 1)
    return float(slope), float(start)


def scaling(document: dict[str, Any]) -> str:
    """The picture of a document of `runtime.bench_scaling`; a panel without two points is left out."""
    panels, marks = [], []
    if len(document["threads"]) > 1:
        panels.append(_by_threads)
    if len(document["sizes"]) > 1:
        panels += [_time_by_pixels, _memory_by_pixels]
    for i, panel in enumerate(panels):
        marks += panel(document, LEFT + i * (PANEL + GAP))
    return svg(marks, BOTTOM + 40, "Time, throughput and memory by threads and by pixels")


def _by_threads(document: dict[str, Any], left: float) -> list[str]:
    found = document["threads"]
    first, threads = found[0], [each["threads"] for each in found]
    latency = [first["percentiles_ms"]["p50"] / each["percentiles_ms"]["p50"] for each in found]
    rates = [each["frames_per_s"] / first["frames_per_s"] for each in found]
    shares = [number / threads[0] for number in threads]
    xs = Axis(1, shares[-1], left + 14, left + PANEL - 20, is_log=True)
    ys = Axis(1, max(*shares, *latency, *rates), BOTTOM - 26, TOP + 8, is_log=True)
    marks = _frame(left, f"times faster than with {threads[0]}", "threads")
    marks += _line([(xs.at(1), ys.at(1)), (xs.at(shares[-1]), ys.at(shares[-1]))], OTHERS, dashed=True)
    told = [(f"{each['percentiles_ms']['p50']:.0f} ms", f"{each['frames_per_s']:.1f} fps") for each in found]
    for kind, (color, gains, below) in enumerate(((OURS, latency, 18), (THROUGHPUT, rates, -10))):
        places = [(xs.at(x), ys.at(y)) for x, y in zip(shares, gains, strict=True)]
        marks += _line(places, color)
        for i, (x, y) in enumerate(places):
            marks.append(dot(x, y, 4, color, f"{threads[i]} threads: {told[i][kind]}, {gains[i]:.2f} times"))
            if i and (i == len(places) - 1 or len(places) <= MOST_NAMED):
                marks.append(words(x - 4, y + below, told[i][kind], "small end"))
    marks.append(words(xs.at(1), ys.at(1) + 18, ", ".join(told[0]), "small"))
    marks += _ticks_below([(xs.at(share), str(number)) for share, number in zip(shares, threads, strict=True)])
    return marks + _ticks_beside(left, [(ys.at(value), f"{value:g}x") for value in _twos(ys.high)])


def _time_by_pixels(document: dict[str, Any], left: float) -> list[str]:
    found = document["sizes"]
    pixels, times = [megapixels(each) for each in found], [each["percentiles_ms"]["p50"] for each in found]
    xs = Axis(min(pixels), max(pixels), left + 14, left + PANEL - 20, is_log=True)
    ys = Axis(min(times) / 1.2, max(times) * 1.2, BOTTOM - 8, TOP + 8, is_log=True)
    # What the middle size would grow to if each pixel cost the same.
    middle = len(found) // 2
    even = [times[middle] * each / pixels[middle] for each in pixels]
    places = [(xs.at(x), min(ys.at(y), BOTTOM)) for x, y in zip(pixels, even, strict=True)]
    marks = [*_frame(left, "ms a frame", "megapixels"), *_line(places, OTHERS, dashed=True)]
    marks += _points(
        [(xs.at(x), ys.at(y)) for x, y in zip(pixels, times, strict=True)],
        left,
        found,
        [f"{ms:.0f} ms" for ms in times],
    )
    marks += _ticks_below([(xs.at(value), f"{value:.2g}") for value in pixels])
    return marks + _ticks_beside(left, [(ys.at(value), f"{value:g}") for value in _round_logs(ys.low, ys.high)])


def _memory_by_pixels(document: dict[str, Any], left: float) -> list[str]:
    found = document["sizes"]
    pixels, memory = [megapixels(each) for each in found], [each["peak_mib"] for each in found]
    slope, start = memory_line(found)
    xs = Axis(0, max(pixels), left, left + PANEL - 20)
    ys = Axis(0, max(*memory, start + slope * max(pixels)) * 1.1, BOTTOM, TOP + 8)
    marks = _frame(left, f"peak MiB: about {start:.0f} + {slope:.0f} a megapixel", "megapixels")
    marks += _line([(xs.at(x), ys.at(start + slope * x)) for x in (0, max(pixels))], OTHERS, dashed=True)
    marks += _points(
        [(xs.at(x), ys.at(y)) for x, y in zip(pixels, memory, strict=True)],
        left,
        found,
        [f"{mib:.0f}" for mib in memory],
    )
    marks += _ticks_below([(xs.at(value), f"{value:g}") for value in range(0, math.ceil(max(pixels)), 2)])
    step = 10 ** math.floor(math.log10(ys.high / 2)) or 1
    return marks + _ticks_beside(left, [(ys.at(value), f"{value:g}") for value in np.arange(0, ys.high, step)])


def _points(
    places: Sequence[tuple[float, float]], left: float, found: Sequence[dict[str, Any]], told: Sequence[str]
) -> list[str]:
    marks = _line(places, OURS)
    for i, ((x, y), each) in enumerate(zip(places, found, strict=True)):
        size = "x".join(map(str, each["size"]))
        marks.append(dot(x, y, 4, OURS, f"{size}: {told[i]}"))
        # The first below the line and the others above it, near the axis to the right: none covers the one before.
        at, kind = ((x - 8, y - 7), "small end") if x >= left + 60 else ((x, y - 12), "small")
        at, kind = ((x + 8, y + 14), "small") if i == 0 else (at, kind)
        marks.append(words(*at, told[i], kind))
    return marks


def _frame(left: float, title: str, below: str) -> list[str]:
    return [
        words(left - 30, TOP - 22, title, "panel"),
        words(left + PANEL - 20, BOTTOM + 32, below, "small end"),
        f'<path d="M{left} {TOP}V{BOTTOM}H{left + PANEL - 20}" fill="none" class="grid"/>',
    ]


def _line(places: Sequence[tuple[float, float]], color: str, *, dashed: bool = False) -> list[str]:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return [f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"{dash}/>']


def _ticks_below(ticks: Sequence[tuple[float, str]]) -> list[str]:
    return [words(x, BOTTOM + 16, name, "small middle") for x, name in ticks]


def _ticks_beside(left: float, ticks: Sequence[tuple[float, str]]) -> list[str]:
    return [words(left - 6, y + 4, name, "small end") for y, name in ticks]


def _twos(high: float) -> list[float]:
    return [2.0**power for power in range(math.floor(math.log2(high) + 1e-9) + 1)]


def _round_logs(low: float, high: float) -> list[float]:
    return [value for power in range(-2, 6) for step in STEPS if low <= (value := step * 10.0**power) <= high]
