"""Engines of two convolutions, built for this machine."""

import dataclasses
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from engines.build import build_engine
from runtime.backend import backend_module
from runtime.manifest import manifest_path, manifest_text, read_manifest
from runtime.spec import BackendName, EngineManifest, ModelSpec, Precision, Target
from tests.helpers.graphs import tiny_graph


def built_engine(
    folder: Path,
    *,
    backend: BackendName = "openvino",
    precision: Precision = "fp32",
    spec: ModelSpec | None = None,
    seed: int = 0,
) -> Path:
    """The engine of a `tiny_graph`, with all that stands beside it; built and proven once in a process, then copied."""
    target = backend_module(backend).this_target(backend)
    built = Path(_built(backend, precision, spec, seed, target).name)
    shutil.copytree(built, folder, copy_function=shutil.copy, dirs_exist_ok=True)
    return next(folder / engine.name for engine in built.glob("*.engine"))


@functools.cache
def _built(
    backend: BackendName, precision: Precision, spec: ModelSpec | None, seed: int, target: Target
) -> "tempfile.TemporaryDirectory[str]":
    made = tempfile.TemporaryDirectory(prefix="tiny-engine-")  # which goes with the process
    new_engine(Path(made.name), backend=backend, precision=precision, spec=spec, seed=seed)
    return made


def new_engine(
    folder: Path,
    *,
    backend: BackendName = "openvino",
    precision: Precision = "fp32",
    spec: ModelSpec | None = None,
    seed: int = 0,
) -> Path:
    """The same, by `build_engine` in that folder: for tests of what it does."""
    graph = folder / f"tiny-{backend}-{precision}-{seed}.onnx"
    graph.write_bytes(tiny_graph(spec, precision, seed=seed))
    return build_engine(graph, precision, backend, folder)


def changed(path: Path, **fields: Any) -> EngineManifest:
    """The manifest of an engine with other fields, written as a build writes it."""
    manifest = dataclasses.replace(read_manifest(path), **fields)
    manifest_path(path).write_text(manifest_text(manifest))
    return manifest
