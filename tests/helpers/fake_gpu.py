"""The TensorRT backend over `fake_cuda` and `fake_tensorrt`: a GPU, engines' manifests, and what their masks are."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from runtime import reference
from runtime.backends import tensorrt_engine, tensorrt_library
from runtime.kernels import cuda, graph, nvidia
from runtime.labels import CAMVID
from runtime.manifest import this_system
from runtime.spec import EngineManifest, ModelSpec, Preprocess, Target
from tests.helpers.fake_cuda import Driver, Library
from tests.helpers.fake_tensorrt import TYPES, FakeTensorRT

GPU = nvidia.Gpu("NVIDIA Abacus", "9.0", "13.0")
PREPROCESS = Preprocess(16, 32, 1 / 255, (0.3, 0.4, 0.5), (0.2, 0.3, 0.4), "BGR")


def spec(block):
    return ModelSpec("icnet", PREPROCESS, CAMVID, 4 // block, block, 1, "0" * 64, "a test")


def manifest(backend, precision, block):
    target = Target(backend, "1.0", GPU.name, GPU.capability, this_system())
    return EngineManifest(spec(block), precision, {precision: 1}, backend, target, "0" * 64, "1" * 64, "2026-01-01")


def network(values):
    """Some logits (1, 44 or 11, ...) that depend on every input value: sums over 4x4 pixels, mixed."""
    mixed = np.random.default_rng(7).normal(size=(11, 3)).astype(np.float32)
    n, c, h, w = values.shape
    sums = values.astype(np.float32).reshape(n, c, h // 4, 4, w // 4, 4).sum((3, 5))
    return np.einsum("kc,nchw->nkhw", mixed, sums)


def blocked(values):
    """The same, as a network with block 2 and stride 2 of its pixels gives them: all four alike but for an offset."""
    return np.repeat(network(values), 4, 1) + np.tile(np.float32([0, 0.5, -0.5, 1]), 11)[None, :, None, None]


def channels_last(of):
    """The network that takes a padded frame with its channels last, and gives its logits so."""

    def run(values):
        assert not values[..., 3].any()
        planes = np.ascontiguousarray(values[..., :3].transpose(0, 3, 1, 2))  # in another order sums are other sums
        return of(planes).transpose(0, 2, 3, 1)

    return run


NETWORKS = {1: network, 2: blocked}


def installer(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[..., tuple[Driver, Any, EngineManifest]]:
    """A function that puts the fakes in place: (backend, precision, block, last) -> driver, module, manifest."""

    def install(backend="tensorrt", precision="fp16", block=1, *, last=False):
        driver = Driver()
        library = driver.library = Library(driver)
        monkeypatch.setattr(graph, "library", lambda: library)
        channels = 11 * block**2
        input_type = (precision, (1, 16, 32, 4) if last else (1, 3, 16, 32))
        logits_type = (precision, (1, 4, 8, channels) if last else (1, channels, 4, 8))
        run = channels_last(NETWORKS[block]) if last else NETWORKS[block]
        trt = FakeTensorRT(tensorrt_library.MODULES[backend], driver, run, input_type, logits_type)
        package = ModuleType("pycuda")
        package.driver = driver
        for name, module in (("pycuda", package), ("pycuda.driver", driver), (trt.__name__, trt)):
            monkeypatch.setitem(sys.modules, name, module)
        return driver, trt, manifest(backend, precision, block)

    monkeypatch.setattr(nvidia, "gpu", lambda: GPU)
    monkeypatch.setattr(cuda, "compiled", lambda capability: b"cubin")
    monkeypatch.setattr(tensorrt_engine, "CACHE", folder)
    return install


def frame(height, width, seed=0):
    """Large random spots, so that masks have regions and boundaries."""
    random = np.random.default_rng(seed)
    spots = random.integers(0, 256, (-(-height // 7), -(-width // 9), 3)).repeat(7, 0).repeat(9, 1)[:height, :width]
    return np.clip(spots + random.integers(-9, 10, spots.shape), 0, 255).astype(np.uint8)


def expected(precision, block, image):
    values = reference.preprocess(image, PREPROCESS).astype(TYPES[precision])
    logits = NETWORKS[block](values).astype(TYPES[precision])
    return logits, reference.segment(logits, spec(block), image.shape)
