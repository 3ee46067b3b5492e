"""From an ONNX graph to an engine."""

import runtime  # noqa: F401  before any library: what it sets holds for them
from runtime.commands import explain_missing_extras

explain_missing_extras()
