"""From PyTorch to ONNX."""

from runtime.commands import explain_missing_extras

explain_missing_extras()
