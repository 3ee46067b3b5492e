"""From a frame to a mask: what is deployed. Imports none of the project's other packages, nor torch or onnx."""
