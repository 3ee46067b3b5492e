"""Engines of two convolutions, built for this machine."""

from pathlib import Path

from engines.build import build_engine
from runtime.spec import BackendName, ModelSpec, Precision
from tests.helpers.graphs import tiny_graph


def built_engine(
    folder: Path,
    *,
    backend: BackendName = "openvino",
    precision: Precision = "fp32",
    spec: ModelSpec | None = None,
    seed: int = 0,
) -> Path:
    """The engine of a `tiny_graph`."""
    graph = folder / f"tiny-{backend}-{precision}-{seed}.onnx"
    graph.write_bytes(tiny_graph(spec, precision, seed=seed))
    return build_engine(graph, precision, backend, folder)
