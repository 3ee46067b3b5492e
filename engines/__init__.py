"""From an ONNX graph to an engine."""

import runtime  # noqa: F401  before any library: what it sets holds for them
