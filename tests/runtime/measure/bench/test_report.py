"""The report: one file, nothing to load, every part drawn; where a browser is, it is opened in one."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.errors import EngineError, PipelineError
from runtime.measure.bench import charts, latency, scaling
from runtime.measure.bench.charts import Point
from runtime.measure.bench.report import main, measured_at
from runtime.measure.fingerprint import today
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_spec

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LOADS = re.compile(r'(?:src|href)="(?!data:)|url\(|@import|<script|<link')


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on tiny engines with every section."""
    folder = tmp_path_factory.mktemp("report")
    engines = [built_engine(folder, precision=precision) for precision in ("fp32", "fp16")]
    figures, accuracy = folder / "bench.json", folder / "accuracy.json"
    plain = built_engine(folder, backend="onnxruntime")
    options = ["--against", "onnxruntime", "--rounds", "3", "--warmup", "1", "--frame-size", "64x128"]
    assert (
        latency.main(["--engine", str(engines[0]), "--plain", str(plain), *options, "--json", str(figures)]) == cli.DONE
    )
    found = [{"engine": engine.stem, "frames": 101, "miou": 0.6 + i / 100} for i, engine in enumerate(engines)]
    accuracy.write_text(json.dumps({"dataset": "camvid", "split": "val", "engines": found}))
    output = folder / "report.html"
    scaled = ["--threads", "1", "2", "--rounds", "2", "--json", str(folder / "scaling.json")]
    assert scaling.main(["--engine", str(engines[0]), *scaled]) == cli.DONE
    inputs = ["--bench", figures, "--evaluate", accuracy, "--scaling", folder / "scaling.json", "--engines", *engines]
    inputs += ["-o", output]
    assert main(list(map(str, inputs))) == cli.DONE
    return output


def test_the_report_loads_nothing_and_has_every_part(report):
    html = report.read_text()
    assert not LOADS.search(html)
    assert "Larger than two cores" in html and "times faster than with 1" in html
    assert html.count("<svg") == 4 and html.count("<figure>") == 4
    for part in ("Latency of single frames", "Where the time goes", "Speed against accuracy", "every precision"):
        assert part in html
    assert "mIoU on 101 frames of camvid val" in html
    assert "60.00%" in html and "61.00%" in html


def test_what_would_be_loaded_is_recognised():
    for text in ('<img src="a.png">', "<script>", '<link href="x.css">', "background:url(a)"):
        assert LOADS.search(text)


def test_pictures_are_in_the_file_and_can_be_decoded(report):
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", report.read_text())
    assert len(pictures) == 4
    for text in pictures:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[1] == 640


def test_charts_are_well_formed_whatever_the_names():
    names = {"a & b <c>": [1.0, 2.0, 3.0], "x": [100.0]}
    stages = {name: {"network": 1.0, "unknown": 2.0} for name in names}
    for svg in (
        charts.distributions(names, "x"),
        charts.stage_bars(stages).partition("</p>")[2],
        charts.speed_against_accuracy([Point("a & b", 3.0, 0.5)]),
    ):
        ET.fromstring(svg)


def test_slower_is_further_right_and_more_accurate_further_up():
    svg = ET.fromstring(charts.speed_against_accuracy([Point("slow", 40.0, 0.7), Point("fast", 10.0, 0.6)]))
    slow, fast = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in svg.iter("circle")]
    assert slow[0] > fast[0] and slow[1] < fast[1]


def test_stages_add_up_to_the_length_of_their_bar():
    svg = ET.fromstring(charts.stage_bars({"a": {"x": 1.0, "y": 3.0}}).partition("</p>")[2])
    (x0, w0), (x1, w1) = [(float(r.get("x", 0)), float(r.get("width", 0))) for r in svg.iter("rect")]
    assert x0 + w0 == pytest.approx(x1, abs=0.2) and w1 == pytest.approx(3 * w0, abs=0.5)


def test_without_engines_or_accuracies_the_report_says_so(tmp_path):
    assert main(["-o", str(tmp_path / "report.html")]) == cli.DONE
    assert "No accuracy was given" in (tmp_path / "report.html").read_text()


def test_engines_of_two_sizes_are_not_drawn_side_by_side(tmp_path):
    engines = [built_engine(tmp_path), built_engine(tmp_path, seed=1, spec=tiny_spec(height=64, width=64))]
    with pytest.raises(EngineError, match="build them with one SIZE"):
        main(["--engines", *map(str, engines), "-o", str(tmp_path / "report.html")])


def test_what_is_no_evaluation_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(PipelineError, match="no document of"):
        main(["--evaluate", str(tmp_path / "x.json"), "-o", str(tmp_path / "report.html")])


@pytest.mark.skipif(BROWSER is None, reason="needs a headless browser: chromium or google-chrome")
def test_a_browser_shows_the_report(report, tmp_path):
    picture = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,2400"]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(
        [str(BROWSER), *flags, *offline, f"--screenshot={picture}", report.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert picture.is_file(), done.stderr
    shown = cv2.imread(str(picture))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 1000  # photographs, not an empty or an error page
    dom = subprocess.run(
        [str(BROWSER), *flags, *offline, "--dump-dom", report.as_uri()], capture_output=True, text=True, timeout=120
    ).stdout
    assert dom.count("<svg") == 4 and dom.count("<img") == 4


def test_ticks_stand_at_round_values():
    for low, high, expected in ((0, 1280, [0, 500, 1000]), (0, 257, [0, 100, 200]), (0.721, 0.734, [0.725, 0.73])):
        assert charts._round_values(low, high) == expected
    assert charts._round_values(0, 1.0) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_names_of_engines_that_lie_together_do_not_cover_each_other_and_a_dot_says_its_values():
    points = [Point(name, 205.0, 0.729) for name in ("one", "two", "three")]
    svg = ET.fromstring(charts.speed_against_accuracy(points))
    heights = [float(text.get("y", 0)) for text in svg.iter("text") if "ms, " in (text.text or "")]
    assert len(heights) == 3 and min(b - a for a, b in itertools.pairwise(heights)) >= charts.LINE
    assert next(dot.findtext("title") for dot in svg.iter("circle")) == "one: 205.0 ms, 72.90%"


def test_every_sample_says_its_frame_and_its_time():
    svg = ET.fromstring(charts.distributions({"a": [10.0, 20.0]}, "a"))
    assert [dot.findtext("title") for dot in svg.iter("circle")] == ["a, frame 1: 10.0 ms", "a, frame 2: 20.0 ms"]


def sections(html: str) -> list[str]:
    return html.split("<h2>")[1:]


def test_what_was_measured_here_is_this_engine_with_its_date_and_a_legend(report):
    first = sections(report.read_text())[0]
    assert f'"></i>this engine, measured here, {measured_at(fingerprint_of(report))}</span>' in first
    assert today() in first and charts.OURS in first and "rivals in the same run" in first
    accuracy = next(part for part in sections(report.read_text()) if part.startswith("Speed against accuracy"))
    assert today() in accuracy and "measured here in turns" in accuracy


def fingerprint_of(report: Path) -> dict:
    return json.loads((report.parent / "bench.json").read_text())["fingerprint"]


OTHERS = {
    "machine": lambda found: found["machine"].update(cpu="An abacus"),
    "engine": lambda found: found["engine"].update(engine_sha256="0" * 64),
    "gpu": lambda found: found["machine"].update(gpu={"name": "NVIDIA Abacus", "driver_version": "1"}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_another_machine_or_engine_gave_is_not_this_engine(report, tmp_path, kind):
    document = json.loads((report.parent / "bench.json").read_text())
    OTHERS[kind](document["fingerprint"])
    document["fingerprint"]["measured"] = "2026-01-02"
    (tmp_path / "other.json").write_text(json.dumps(document))
    engines = [str(path) for path in report.parent.glob("tiny-openvino-*.engine")]
    output = tmp_path / "report.html"
    assert main(["--bench", str(tmp_path / "other.json"), "--engines", *engines, "-o", str(output)]) == cli.DONE
    html = output.read_text()
    last = sections(html)[-1]
    assert "this engine" not in html and "icnet fp32 on openvino, measured elsewhere or of another engine: " in last
    assert "2026-01-02" in last and (kind != "machine" or "An abacus" in last) and charts.ELSEWHERE in last


def test_figures_without_a_date_say_so_with_their_revision():
    found = {"machine": {"cpu": "Abacus", "threads": 2, "gpu": None}, "revision": "0123456789abcdef"}
    assert measured_at(found) == "Abacus, 2 threads; date not recorded, at revision 0123456789"


@pytest.mark.parametrize("wrong", [{"engines": []}, {"dataset": 3}, {"engines": [{"engine": "a", "frames": 1}]}])
def test_an_evaluation_with_odd_fields_is_one_line(tmp_path, wrong):
    whole = {"dataset": "camvid", "split": "val", "engines": [{"engine": "a", "frames": 1, "miou": 0.5}]}
    (tmp_path / "x.json").write_text(json.dumps(whole | wrong))
    with pytest.raises(PipelineError, match=r"no document of runtime\.evaluate \("):
        main(["--evaluate", str(tmp_path / "x.json"), "-o", str(tmp_path / "report.html")])


def test_an_engine_without_an_miou_is_drawn_without_one(tmp_path):
    whole = {"dataset": "camvid", "split": "val", "engines": [{"engine": "a", "frames": 1, "miou": None}]}
    (tmp_path / "x.json").write_text(json.dumps(whole))
    assert main(["--evaluate", str(tmp_path / "x.json"), "-o", str(tmp_path / "report.html")]) == cli.DONE
