"""What a message tells a user to type: make's word in a checkout of this project, `streetseg` everywhere else."""

import sys
from pathlib import Path
from types import TracebackType

from runtime.bars import say
from runtime.errors import LibraryError

PROJECT = 'name = "street-segmentation"'
COMMAND = "streetseg"
ADOPTED = "adopted from "  # how the source of a spec begins that was made of another's ONNX file, which follows
NAMES = {"onnx": "export"}  # targets of make that are commands under another name
# Which extra brings a module that is not there; the other ones come with the package itself.
EXTRAS = {
    "torch": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "onnx": "build",  # a part of "export": what a machine without torch builds an engine with
    "onnxruntime": "build",
    "google": "build",  # protobuf, which onnx brings
    "av": "video",
    "tensorrt": "tensorrt",
    "pycuda": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "nncf": "nncf",
    "cryptography": "sign",
    "pyarrow": "stats",
    "ray": "fleet",
    "fsspec": "fleet",
    "s3fs": "fleet",
    "gcsfs": "gs",
    "pillow_heif": "heic",
    "starlette": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
}
OWN = ("runtime", "engines", "calib", "export", COMMAND)


def explain_missing_extras() -> None:
    """A `python -m` command that is about to load tells a library that is not installed in one line, with its extra."""
    if sys.argv[:1] == ["-m"]:  # what Python has there until it has found the command
        sys.excepthook = _explained


def _explained(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    explained = missing(error) if isinstance(error, ModuleNotFoundError) else None
    if explained:
        say(f"error: {explained}")
    else:
        sys.__excepthook__(kind, error, trace)


def in_checkout() -> bool:
    """Whether the current folder is a checkout of this project, where make knows its targets."""
    project = Path("pyproject.toml")
    return Path("Makefile").is_file() and project.is_file() and PROJECT in project.read_text("utf-8", "replace")


def command(target: str, **values: object) -> str:
    """How a target is typed here.

    Args:
        target: of make, for example "engine".
        values: by the option's name in small letters; one of None is left out.

    Returns:
        For example `make engine MODEL=icnet PRECISION=fp16`, or `streetseg engine --model icnet --precision fp16`.
    """
    words = [f"make {target}"] if in_checkout() else [f"{COMMAND} {NAMES.get(target, target)}"]
    return " ".join([*words, *(option(name, value) for name, value in values.items() if value is not None)])


def network_options(name: str, source: str) -> dict[str, str]:
    """How a network is named to `command`: by its name, or where its spec's source says so by another's ONNX file."""
    return {"onnx": source.removeprefix(ADOPTED)} if source.startswith(ADOPTED) else {"model": name}


def option(name: str, value: object = "path") -> str:
    """How an option is typed here: `WEIGHTS=path`, or `--weights path`; a (height, width) as HEIGHTxWIDTH."""
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{name.upper()}={text}" if in_checkout() else f"--{name} {text}"


def data_option() -> str:
    """How a folder of data is named, by commands and by make."""
    return "--data DIR (make: DATA=DIR)" if in_checkout() else "--data DIR"


def install(extra: str = "") -> str:
    """How the packages of an extra are installed here; without one, those of the package itself."""
    name = f"[{extra}]" if extra else ""
    return f"pip install -e '.{name}'" if in_checkout() else f"pip install 'street-segmentation{name}'"


def missing(error: ModuleNotFoundError) -> LibraryError | None:
    """The error for a library that is not installed, with the extra that brings it; None: it is a module of ours."""
    module = (error.name or "").split(".")[0]
    if not module or module in OWN:
        return None
    name = module.replace("-", "_")  # of a distribution, as importlib.metadata has it
    return LibraryError(f"{module} is not installed, and is needed here: {install(EXTRAS.get(name, ''))}")
