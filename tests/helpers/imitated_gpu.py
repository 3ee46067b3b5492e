"""The TensorRT backend on a GPU in a test's own process: the real pycuda and an imitated TensorRT over `cuda_driver`.

A driver that this machine has is left alone: the imitated one has a name of its own, and nothing else is led to it.
"""

import ctypes
import enum
import functools
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from runtime import reference
from runtime.backend import Backend
from runtime.backends import tensorrt, tensorrt_engine, tensorrt_library
from runtime.kernels import cuda, graph, nvidia
from runtime.labels import CAMVID
from runtime.manifest import this_system
from runtime.spec import EngineManifest, ModelSpec, Preprocess, Target
from tests.helpers import cuda_driver
from tests.helpers.cuda_driver import imitated_tensorrt
from tests.helpers.graphs import tiny_graph

GPU = nvidia.Gpu("NVIDIA Abacus", "9.0", "13.0")
PREPROCESS = Preprocess(16, 32, 1 / 255, (0.3, 0.4, 0.5), (0.2, 0.3, 0.4), "BGR")
TYPES = {"fp16": np.float16, "fp32": np.float32}
REFUSED = 901  # CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
KINDS = ("device", "pinned", "streams", "events", "graphs", "modules")
UNTOLD = ("upload", "event")  # of what streams ran: tables that come once, and the clock
MOST = 1 << 20  # bytes of names


class Imitated:
    """A GPU with an engine for it: what a test sees of the driver, and what it tells it."""

    def __init__(
        self, patch: pytest.MonkeyPatch, libcuda: Any, driver: Any, trt: Any, engine: bytes, manifest: EngineManifest
    ) -> None:
        self.driver, self.trt, self.engine, self.manifest = driver, trt, engine, manifest
        self._patch, self._libcuda, self._before = patch, libcuda, counts(libcuda)
        self.ran()

    def open(self, manifest: EngineManifest | None = None) -> Backend:
        """The engine's backend, by another manifest where one is given."""
        return tensorrt.open_engine(self.engine, manifest or self.manifest)

    def calls(self, of: Any, name: str, instead: Callable[..., Any] | None = None) -> list[tuple[Any, ...]]:
        """What a function is called with from now on, as far as that is plain: nothing else may live on here.

        It answers what `instead` answers to the same, if that is given.
        """
        made: list[tuple[Any, ...]] = []
        answer = instead or getattr(of, name)
        self._patch.setattr(of, name, lambda *given: made.append(_plain(given)) or answer(*given), raising=False)
        return made

    def live(self, *kinds: str) -> int:
        """How many of these kinds were made since and not given back; of all, without any."""
        now = counts(self._libcuda)
        return sum(now[kind] - self._before[kind] for kind in kinds or KINDS)

    @property
    def pushed(self) -> int:
        """How many contexts are on this thread's stack."""
        return int(self._libcuda.imitated_live(b"pushed"))

    @property
    def made(self) -> int:
        """How many allocations there ever were."""
        return int(self._libcuda.imitated_live(b"made"))

    def ran(self) -> list[str]:
        """What streams ran since it was asked last: kernels, copies, "network", "graph" for a launch, "wait"."""
        text = ctypes.create_string_buffer(MOST)
        assert self._libcuda.imitated_done(text, ctypes.c_size_t(MOST)) < MOST
        return [name for name in text.value.decode().splitlines() if name not in UNTOLD]

    def fails(self, call: str, code: int = REFUSED) -> None:
        """Let a call of the driver answer an error and do nothing; with 0 no more."""
        self._libcuda.imitated_fail(call.encode(), code)

    def forget(self) -> None:
        """Events and graphs that are left are left because the driver was told to fail."""
        self._libcuda.imitated_forget()

    def leave(self, nbytes: int) -> None:
        """Let the GPU have that much memory left."""
        self._libcuda.imitated_leave(ctypes.c_size_t(nbytes))


def spec(block: int) -> ModelSpec:
    """That of every engine here."""
    return ModelSpec("icnet", PREPROCESS, CAMVID, 4 // block, block, 1, "0" * 64, "a test")


def manifest(backend: Any, precision: Any, block: int) -> EngineManifest:
    """Of an engine for `GPU`."""
    target = Target(backend, "1.0", GPU.name, GPU.capability, this_system())
    return EngineManifest(spec(block), precision, {precision: 1}, backend, target, "0" * 64, "1" * 64, "2026-01-01")


@functools.cache
def network(precision: str, block: int, last: bool = False) -> bytes:
    """The graph; with `last` it takes a frame of four channels and looks at the one that is to be 0."""
    model = onnx.load_from_string(tiny_graph(spec(block), precision))
    if last:
        (first,) = (tensor for tensor in model.graph.initializer if tensor.name == "w1")
        weights = np.pad(numpy_helper.to_array(first), ((0, 0), (0, 1), (0, 0), (0, 0)), constant_values=9)
        first.CopyFrom(numpy_helper.from_array(weights, "w1"))
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    return model.SerializeToString()


@functools.cache
def _referee(precision: str, block: int, last: bool) -> Any:
    return imitated_tensorrt.session(network(precision, block, last))


def logits_of(values: np.ndarray, precision: str = "fp16", block: int = 1, last: bool = False) -> np.ndarray:
    """What the network computes of its input (1, 3, 16, 32)."""
    given = np.pad(values.astype(TYPES[precision]), ((0, 0), (0, int(last)), (0, 0), (0, 0)))
    (logits,) = _referee(precision, block, last).run(None, {"frame": given})
    return logits


def expected(precision: str, block: int, image: np.ndarray, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Logits and mask of a frame."""
    logits = logits_of(reference.preprocess(image, PREPROCESS), precision, block, last)
    return logits, reference.segment(logits, spec(block), image.shape)


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Large random spots, so that masks have regions and boundaries."""
    random = np.random.default_rng(seed)
    spots = random.integers(0, 256, (-(-height // 7), -(-width // 9), 3)).repeat(7, 0).repeat(9, 1)[:height, :width]
    return np.clip(spots + random.integers(-9, 10, spots.shape), 0, 255).astype(np.uint8)


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Callable[..., Imitated]]:
    """A function (backend, precision, block, last) -> what is put in place; in the end nothing is left or was wrong."""
    libcuda, modules, image = _loaded()
    monkeypatch.setattr(graph, "library", lambda: libcuda)
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU)
    monkeypatch.setattr(cuda, "compiled", lambda capability: image)
    monkeypatch.setattr(tensorrt_engine, "CACHE", folder)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    def install(backend: Any = "tensorrt", precision: Any = "fp16", block: int = 1, *, last: bool = False) -> Imitated:
        trt = ModuleType(tensorrt_library.MODULES[backend])
        vars(trt).update({name: one for name, one in vars(imitated_tensorrt).items() if name[0] != "_"})
        trt.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM80 SM90")
        monkeypatch.setitem(sys.modules, trt.__name__, trt)
        engine = imitated_tensorrt.MAGIC + bytes([last, last, 0]) + network(precision, block, last)
        kept = manifest(backend, precision, block)
        made.append(Imitated(monkeypatch, libcuda, modules["pycuda.driver"], trt, engine, kept))
        return made[-1]

    made: list[Imitated] = []
    broken = libcuda.imitated_violations()
    yield install
    libcuda.imitated_fail(b"", 0)
    libcuda.imitated_leave(ctypes.c_size_t(1 << 33))
    for gpu in made:
        if gpu.live():
            gc.collect()
        assert not gpu.live(), f"left: { {kind: gpu.live(kind) for kind in KINDS} }"
    assert libcuda.imitated_violations() == broken, "rules of the driver were broken: stderr tells which"


def _plain(given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one for one in given if isinstance(one, int | bytes | str))


def counts(libcuda: Any) -> dict[str, int]:
    """How many there are of each kind."""
    return {kind: libcuda.imitated_live(kind.encode()) for kind in KINDS}


@functools.cache
def _loaded() -> tuple[Any, dict[str, ModuleType], bytes]:
    # The library first, by its path: pycuda then finds it by its name.
    environment = cuda_driver.environment()
    libcuda = ctypes.CDLL(str(cuda_driver.driver_file()))
    libcuda.imitated_done.restype = ctypes.c_size_t
    package = next(path for path in environment["PYTHONPATH"].split(":") if (Path(path) / "pycuda").is_dir())
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "pycuda"]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(package)
        driver = importlib.import_module("pycuda.driver")
        driver.init()
        modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "pycuda"}
        for name in modules:
            del sys.modules[name]
        patch.setenv("CUDA_HOME", environment["CUDA_HOME"])
        patch.setenv("PATH", environment["PATH"])
        image = cuda.compiled(GPU.capability, cache=Path(environment["XDG_CACHE_HOME"]) / "street-segmentation")
    return libcuda, modules, image
