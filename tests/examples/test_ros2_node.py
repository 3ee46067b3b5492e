import importlib
import importlib.util
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest
import setuptools

import runtime
from tests.examples.test_ros2 import FRAME, image, until
from tests.helpers import ros_stand_in
from tests.helpers.fake_backend import SPEC, FakeBackend, expected_mask
from tests.helpers.project import ROOT, project

FOLDER = ROOT / "examples" / "ros2"
NAME = "street_segmentation_ros"


@pytest.fixture
def ros(ros_package, monkeypatch):
    """Runs the node's `main`; while it spins, `spin(node)` of the test does."""
    made = SimpleNamespace(spin=lambda node: None, backend=FakeBackend(SPEC), opened=[])
    made.rclpy = ros_stand_in.install(monkeypatch, lambda node: made.spin(node))
    monkeypatch.delitem(sys.modules, f"{NAME}.node", raising=False)
    made.node = importlib.import_module(f"{NAME}.node")

    def open_backend(path, *, threads):
        made.opened.append((path, threads))
        return made.backend

    monkeypatch.setattr(runtime, "open_backend", open_backend)
    ros_stand_in.Node.parameters = {"engine": "street.engine"}
    return made


def test_an_image_comes_out_as_its_mask_and_the_node_closes_what_it_opened(ros):
    def spin(node):
        node.subscriptions["image"](image(FRAME, "bgr8", stamp=5))
        until(lambda: node.published["mask"])

    ros.spin = spin
    assert ros.node.main([]) == 0
    (node,) = ros_stand_in.Node.made
    (mask,) = node.published["mask"]
    assert mask.data.tobytes() == expected_mask(FRAME[..., ::-1]).tobytes()
    assert (mask.header.stamp, mask.header.frame_id) == (5, "camera")
    assert ros.backend.closed and not ros.rclpy.ok() and ros.opened == [("street.engine", None)]


def test_classes_are_published_once_for_those_who_come_later(ros):
    assert ros.node.main([]) == 0
    (node,) = ros_stand_in.Node.made
    (info,) = node.published["label_info"]
    assert [(one.class_id, one.class_name) for one in info.class_map] == [
        (number, label.name) for number, label in enumerate(SPEC.classes)
    ]
    assert node.qos["label_info"].durability == "TRANSIENT_LOCAL" and node.qos["label_info"].reliability == "RELIABLE"


def test_images_are_taken_as_cameras_send_them_and_masks_reach_every_subscriber(ros):
    assert ros.node.main([]) == 0
    (node,) = ros_stand_in.Node.made
    assert (node.qos["image"].reliability, node.qos["image"].depth) == ("BEST_EFFORT", 1)
    assert (node.qos["mask"].reliability, node.qos["mask"].depth) == ("RELIABLE", 1)


def test_milliseconds_and_counts_are_told_as_diagnostics(ros):
    def spin(node):
        node.timers[0]()
        node.subscriptions["image"](image(FRAME, "rgb8"))
        until(lambda: node._stream.counts().segmented)
        node.timers[0]()
        node.subscriptions["image"](image(FRAME, "16UC3"))
        until(lambda: node._stream.counts().refused)
        node.timers[0]()

    ros.spin = spin
    assert ros.node.main([]) == 0
    (node,) = ros_stand_in.Node.made
    reports = [message.status[0] for message in node.published["/diagnostics"]]
    assert [(one.level, one.message) for one in reports] == [
        (b"\1", "no image has come"),
        (b"\0", "segmenting"),
        (b"\1", "images are refused"),
    ]
    values = {pair.key: pair.value for pair in reports[2].values}
    assert float(values["milliseconds"]) >= 0
    assert {key: values[key] for key in ("segmented", "dropped", "refused")} == {
        "segmented": "1", "dropped": "0", "refused": "1",
    }  # fmt: skip
    assert len(node.logged) == 1 and "16UC3" in node.logged[0]


@pytest.mark.parametrize(
    ("parameters", "said"), [({}, "the parameter engine is"), ({"engine": "x", "threads": -1}, "threads is a number")]
)
def test_a_parameter_that_is_missing_or_wrong_is_one_line(ros, capsys, parameters, said):
    ros_stand_in.Node.parameters = parameters
    assert ros.node.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line and not ros.rclpy.ok() and ros.opened == []


def test_an_engine_that_fails_ends_the_node_and_is_not_waited_for(ros, monkeypatch):
    def fail(frame):
        raise RuntimeError("the engine is gone")

    def spin(node):
        node.subscriptions["image"](image(FRAME, "rgb8"))
        until(lambda: node._stream.failure)
        node.timers[0]()

    ros.spin = spin
    monkeypatch.setattr(ros.backend, "segment", fail)
    with pytest.raises(RuntimeError, match="the engine is gone"):
        ros.node.main([])
    assert ros.backend.closed and not ros.rclpy.ok()


def test_being_stopped_is_no_error(ros):
    def spin(node):
        raise KeyboardInterrupt

    ros.spin = spin
    assert ros.node.main([]) == 0 and ros.backend.closed


@pytest.fixture
def described(ros):
    spec = importlib.util.spec_from_file_location("segment_launch", FOLDER / "launch" / "segment.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description().words[0]


def test_the_launch_file_starts_what_is_installed_with_the_parameters_that_the_node_has(ros, described, setup_words):
    *arguments, node = described
    asked = [argument.words[0] for argument in arguments]
    assert f"{node.named['executable']} = {NAME}.node:main" in setup_words["entry_points"]["console_scripts"]
    assert node.named["package"] == setup_words["name"] == NAME
    assert ros.node.main([]) == 0
    (parameters,) = node.named["parameters"]
    assert parameters.keys() == ros_stand_in.Node.made[0].declared.keys()
    used = [value.words[0].words[0] for value in parameters.values()]
    used += [node.named["namespace"].words[0], *(place.words[0] for _, place in node.named["remappings"])]
    assert sorted(used) == sorted(asked)
    assert {topic for topic, _ in node.named["remappings"]} <= ros_stand_in.Node.made[0].subscriptions.keys()


@pytest.fixture
def setup_words(monkeypatch):
    """What setup.py tells setuptools."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **words: given.update(words))
    runpy.run_path(str(FOLDER / "setup.py"))
    return given


def test_what_setup_installs_is_there_and_is_what_package_xml_says(setup_words):
    for _, files in setup_words["data_files"]:
        assert all((FOLDER / file).is_file() for file in files)
    root = ElementTree.parse(FOLDER / "package.xml").getroot()
    assert root.attrib["format"] == "3" and root.findtext("export/build_type") == "ament_python"
    told = {field: root.findtext(field) for field in ("name", "version", "license", "description")}
    assert told == {field: setup_words[field] for field in told}
    assert told["version"] == project()["version"] and told["license"] == project()["license"]


def test_package_xml_names_every_ros_package_that_is_imported():
    root = ElementTree.parse(FOLDER / "package.xml").getroot()
    needed = {element.text for element in root.findall("exec_depend")}
    text = "".join(path.read_text() for path in FOLDER.rglob("*.py"))
    known = {name.partition(".")[0] for name in (*ros_stand_in.MESSAGES, "rclpy", "launch", "launch_ros")}
    assert known <= needed and all(f"from {name}" in text or f"import {name}" in text for name in known)


@pytest.mark.examples
def test_package_xml_is_valid_by_the_reader_that_colcon_uses():
    from catkin_pkg.package import parse_package

    package = parse_package(str(FOLDER))
    warnings = []
    package.validate(warnings=warnings)
    assert (package.name, warnings) == (NAME, [])
