"""A ROS 2 node around an engine; all but `node` works without ROS."""
