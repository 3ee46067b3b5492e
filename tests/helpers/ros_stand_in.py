"""As much of ROS 2's Python as examples/ros2 uses, of which a test sees what was made and said. Not ROS."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

MESSAGES = {
    "sensor_msgs.msg": {"Image": ("header", "height", "width", "encoding", "is_bigendian", "step", "data")},
    "vision_msgs.msg": {"LabelInfo": ("header", "class_map", "threshold"), "VisionClass": ("class_id", "class_name")},
    "diagnostic_msgs.msg": {
        "DiagnosticArray": ("header", "status"),
        "DiagnosticStatus": ("level", "name", "message", "hardware_id", "values"),
        "KeyValue": ("key", "value"),
    },
}


def header(stamp: Any = None, frame_id: str = "") -> SimpleNamespace:
    """A std_msgs/Header."""
    return SimpleNamespace(stamp=stamp, frame_id=frame_id)


def message_type(name: str, fields: tuple[str, ...]) -> type:
    """A message that refuses fields it does not have, as ROS's do."""

    def initialise(self: Any, **given: Any) -> None:
        if "header" in fields:
            self.header = header()
        for field, value in given.items():
            setattr(self, field, value)

    slots = {"__slots__": fields, "__init__": initialise}
    return type(name, (), slots | ({"OK": b"\0", "WARN": b"\1"} if name == "DiagnosticStatus" else {}))


class Node:
    """A node whose topics, timers and log are lists; `parameters` are what the command line gave."""

    parameters: dict[str, Any] = {}  # noqa: RUF012
    made: "list[Node]" = []  # noqa: RUF012

    def __init__(self, name: str) -> None:
        self.name, self.published, self.logged = name, {}, []
        self.subscriptions: dict[str, Any] = {}
        self.timers: list[Any] = []
        self.declared: dict[str, Any] = {}
        self.qos: dict[str, Any] = {}
        Node.made.append(self)

    def declare_parameter(self, name: str, default: Any) -> SimpleNamespace:
        self.declared[name] = default
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind: type, topic: str, qos: Any) -> SimpleNamespace:
        self.qos[topic], messages = qos, self.published.setdefault(topic, [])

        def publish(message: Any) -> None:
            assert type(message) is kind
            messages.append(message)

        return SimpleNamespace(publish=publish)

    def create_subscription(self, kind: type, topic: str, callback: Any, qos: Any) -> None:
        self.qos[topic], self.subscriptions[topic] = qos, callback

    def create_timer(self, period_s: float, callback: Any) -> None:
        self.timers.append(callback)

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(warning=lambda line, throttle_duration_sec: self.logged.append(line))

    def get_clock(self) -> SimpleNamespace:
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: "now"))

    def get_fully_qualified_name(self) -> str:
        return f"/{self.name}"


class Recorded:
    """Anything of `launch`: its arguments."""

    def __init__(self, *words: Any, **named: Any) -> None:
        self.words, self.named = words, named


def install(patch: pytest.MonkeyPatch, spin: Any) -> ModuleType:
    """Put the stand-ins where `import` finds them; `spin(node)` is what runs while the node does. Gives rclpy."""
    Node.parameters, Node.made = {}, []
    state = {"up": False}
    rclpy = _module(
        patch, "rclpy", spin=spin, ok=lambda: state["up"],
        init=lambda args=None: state.update(up=True), shutdown=lambda: state.update(up=False),
    )  # fmt: skip
    _module(patch, "rclpy.node", Node=Node)
    _module(patch, "rclpy.executors", ExternalShutdownException=type("ExternalShutdownException", (Exception,), {}))
    policies = {"HistoryPolicy": ("KEEP_LAST",), "ReliabilityPolicy": ("BEST_EFFORT", "RELIABLE")}
    policies |= {"DurabilityPolicy": ("VOLATILE", "TRANSIENT_LOCAL")}
    named = {name: SimpleNamespace(**{value: value for value in values}) for name, values in policies.items()}
    _module(patch, "rclpy.qos", QoSProfile=SimpleNamespace, **named)
    for name, kinds in MESSAGES.items():
        _module(patch, name.partition(".")[0])
        _module(patch, name, **{kind: message_type(kind, fields) for kind, fields in kinds.items()})
    for name in ("launch", "launch.actions", "launch.substitutions", "launch_ros", "launch_ros.actions"):
        _module(patch, name)
    _module(patch, "launch_ros.parameter_descriptions")
    return rclpy


def _module(patch: pytest.MonkeyPatch, name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    if name.startswith("launch"):
        for kind in ("LaunchDescription", "DeclareLaunchArgument", "LaunchConfiguration", "Node", "ParameterValue"):
            setattr(module, kind, type(kind, (Recorded,), {}))
    patch.setitem(sys.modules, name, module)
    return module
