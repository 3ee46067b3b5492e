"""Engines of two convolutions, built for this machine."""

import dataclasses
from pathlib import Path
from typing import Any

from engines.build import build_engine
from runtime.manifest import manifest_path, manifest_text, read_manifest
from runtime.spec import BackendName, EngineManifest, ModelSpec, Precision
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


def changed(path: Path, **fields: Any) -> EngineManifest:
    """The manifest of an engine with other fields, written as a build writes it."""
    manifest = dataclasses.replace(read_manifest(path), **fields)
    manifest_path(path).write_text(manifest_text(manifest))
    return manifest
