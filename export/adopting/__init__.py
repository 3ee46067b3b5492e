"""The rooms of `export.adopt`: anyone's ONNX file as a graph of ours."""
