"""One camera and one engine: `ros2 launch street_segmentation_ros segment.launch.py engine:=street.engine`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    """The node, under the camera's topic."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("engine", description="path of the engine, with its manifest beside it"),
            DeclareLaunchArgument("image", default_value="/camera/image_raw", description="topic of the camera"),
            DeclareLaunchArgument("namespace", default_value="segmentation", description="of the node's own topics"),
            DeclareLaunchArgument("threads", default_value="0", description="of the CPU; 0: as many as it may use"),
            Node(
                package="street_segmentation_ros",
                executable="segment",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
                # A path of digits alone is a text all the same.
                parameters=[
                    {
                        "engine": ParameterValue(LaunchConfiguration("engine"), value_type=str),
                        "threads": ParameterValue(LaunchConfiguration("threads"), value_type=int),
                    }
                ],
                remappings=[("image", LaunchConfiguration("image"))],
            ),
        ]
    )
