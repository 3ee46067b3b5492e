"""Where everything lies in a model repository, and how its configuration reads.

    REPOSITORY/NAME/config.pbtxt
    REPOSITORY/NAME/1/model.py
                      model.engine, model.json, model.referee.npz, model.golden.npz

Source: Triton, docs/user_guide/model_repository.md and model_configuration.md.
"""

import json
import re
from pathlib import Path
from typing import Any

from runtime.errors import EngineError, OutputError
from runtime.serve import v2
from runtime.spec import EngineManifest
from runtime.texts import shown

ENGINE, CODE, CONFIG = "model.engine", "model.py", "config.pbtxt"
VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
SERVED = re.compile(r"^version_policy \{ specific \{ versions: ([0-9]+) \} \}$", re.MULTILINE)
LANES = re.compile(r"^instance_group \{ count: ([0-9]+) ", re.MULTILINE)
MODEL_PY = '''"""Masks of street frames: the package street-segmentation, installed for Triton's Python, does it all."""

from runtime.triton.model import TritonPythonModel as TritonPythonModel
'''


def versions(model: Path) -> dict[int, Path]:
    """The engines of a model's folder by their versions, the oldest first."""
    folders = model.iterdir() if model.is_dir() else ()
    found = {int(path.name): path / ENGINE for path in folders if VERSION.fullmatch(path.name)}
    return dict(sorted(found.items()))


def config_text(name: str, manifest: EngineManifest, version: int, lanes: int) -> str:
    """The configuration of a model, of which one version is served, by so many processes.

    Args:
        name: of the model.
        manifest: of the engine of that version.
        version: the one that is served; the others lie ready.
        lanes: instances, each a process with one frame at a time.
    """
    outputs = [_tensor("output", each, "[ -1, -1 ]") for each in v2.outputs_of(manifest.spec)]
    parameters = [_parameter(key, value) for key, value in v2.model_parameters(manifest).items()]
    return "\n".join([
        f"name: {_quoted(name)}", 'backend: "python"', "max_batch_size: 0",
        f"version_policy {{ specific {{ versions: {version} }} }}",
        f"instance_group {{ count: {lanes} kind: KIND_CPU }}",
        _tensor("input", v2.FRAME, "[ -1, -1, 3 ]"), *outputs, *parameters, "",
    ])  # fmt: skip


def served_version(model: Path) -> int | None:
    """Which version the configuration names; None: there is none, or it was written by hand."""
    return _number(SERVED, model)


def served_lanes(model: Path) -> int | None:
    """How many instances the configuration names; None: as above."""
    return _number(LANES, model)


def model_folder(repository: Path, name: str | None) -> Path:
    """The folder of a model that is there.

    Args:
        repository: that holds it.
        name: of the model; None: the only one.

    Raises:
        EngineError: it is not there, or there are none or several.
    """
    models = {path.parent.name: path.parent for path in sorted(repository.glob(f"*/{CONFIG}"))}
    if name is None and len(models) == 1:
        return next(iter(models.values()))
    if name not in models:
        wanted = "name one of its models" if name is None else f"it has no model {name}"
        raise EngineError(f"{shown(repository)}: {wanted}; there are {', '.join(models) or 'none'}")
    return models[name]


def refuse_no_repository(repository: Path) -> None:
    """Refuse a place that is no folder.

    Raises:
        OutputError: it is a file, or is a version or a model itself.
    """
    if repository.exists() and not repository.is_dir():
        raise OutputError(f"{shown(repository)} is a file, expected the folder of a model repository")
    if (repository / CONFIG).exists() or (repository / ENGINE).exists():
        raise OutputError(f"{shown(repository)} is a model, expected the folder above it")


def _number(pattern: "re.Pattern[str]", model: Path) -> int | None:
    config = model / CONFIG
    found = pattern.search(config.read_text("utf-8", "replace")) if config.is_file() else None
    return int(found[1]) if found else None


def _tensor(kind: str, name: str, dims: str) -> str:
    return f"{kind} {{ name: {_quoted(name)} data_type: TYPE_{v2.TENSOR} dims: {dims} }}"


def _parameter(key: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(text)} }} }}"


def _quoted(text: str) -> str:
    # Protocol buffers' text format takes JSON's strings: the same escapes, ASCII alone.
    return json.dumps(text)
