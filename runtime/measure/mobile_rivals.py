"""MNN and ncnn from frame to mask, as their documentation has it: a converted file, OpenCV and NumPy around it."""

import dataclasses
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backend import Stopwatch
from runtime.errors import EngineError, LibraryError
from runtime.libraries import refusing
from runtime.measure.rivals import normalized, plain_graph, upsampled_mask
from runtime.spec import Fit, Preprocess
from runtime.threads import count

CONVERTED = "converted"  # the stem of what a converter writes


class MobileRival:
    """OpenCV resizes, NumPy normalises, the library infers, OpenCV resizes the logits, NumPy takes the argmax."""

    def __init__(self, engine: Path) -> None:
        """Convert the graph behind a plain engine, and open what came of it.

        Raises:
            EngineError: it is no plain engine, or the library refuses its graph.
            LibraryError: the library is not in this environment.
        """
        graph, self.spec = plain_graph(engine)
        self.stages_ms: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            (path := Path(folder) / "graph.onnx").write_bytes(graph)
            try:
                self._open(path, self.spec.preprocess)
            except ImportError as error:
                raise LibraryError(f"{type(self).__name__}'s library does not load ({error})") from None

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB -> uint8 (H, W) train ids."""
        watch = Stopwatch()
        values = normalized(frame, self.spec.preprocess)
        watch.lap("preprocess")
        with refusing(EngineError, f"{type(self).__name__} cannot run its graph"):
            logits = self._logits(values)
        watch.lap("network")
        mask = upsampled_mask(logits, self.spec.preprocess, (frame.shape[0], frame.shape[1]))
        watch.lap("postprocess")
        self.stages_ms = watch.laps_ms
        return mask

    def _open(self, graph: Path, preprocess: Preprocess) -> None:
        raise NotImplementedError

    def _logits(self, values: np.ndarray) -> np.ndarray:
        # float32 (1, 3, h, w) -> float32 (C, h, w)
        raise NotImplementedError


class Mnn(MobileRival):
    """MNN, in its full precision."""

    def _open(self, graph: Path, preprocess: Preprocess) -> None:
        import MNN.nn

        path = graph.with_name(f"{CONVERTED}.mnn")
        converter = Path(sys.executable).with_name("mnnconvert")
        _converted(
            [str(converter), "-f", "ONNX", "--modelFile", str(graph), "--MNNModel", str(path), "--bizCode", "x"], path
        )
        wanted = {"backend": "CPU", "precision": "high", "numThread": count()}
        with refusing(EngineError, "MNN refuses what its converter wrote"):
            manager = MNN.nn.create_runtime_manager((wanted,))
            self._module = MNN.nn.load_module_from_file(str(path), [], [], runtime_manager=manager)

    def _logits(self, values: np.ndarray) -> np.ndarray:
        from MNN import expr

        found = self._module.forward([expr.const(values, list(values.shape), expr.NCHW)])
        found = found[0] if isinstance(found, Sequence) else found
        logits: np.ndarray = np.array(expr.convert(found, expr.NCHW).read(), np.float32)[0]
        return logits


class Ncnn(MobileRival):
    """ncnn, in FP32."""

    def _open(self, graph: Path, preprocess: Preprocess) -> None:
        import ncnn

        found = importlib.util.find_spec("pnnx")  # its package imports torch, its program does not
        if found is None or not found.origin:
            raise LibraryError("pnnx, which converts for ncnn, is not in this environment")
        size = f"inputshape=[1,3,{preprocess.height},{preprocess.width}]"
        names = [str(graph.with_name(f"{CONVERTED}.{kind}")) for kind in ("param", "bin")]
        options = [size, "fp16=0", *(f"ncnn{kind}={name}" for kind, name in zip(("param", "bin"), names, strict=True))]
        _converted([str(Path(found.origin).with_name("pnnx")), str(graph), *options], Path(names[1]))
        self._net = ncnn.Net()
        self._net.opt.num_threads = count()
        if self._net.load_param(names[0]) or self._net.load_model(names[1]):
            raise EngineError("ncnn refuses what pnnx wrote")
        self._mat: Any = ncnn.Mat

    def _logits(self, values: np.ndarray) -> np.ndarray:
        extractor = self._net.create_extractor()
        extractor.input(self._net.input_names()[0], self._mat(values[0]))
        failed, found = extractor.extract(self._net.output_names()[0])
        if failed:
            raise EngineError("ncnn cannot run its graph")
        return np.array(found, np.float32)


def open_mobile(kind: str, engine: Path, fit: Fit | None = None) -> MobileRival:
    """`mnn` or `ncnn` of a plain engine's graph, in a fit; None: as the file says.

    Raises:
        EngineError, LibraryError: as `MobileRival`.
    """
    rival = {"mnn": Mnn, "ncnn": Ncnn}[kind](engine)
    if fit:
        rival.spec = dataclasses.replace(rival.spec, preprocess=dataclasses.replace(rival.spec.preprocess, fit=fit))
    return rival


def _converted(command: Sequence[str], path: Path) -> None:
    # In the folder of its output: pnnx writes others beside it.
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    if done.returncode or not path.is_file():
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = said[-1][:200] if said else f"code {done.returncode}"
        raise EngineError(f"{Path(command[0]).name} does not convert the plain graph ({told})")
