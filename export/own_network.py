"""A network of a user's own: their code, run as their own code, and what it says of itself."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

import torch
from torch import nn

from export.adopting.options import PRESETS
from export.network import Network, Normalization
from export.own_code import Source, code_of, is_beside, package_root
from runtime.cli import log
from runtime.commands import OWN, option
from runtime.errors import ModelError
from runtime.libraries import refusing
from runtime.texts import shown

NORMALIZATIONS = {name: Normalization(**values) for name, values in PRESETS.items()}
SIZE_MULTIPLE = 32  # where the network does not say another
MAIN = ("out", "logits", "main", "pred", "seg", "masks")  # of a dictionary of outputs, the one that segments
PROBED = 2, 3  # numbers of classes that a network is tried with
_LOADED: dict[tuple[Source, str, Normalization | None], Network] = {}
_BROUGHT: set[str] = set()  # modules that stand beside the user's file, as sys.modules has them


def network_of(source: Source, said: Normalization | None = None) -> Network:
    """The network that a user's function builds, tried once on a small frame of zeros.

    Args:
        source: of the function.
        said: how frames are normalised; None: as the code says.

    Raises:
        ModelError: the code raises, or what it builds does not say how frames are normalised, or gives no logits.
    """
    key = source, code_of(source.given), said
    if key not in _LOADED:
        module = _module(source)
        build = _function(source, module)
        _LOADED[key] = _tried(source, module, build, said)
    return _LOADED[key]


def _tried(source: Source, module: ModuleType, build: Callable[..., Any], given: Normalization | None) -> Network:
    made = partial(built, source, build)
    network = made(PROBED[0])

    def said(name: str, default: Any = None) -> Any:
        # By the network, by the function, or by the file in capitals.
        return getattr(network, name, getattr(build, name, getattr(module, name.upper(), default)))

    normalization = given or _normalization(source, said("normalization"))
    multiple = said("size_multiple", SIZE_MULTIPLE)
    if type(multiple) is not int or not 0 < multiple <= 1024:
        raise ModelError(f"{source.given}: size_multiple is {multiple!r}, expected a number of pixels, 1 to 1024")
    stride = _stride(source, network, multiple)
    deploy = getattr(build, "deploy", getattr(module, "deploy", None))
    text = said("source", f"{source.name}, a network of one's own")
    return Network(source.name, made, deploy, multiple, stride, 1, str(text), normalization, own=True)


def built(source: Source, build: Callable[..., Any], classes: int) -> nn.Module:
    """What the function builds for so many classes; its outputs are brought to logits (`Logits`).

    Raises:
        ModelError: it raises, or gives no network.
    """
    with _users(source, f"{source.given} cannot be built for {classes} classes"), torch.device("cpu"):
        network = build(classes)
    if not isinstance(network, nn.Module):
        raise ModelError(f"{source.given} gives {type(network).__name__}, expected a torch.nn.Module")
    network.register_forward_hook(Logits(source.given, classes))
    return network


class Logits:
    """A hook that makes logits of what a network returns: a tensor, or several in a tuple, list or dictionary.

    In training all that are logits are kept, the main one first; else the main one: that of a dictionary's `MAIN`
    keys, or the first.
    """

    def __init__(self, given: str, classes: int) -> None:
        self.given, self.classes = given, classes

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Float (N, classes, h, w), or in training a tuple of such.

        Raises:
            ModelError: there is none.
        """
        maps = [each for each in _tensors(output) if each.ndim == 4 and each.shape[1] == self.classes]
        if not maps:
            shapes = ", ".join(str(tuple(each.shape)) for each in _tensors(output)) or type(output).__name__
            raise ModelError(
                f"{self.given} gives no logits (N, {self.classes}, h, w) for {self.classes} classes: {shapes}"
            )
        return tuple(maps) if module.training and len(maps) > 1 else maps[0]


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, Mapping):
        first = [output[key] for key in MAIN if key in output]
        return _tensors([*first, *(value for key, value in output.items() if key not in MAIN)])
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [tensor for each in output for tensor in _tensors(each)]
    return []


def _stride(source: Source, network: nn.Module, multiple: int) -> int:
    side = multiple * -(-64 // multiple)
    network.eval()
    with _users(source, f"{source.given} does not take a frame of {side}x{2 * side}"), torch.inference_mode():
        logits = network(torch.zeros(1, 3, side, 2 * side))
    height, width = logits.shape[2:]
    if not height or side % height or 2 * side % width or side // height != 2 * side // width:
        raise ModelError(
            f"{source.given} gives logits of {height}x{width} for a frame of {side}x{2 * side}; expected a whole "
            "fraction of it, the same in both directions (size_multiple says which sizes it takes)"
        )
    if torch.allclose(logits.float().sum(1), torch.ones(()), atol=1e-3) and bool((logits >= 0).all()):
        log(f"warning: {source.given} gives probabilities; return logits: they are upsampled before the class is taken")
    return side // height


def _normalization(source: Source, said: Any) -> Normalization:
    if isinstance(said, str) and said in NORMALIZATIONS:
        return NORMALIZATIONS[said]
    values = said._asdict() if isinstance(said, Normalization) else said
    if not isinstance(values, Mapping) or not {"mean", "std"} <= values.keys() <= set(Normalization._fields):
        raise ModelError(
            f"{source.given} does not say how frames are normalised: give {option('preprocess', 'imagenet')} (one of "
            f"{', '.join(PRESETS)}, or a JSON file), or the network an attribute normalization: such a name, or "
            "{scale, mean, std, channel_order}"
        )
    with refusing(ModelError, f"{source.given}: normalization is {dict(values)!r:.200}"):
        mean, std = ((float(a), float(b), float(c)) for a, b, c in (values["mean"], values["std"]))
        scale, order = float(values.get("scale", 1 / 255)), values.get("channel_order", "RGB")
        if order not in ("RGB", "BGR") or min(scale, *std) <= 0:
            raise ValueError("expected channel_order RGB or BGR, scale and std above 0")
    return Normalization(scale, mean, std, order)


def _module(source: Source) -> ModuleType:
    if source.file is None:
        with _users(source, f"{source.module} cannot be imported"):
            return importlib.import_module(source.module)
    root = package_root(source.file)
    _forget()
    name = ".".join(source.file.relative_to(root).with_suffix("").parts)
    with _users(source, f"{shown(source.file)} cannot be run"):
        if root != source.file.parent:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(f"streetseg_own_{source.file.stem}", source.file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


def _forget() -> None:
    # Another network's blocks.py, or this one's of before a change, is not this one's.
    for name in _BROUGHT:
        sys.modules.pop(name, None)
    _BROUGHT.clear()


def _function(source: Source, module: ModuleType) -> Callable[..., Any]:
    found = getattr(module, source.attribute, None)
    if not callable(found):
        own = [name for name, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        there = ", ".join(own) or "none"
        raise ModelError(f"{source.given}: there is no function {source.attribute}(classes); there are: {there}")
    return found


@contextmanager
def _users(source: Source, what: str) -> Iterator[None]:
    """Code of the user's runs within: what it prints goes to stderr, what it raises is one line with its place."""
    folder = str(package_root(source.file)) if source.file else ""
    path, before = list(sys.path), set(sys.modules)
    sys.path[:] = [*([folder] if folder else []), *path]
    try:
        with redirect_stdout(sys.stderr), refusing(ModelError, what):
            yield
    except ModelError as error:
        raise ModelError(f"{error}{_place(error.__cause__, folder)}") from error.__cause__
    finally:
        sys.path[:] = path
        if folder:
            _BROUGHT.update(name for name in sys.modules.keys() - before if _is_beside(name, folder))


def _is_beside(name: str, folder: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    return name.partition(".")[0] not in OWN and file is not None and is_beside(Path(file), Path(folder))


def _place(cause: BaseException | None, folder: str) -> str:
    frames = extract_tb(cause.__traceback__) if cause and folder else []
    own = [frame for frame in frames if frame.filename.startswith(folder)]
    return f", at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
