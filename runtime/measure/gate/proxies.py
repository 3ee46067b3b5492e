"""What an engine does for a frame, counted and not timed: the same on a busy machine as on a quiet one."""

import importlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

from runtime.backends.layer import Layer
from runtime.backends.tensorrt_layers import kept_layers
from runtime.commands import command, install
from runtime.errors import PipelineError
from runtime.manifest import read_manifest, verified_engine
from runtime.spec import BackendName

PROXY: BackendName = "tensorrt-rtx"
COUNTERS: dict[BackendName, str] = {
    "openvino": "runtime.backends.openvino_layers",
    "onnxruntime": "runtime.backends.onnxruntime_layers",
}
# What each figure is, and what more of it costs.
MEANINGS = {
    "nodes": "layers between frame and logits",
    "kernels": "kernels a frame, each a launch and a barrier between threads",
    "casts": "passes over a map only to change its type",
    "reorders": "passes over a map only to change its layout",
    "quantizers": "quantize and dequantize layers that are left to run",
    "bytes_moved": "bytes that the layers of a frame read and write, weights included",
    "engine_bytes": "bytes of the engine's file",
}


class Change(NamedTuple):
    """A figure that is not the same in two engines."""

    name: str
    base: int
    candidate: int

    @property
    def in_words(self) -> str:
        """The change, and what it means."""
        verb = "more" if self.candidate > self.base else "fewer"
        share = f" ({self.candidate / self.base - 1:+.2%})" if self.base else ""
        return (
            f"{self.name}: {self.base} -> {self.candidate}{share}, "
            f"{abs(self.candidate - self.base)} {verb} {MEANINGS[self.name]}"
        )


def count(engine: Path) -> dict[str, int]:
    """The figures of `MEANINGS` that the engine's library can tell; of TensorRT's what its build was told.

    Raises:
        EngineError: the engine is damaged, or what its build kept of it, or its library refuses it.
    """
    manifest = read_manifest(engine)
    data = verified_engine(engine, manifest)
    figures = {"engine_bytes": len(data)}
    if manifest.backend in COUNTERS:
        counter = importlib.import_module(COUNTERS[manifest.backend])
        figures |= totals(counter.layers(data, manifest))
    elif layers := kept_layers(engine, manifest):
        figures |= totals(layers)
    return {name: figures[name] for name in MEANINGS if name in figures}


def refuse_uncounted(engine: Path, figures: dict[str, int]) -> None:
    """Refuse an engine of which only the size is known: that of two would always pass.

    Raises:
        PipelineError: TensorRT told nothing of it; it names what can be counted in its place.
    """
    if set(figures) > {"engine_bytes"}:
        return
    manifest = read_manifest(engine)
    what = f"{command('regress', base='REVISION', backend=PROXY)} REGRESS_OPTIONS=--counts-alone"
    raise PipelineError(
        f"{engine.name}: {manifest.backend} told no kernels of it, only its size is known, which judges nothing. "
        f"TensorRT-RTX's plan of its graph is a proxy, if not the same kernels: "
        f"python -m engines.plan NEW.onnx --against OLD.onnx, or {what} ({_proxy_here()})"
    )


def _proxy_here() -> str:
    here = importlib.util.find_spec("tensorrt_rtx") is not None
    return "it is installed, and needs no GPU" if here else f"it needs no GPU, but the package: {install(PROXY)}"


def totals(layers: list[Layer]) -> dict[str, int]:
    """The figures that add up over an engine's layers."""
    roles = [layer.role for layer in layers]
    return {
        "nodes": len(layers),
        "kernels": len(layers) - roles.count("view"),
        "casts": roles.count("cast"),
        "reorders": roles.count("reorder"),
        "quantizers": roles.count("quantizer"),
        "bytes_moved": sum(layer.bytes_moved for layer in layers),
    }


def changes(base: dict[str, int], candidate: dict[str, int]) -> list[Change]:
    """What differs between two engines, of the figures that are known of both."""
    both = [name for name in base if name in candidate]
    return [Change(name, base[name], candidate[name]) for name in both if base[name] != candidate[name]]
