"""The ROS 2 package, as colcon builds it."""

from setuptools import setup

PACKAGE = "street_segmentation_ros"

setup(
    name=PACKAGE,
    version="0.2.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", ["launch/segment.launch.py"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    description="The class of every pixel of a camera's images, by an engine of street-segmentation",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"segment = {PACKAGE}.node:main"]},
)
