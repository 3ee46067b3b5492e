"""The picture of what grows: every value where it belongs, and nothing of what was not measured."""

import re
import xml.etree.ElementTree as ET

import pytest

from runtime.measure.bench.charts import WIDTH
from runtime.measure.bench.scaling_chart import BOTTOM, Axis, memory_line, scaling


def case(threads, size, ms, mib, per_s):
    return {
        "threads": threads, "size": size, "percentiles_ms": {"p50": ms}, "peak_mib": mib, "frames_per_s": per_s,
    }  # fmt: skip


THREADS = [case(1, [1000, 2000], 160.0, 300, 6.0), case(2, [1000, 2000], 80.0, 300, 15.0)]
SIZES = [case(2, [500, 1000], 20.0, 230, 9.0), THREADS[1], case(2, [2000, 4000], 320.0, 440, 2.0)]


def dots(svg):
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)".*?<title>(.*?)</title>', svg)
    return {title: (float(x), float(y)) for x, y, title in found}


def test_every_case_is_a_dot_that_says_what_it_is():
    found = dots(scaling({"threads": THREADS, "sizes": SIZES}))
    names = {"2 threads: 80 ms, 2.00 times", "2 threads: 15.0 fps, 2.50 times", "500x1000: 20 ms", "2000x4000: 440"}
    assert names <= set(found)
    assert found["2 threads: 15.0 fps, 2.50 times"][1] < found["2 threads: 80 ms, 2.00 times"][1]
    xs = [found[f"{size}: {ms} ms"][0] for size, ms in (("500x1000", 20), ("1000x2000", 80), ("2000x4000", 320))]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)  # each four times the one before, on a logarithm


def test_it_is_whole_xml_and_inside_its_frame():
    svg = scaling({"threads": THREADS, "sizes": SIZES})
    ET.fromstring(svg)
    assert all(0 < x < WIDTH and 0 < y < BOTTOM for x, y in dots(svg).values())


def test_many_threads_are_named_at_the_ends_alone():
    threads = [case(2**i, [1000, 2000], 160.0 / 2**i, 300, 6.0 * 2**i) for i in range(7)]
    named = re.findall(r">([\d.]+) fps<", scaling({"threads": threads, "sizes": SIZES[:1]}))
    assert named == ["384.0"]


def test_memory_is_a_line_over_pixels():
    slope, start = memory_line(SIZES)
    assert slope == pytest.approx(80 / 3) and start == pytest.approx(230)
    assert f"about {start:.0f} + {slope:.0f} a megapixel" in scaling({"threads": THREADS, "sizes": SIZES})


def test_one_point_is_no_panel():
    svg = scaling({"threads": THREADS[:1], "sizes": SIZES})
    assert "times faster" not in svg and "ms a frame" in svg
    assert "ms a frame" not in scaling({"threads": THREADS, "sizes": SIZES[:1]})


def test_an_axis_goes_from_its_low_to_its_high():
    axis = Axis(1, 100, 10, 30, is_log=True)
    assert (axis.at(1), axis.at(10), axis.at(100)) == pytest.approx((10, 20, 30))
    assert Axis(0, 10, 100, 0).at(5) == 50
