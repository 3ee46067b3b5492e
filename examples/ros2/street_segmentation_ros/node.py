"""The node `segment`: `image` in; `mask`, `label_info` and `/diagnostics` out."""

import sys
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo, VisionClass

import runtime
from runtime.errors import PipelineError
from street_segmentation_ros.images import image_from_mask
from street_segmentation_ros.newest import Counts, Stream

REPORT_S = 1.0  # between diagnostics
QUIET_S = 5.0  # between two warnings of the same kind

# As cameras send, and only the newest: a reliable subscription to a best-effort camera would get nothing.
IMAGES = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
# Reliable publishers serve both kinds of subscribers.
MASKS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
# Sent once, and kept for those who come later.
CLASSES = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
DIAGNOSTICS = QoSProfile(depth=10)


class SegmentNode(Node):
    """One engine for one camera."""

    def __init__(self) -> None:
        """Open the engine of the parameter `engine`, with `threads` of the CPU; 0: as many as it may use.

        Raises:
            PipelineError: the engine is missing, damaged, or for another machine.
        """
        super().__init__("segment")
        engine, threads = self.declare_parameter("engine", "").value, self.declare_parameter("threads", 0).value
        if not engine:
            raise PipelineError("the parameter engine is the path of an engine: --ros-args -p engine:=PATH")
        if threads < 0:
            raise PipelineError(f"the parameter threads is a number from 0 on, got {threads}")
        self._segmenter = runtime.open_backend(engine, threads=threads or None)
        self._before = Counts()
        self._masks = self.create_publisher(Image, "mask", MASKS)
        self._labels = self.create_publisher(LabelInfo, "label_info", CLASSES)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self._labels.publish(self._label_info())
        self._images = self.create_subscription(Image, "image", self._put, IMAGES)
        self._timer = self.create_timer(REPORT_S, self._report)
        # Last: what fails before it leaves no thread that the program would wait for.
        self._stream = Stream(self._segmenter, self._publish, self._warn)

    def close(self) -> None:
        """End the thread, then the engine."""
        self._stream.close()
        self._segmenter.close()

    def _put(self, message: Image) -> None:
        self._stream.put(message)

    def _publish(self, mask: np.ndarray, header: Any) -> None:
        self._masks.publish(image_from_mask(mask, header, Image()))

    def _warn(self, line: str) -> None:
        self.get_logger().warning(line, throttle_duration_sec=QUIET_S)

    def _label_info(self) -> LabelInfo:
        info = LabelInfo()
        info.header.stamp = self.get_clock().now().to_msg()
        names = [label.name for label in self._segmenter.spec.classes]
        info.class_map = [VisionClass(class_id=number, class_name=name) for number, name in enumerate(names)]
        return info

    def _report(self) -> None:
        # On the executor's thread: what ended the stream ends the node.
        if self._stream.failure is not None:
            raise self._stream.failure
        counts = self._stream.counts()
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [self._status(counts)]
        self._diagnostics.publish(array)
        self._before = counts

    def _status(self, counts: Counts) -> DiagnosticStatus:
        status = DiagnosticStatus(name=f"{self.get_fully_qualified_name()}: segmentation", hardware_id="")
        status.level, status.message = DiagnosticStatus.OK, "segmenting"
        if counts.refused > self._before.refused:
            status.level, status.message = DiagnosticStatus.WARN, "images are refused"
        elif counts.received == self._before.received:
            status.level, status.message = DiagnosticStatus.WARN, "no image has come"
        values = {
            "milliseconds": f"{counts.last_ms:.1f}",
            "segmented": str(counts.segmented),
            "dropped": str(counts.dropped),
            "refused": str(counts.refused),
        }
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        return status


def main(argv: list[str] | None = None) -> int:
    """Run the node until it is stopped: 0 stopped, 1 an error, told in one line."""
    rclpy.init(args=argv)
    node = None
    try:
        node = SegmentNode()
        rclpy.spin(node)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.close()
        if rclpy.ok():
            rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
