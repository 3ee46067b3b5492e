"""What a user can cause. Each message says what failed, what it got, what it expected and the command to run."""


class PipelineError(Exception):
    """Base of every error that a command reports as one line; anything else that escapes is a bug of ours."""


class FrameError(PipelineError):
    """An input that is missing, is not an image, or has a size or a layout that is not taken."""


class OutputError(PipelineError):
    """An output that cannot be written, or that would overwrite an input."""


class ModelError(PipelineError):
    """An unknown network, precision, backend, or a size that the network cannot take."""


class WeightsError(PipelineError):
    """A checkpoint that cannot be read, or whose tensors do not fit the network."""


class GraphError(PipelineError):
    """An ONNX file that is not ours, or an export that does not equal its PyTorch network."""


class EngineError(PipelineError):
    """An engine that is missing, damaged, for another machine, or not of the precision asked."""


class DatasetError(PipelineError):
    """Frames and labels on disk that do not pair, do not agree in size, or hold a label out of range."""


class LibraryError(PipelineError):
    """A library or a device that the asked backend needs and this machine does not have."""
