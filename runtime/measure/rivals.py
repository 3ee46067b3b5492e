"""What a user would pick instead: each from frame to mask as one writes it with that library, none of our kernels."""

import dataclasses
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from runtime.backend import Stopwatch
from runtime.backends.openvino import BELOW_BF16
from runtime.commands import in_checkout, install
from runtime.cpu import max_isa
from runtime.errors import EngineError, LibraryError
from runtime.fit import Box, box_of
from runtime.libraries import refusing
from runtime.manifest import read_manifest, verified_engine
from runtime.reference import border, gain_and_bias
from runtime.spec import Fit, ModelSpec, Preprocess, from_json
from runtime.threads import bound, count

SPEC_FILE = "model_spec.json"  # in a torch program's archive
# Every rival, and in which words it is quoted.
RIVALS = {
    "onnxruntime": "onnxruntime FP32, with OpenCV and NumPy",
    "openvino": "OpenVINO as it comes, upsampling and argmax in the graph",
    "torch": "torch eager FP32",
    "torch-compile": "torch.compile FP32",
    "onnxruntime-cuda": "onnxruntime FP32 on CUDA, with OpenCV and NumPy",
    "torch-cuda-graph": "torch FP16 in a CUDA graph",
}


class Rival(Protocol):
    """A way from frame to mask."""

    spec: ModelSpec
    stages_ms: dict[str, float]  # of the last frame: preprocess, network, postprocess

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB -> uint8 (H, W) train ids."""


def open_rival(kind: str, files: Sequence[Path], fit: Fit | None = None) -> Rival:
    """One of `RIVALS`.

    Args:
        kind: its name.
        files: for the torch ones the program that `export.to_torch` wrote; for the others the engine of a plain FP32
            graph on onnxruntime, which is that graph.
        fit: what becomes of frames of another shape; None: as the file says.

    Raises:
        EngineError: the file is not what the rival takes.
        LibraryError: its library or device is not here.
    """
    openers: dict[str, Callable[[Path], Rival]] = {
        "onnxruntime": lambda path: OnnxRuntimeRival(path, "CPUExecutionProvider"),
        "onnxruntime-cuda": lambda path: OnnxRuntimeRival(path, "CUDAExecutionProvider"),
        "openvino": OpenVinoRival,
        "torch": TorchRival,
        "torch-compile": lambda path: TorchRival(path, compiled=True),
        "torch-cuda-graph": TorchCudaGraphRival,
    }
    try:
        rival = openers[kind](files[0])
        if fit:
            preprocess = dataclasses.replace(rival.spec.preprocess, fit=fit)
            rival.spec = dataclasses.replace(rival.spec, preprocess=preprocess)
        return rival
    except ImportError as error:
        raise LibraryError(f"{kind} does not load ({error}): {install('export')}") from None


def normalized(frame: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """A frame as every tutorial prepares it: OpenCV resizes, NumPy normalises; float32 (1, 3, height, width)."""
    import cv2

    (top, height, rows), (left, width, columns) = box = box_of(preprocess, *frame.shape[:2])
    if frame.shape[:2] != (height, width):
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    if not box.is_whole:
        sides = top, rows - top - height, left, columns - left - width
        frame = cv2.copyMakeBorder(frame, *sides, cv2.BORDER_CONSTANT, value=border(preprocess).tolist())
    if preprocess.channel_order == "BGR":
        frame = frame[..., ::-1]
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    values = (frame.astype(np.float32) * np.float32(preprocess.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def around(box: Box, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[slice, slice]]:
    """The size of the whole input in a frame's pixels, and where the frame lies in it, rows and columns."""
    wide = [round(side * span.whole / span.length) for side, span in zip(size, box, strict=True)]
    begins = [round(side * span.start / span.length) for side, span in zip(size, box, strict=True)]
    rows, columns = (slice(begin, begin + side) for begin, side in zip(begins, size, strict=True))
    return (wide[0], wide[1]), (rows, columns)


def upsampled_mask(logits: np.ndarray, preprocess: Preprocess, size: tuple[int, int]) -> np.ndarray:
    """Logits as every tutorial ends: OpenCV resizes, NumPy takes the argmax.

    Args:
        logits: float32 (C, h, w) of the whole input.
        preprocess: how the frame lies in that.
        size: (H, W) of the frame.

    Returns:
        uint8 (H, W) train ids.
    """
    import cv2

    wide, (rows, columns) = around(box_of(preprocess, *size), size)
    if logits.shape[1:] == wide:
        mask: np.ndarray = logits[:, rows, columns].argmax(axis=0).astype(np.uint8)
    else:
        resized = cv2.resize(logits.transpose(1, 2, 0), wide[::-1], interpolation=cv2.INTER_LINEAR)
        mask = resized[rows, columns].argmax(axis=2).astype(np.uint8)
    return mask


def plain_graph(engine: Path) -> tuple[bytes, ModelSpec]:
    """The ONNX file behind a plain engine.

    Raises:
        EngineError: it is no engine, or not of a plain graph.
    """
    manifest = read_manifest(engine)
    if manifest.backend != "onnxruntime" or manifest.spec.block != 1:
        how = "make bench" if in_checkout() else "streetseg engine --precision fp32 --backend onnxruntime --plain"
        raise EngineError(f"{engine} is no plain graph on onnxruntime; {how} builds one")
    return verified_engine(engine, manifest), manifest.spec


class OnnxRuntimeRival:
    """OpenCV resizes, NumPy normalises, onnxruntime infers, OpenCV resizes the logits, NumPy takes the argmax."""

    def __init__(self, engine: Path, provider: str) -> None:
        import onnxruntime

        graph, self.spec = plain_graph(engine)
        if provider not in onnxruntime.get_available_providers():
            raise LibraryError(f"onnxruntime has no {provider} here: pip install onnxruntime-gpu")
        self.stages_ms: dict[str, float] = {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = bound() or 0  # 0: as it likes
        with refusing(EngineError, f"onnxruntime refuses {engine}"):
            self._session = onnxruntime.InferenceSession(graph, options, providers=[provider])
        if self._session.get_providers()[0] != provider:  # it goes on with the CPU where another provider fails
            raise LibraryError(
                f"onnxruntime cannot use its {provider} here: install CUDA and cuDNN as onnxruntime-gpu wants them"
            )
        self._input = self._session.get_inputs()[0].name

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """See `Rival`."""
        watch = Stopwatch()
        values = normalized(frame, self.spec.preprocess)
        watch.lap("preprocess")
        with refusing(EngineError, "onnxruntime cannot run the plain graph"):
            logits = self._session.run(None, {self._input: values})[0][0]
        watch.lap("network")
        mask = upsampled_mask(logits, self.spec.preprocess, (frame.shape[0], frame.shape[1]))
        watch.lap("postprocess")
        self.stages_ms = watch.laps_ms
        return mask


class OpenVinoRival:
    """The plain graph with bilinear upsampling and argmax behind it, compiled with OpenVINO's own defaults."""

    def __init__(self, engine: Path) -> None:
        import openvino

        graph, self.spec = plain_graph(engine)
        self.stages_ms: dict[str, float] = {}
        self._core = openvino.Core()
        self._model = graph
        self._request: Any = None
        self._frame_size = (0, 0)

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """See `Rival`; a frame of another size compiles the graph again, because the size is in it."""
        if self._frame_size != frame.shape[:2]:
            self._frame_size = (frame.shape[0], frame.shape[1])
            with refusing(EngineError, "OpenVINO refuses the plain graph", line=-1):
                compiled = self._core.compile_model(self._with_argmax(), "CPU", _openvino_options())
                self._request = compiled.create_infer_request()
        watch = Stopwatch()
        values = normalized(frame, self.spec.preprocess)
        watch.lap("preprocess")
        with refusing(EngineError, "OpenVINO cannot run the plain graph", line=-1):
            classes = self._request.infer([values])[0]
        watch.lap("network")
        mask: np.ndarray = classes[0, 0].astype(np.uint8)
        watch.lap("postprocess")
        self.stages_ms = watch.laps_ms
        return mask

    def _with_argmax(self) -> Any:
        import openvino
        from openvino import opset13

        model, upsample = self._core.read_model(self._model, b""), self.spec.upsample
        size, part = around(box_of(self.spec.preprocess, *self._frame_size), self._frame_size)
        wide = opset13.interpolate(
            model.outputs[0].get_node().input_value(0),
            np.array(size, np.int64),
            "nearest" if upsample == "nearest" else "linear_onnx",
            "sizes",
            coordinate_transformation_mode="align_corners" if upsample == "align_corners" else "half_pixel",
            axes=np.array([2, 3], np.int64),
        )
        begin, end = ([getattr(side, at) for side in part] for at in ("start", "stop"))
        if size != self._frame_size:
            wide = opset13.slice(wide, np.array(begin), np.array(end), np.array([1, 1]), np.array([2, 3]))
        best = opset13.topk(wide, np.int64(1), 1, "max", "none", "i32")
        return openvino.Model([opset13.result(best.output(1))], model.get_parameters(), "with argmax")


class TorchRival:
    """The network in torch on the CPU, torch's own interpolation and argmax behind it."""

    def __init__(self, program: Path, *, compiled: bool = False) -> None:
        import torch

        module, self.spec = torch_program(program)
        torch.set_num_threads(min(count(), torch.get_num_threads()))
        self.stages_ms: dict[str, float] = {}

        def network(values: Any, size: tuple[int, int]) -> Any:
            return _torch_argmax(module(values), size, box_of(self.spec.preprocess, *size))

        self._network = torch.compile(network) if compiled else network

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """See `Rival`; upsampling and argmax are part of the network here, for torch.compile to fuse."""
        import torch

        watch = Stopwatch()
        values = torch.from_numpy(normalized(frame, self.spec.preprocess))
        watch.lap("preprocess")
        with torch.inference_mode():
            mask: np.ndarray = self._network(values, frame.shape[:2]).numpy()
        watch.lap("network")
        self.stages_ms = watch.laps_ms
        return mask


class TorchCudaGraphRival:
    """The network in FP16 on an NVIDIA GPU, channels last, in one CUDA graph with all that `TorchPath` does."""

    def __init__(self, program: Path) -> None:
        import torch

        if not torch.cuda.is_available():
            raise LibraryError("torch sees no NVIDIA GPU here; leave torch-cuda-graph out")
        torch.backends.cudnn.benchmark = True
        module, self.spec = torch_program(program)
        self.stages_ms: dict[str, float] = {}
        module = module.to("cuda", torch.float16).to(memory_format=torch.channels_last)
        self._module = module
        self._frame_size = (0, 0)

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """See `Rival`."""
        import torch

        if self._frame_size != frame.shape[:2]:
            self._capture((frame.shape[0], frame.shape[1]))
        watch = Stopwatch()
        self._frame_pinned.copy_(torch.from_numpy(np.ascontiguousarray(frame)))
        watch.lap("preprocess")
        self._frame.copy_(self._frame_pinned, non_blocking=True)
        self._graph.replay()
        self._mask_pinned.copy_(self._mask, non_blocking=True)
        cast(Any, torch.cuda).current_stream().synchronize()
        mask: np.ndarray = self._mask_pinned.numpy().copy()
        watch.lap("network")
        self.stages_ms = watch.laps_ms
        return mask

    def _capture(self, size: tuple[int, int]) -> None:
        import torch

        cuda = cast(Any, torch.cuda)
        self._frame_size = size
        self._frame_pinned = torch.empty((*size, 3), dtype=torch.uint8, pin_memory=True)
        self._mask_pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self._frame = torch.zeros((*size, 3), dtype=torch.uint8, device="cuda")
        self._path = TorchPath(self._module, self.spec.preprocess, "cuda", torch.float16)
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with torch.inference_mode(), cuda.stream(stream):
            for _ in range(3):  # libraries choose and allocate outside of the capture
                self._path(self._frame)
        stream.synchronize()
        self._graph = cuda.CUDAGraph()
        with torch.inference_mode(), cuda.graph(self._graph):
            self._mask = self._path(self._frame)


class TorchPath:
    """Frame to mask where the frame lies, all in torch: what a user writes who knows it."""

    def __init__(self, network: Callable[[Any], Any], preprocess: Preprocess, device: str, dtype: Any) -> None:
        """Put on the device what must be there before a capture.

        Args:
            network: takes dtype (1, 3, height, width), gives logits (1, C, h, w).
            preprocess: how a frame becomes its input; normalised in float32.
            device: of network and frames.
            dtype: of the network, torch.float16 or torch.float32.
        """
        import torch

        self._network, self._preprocess, self._dtype = network, preprocess, dtype
        parts = gain_and_bias(preprocess)
        self._gain, self._bias = (torch.from_numpy(part).reshape(1, 3, 1, 1).to(device) for part in parts)
        self._border = torch.from_numpy(border(preprocess).astype(np.float32)).reshape(1, 3, 1, 1).to(device)

    def __call__(self, frame: Any) -> Any:
        """torch uint8 (H, W, 3) RGB -> torch uint8 (H, W) train ids, both on the device."""
        import torch

        size = tuple(frame.shape[:2])
        (top, height, rows), (left, width, columns) = box = box_of(self._preprocess, *size)
        values = frame.permute(2, 0, 1)[None].float()
        if size != (height, width):
            values = torch.nn.functional.interpolate(values, (height, width), mode="bilinear", align_corners=False)
        if not box.is_whole:
            whole = self._border.repeat(1, 1, rows, columns)
            whole[:, :, top : top + height, left : left + width] = values
            values = whole
        if self._preprocess.channel_order == "BGR":
            values = values.flip(1)
        values = (values * self._gain + self._bias).to(self._dtype)
        return _torch_argmax(self._network(values.contiguous(memory_format=torch.channels_last)), size, box)


def _torch_argmax(logits: Any, size: tuple[int, int], box: Box) -> Any:
    import torch

    wide, (rows, columns) = around(box, size)
    if tuple(logits.shape[2:]) != wide:
        logits = torch.nn.functional.interpolate(logits, wide, mode="bilinear", align_corners=False)
    return logits[:, :, rows, columns].argmax(dim=1)[0].to(torch.uint8)


def _openvino_options() -> dict[str, str]:
    threads = bound()
    options = {} if threads is None else {"INFERENCE_NUM_THREADS": str(threads)}
    # Its own choice, BF16 by what the CPU has, may end the process under such a cap.
    return options | ({"INFERENCE_PRECISION_HINT": "f32"} if max_isa() in BELOW_BF16 else {})


def torch_program(path: Path) -> tuple[Any, ModelSpec]:
    """The network that `export.to_torch` wrote, and its spec.

    Raises:
        EngineError: it is missing, or no such program.
    """
    import torch

    if not path.is_file():
        raise EngineError(f"torch program {path} does not exist; write one: python -m export.to_torch --model icnet")
    extra = {SPEC_FILE: ""}
    with refusing(EngineError, f"{path} is no torch program of ours", "; write it again: export.to_torch"):
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive")
        program = torch.export.load(path, extra_files=extra)
        return program.module(), from_json(ModelSpec, extra[SPEC_FILE])
