"""What make does, from a network to an engine, as functions: `export`, `calibrate`, `quantize`, `build`."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

from runtime.artifacts import ARTIFACTS
from runtime.cli import one_of
from runtime.commands import missing
from runtime.errors import ModelError
from runtime.fit import BUILT_FIT
from runtime.manifest import ENGINES
from runtime.spec import BACKENDS, FITS, PRECISIONS, Precision

if TYPE_CHECKING:
    from export.own_normalization import Preprocessing
    from runtime.spec import BackendName, Fit

SIZE = (1024, 2048)  # height, width: the one that the project's figures are quoted at
GRAPHS, TABLES = ARTIFACTS / "onnx", ARTIFACTS / "calib"
GRAPH_SUFFIX = ".onnx"

P = ParamSpec("P")
T = TypeVar("T")


def naming_extras(function: Callable[P, T]) -> Callable[P, T]:
    """The function, with a LibraryError that names the extra where a library is not installed."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ModuleNotFoundError as error:
            raise missing(error) or error from None

    return called


@naming_extras
def export(
    model: str,
    *,
    precision: str = "fp16",
    size: tuple[int, int] = SIZE,
    batch: int | tuple[int, int] = 1,
    weights: str | Path | None = None,
    classes: str | Path | None = None,
    ema: bool = False,
    fit: "Fit | None" = None,
    preprocess: "Preprocessing" = None,
    plain: bool = False,
    table: str | Path | None = None,
    method: str | None = None,
    leave: Sequence[str] = (),
    anyway: bool = False,
    folder: str | Path = GRAPHS,
) -> Path:
    """The checked ONNX graph of a network; made only if there is none yet of the same key.

    Args:
        model: a registered network, `streetseg.models()` lists them; or one of your own: `path/to/net.py:build`.
        precision: fp32, fp16 or int8; INT8 is made from the FP16 graph and a calibration table.
        size: (height, width) of the network's input, in pixels.
        batch: frames in one input, for `segment_batch`: exactly so many, or (1, most) for any number up to that.
        weights: a checkpoint; None: the one shipped, or random ones where none is.
        classes: a classes.json that names the checkpoint's classes; None: those that it holds.
        ema: take the average of the weights, of a checkpoint with both.
        fit: what becomes of frames of another shape: stretch, pad or auto; None: auto.
        preprocess: how frames are normalised, for a network of your own: imagenet, minus1to1, 0to1, none, the path of
            the JSON of a `Preprocess`, or scale, mean, std and channel_order by name; None: as weights or code say.
        plain: as PyTorch has it, without the deployed form's rewrites.
        table: of INT8, as `quantize`.
        method: of INT8, as `quantize`.
        leave: of INT8, as `quantize`.
        anyway: of INT8, as `quantize`.
        folder: where graphs are kept.

    Returns:
        The graph's path.

    Raises:
        ModelError: an unknown network or precision, a size it cannot take, or options of INT8 for another precision.
        WeightsError: the checkpoint is unreadable or does not fit.
        GraphError: the graph is not equal to the network, or INT8 has no table of these weights.
        LibraryError: torch or onnx is not installed; it names the extra.
    """
    from export import to_onnx
    from export.checkpoints.own_names import classes_from_file
    from export.own_normalization import given_from, said_by

    least, most = batch if isinstance(batch, tuple) else (batch, batch)
    if most < 1 or least not in (1, most):
        raise ModelError(f"a batch of {batch} frames was asked, expected 1 or more, or (1, most)")
    chosen = one_of(precision, PRECISIONS, "precision")
    int8 = _Int8(table, method, leave, anyway)
    int8.refuse_for(chosen)
    if chosen == "int8" and plain:
        raise ModelError("plain graphs are fp32 or fp16, asked was int8: placement is by the deployed form's layers")
    kind = "fp16" if chosen == "int8" else chosen
    named = classes_from_file(Path(classes)) if classes else ()
    said = said_by(given_from(preprocess))
    fitted = one_of(fit, FITS, "fit") if fit else BUILT_FIT
    request = to_onnx.Request(model, kind, *size, most, plain, named, ema, fitted, said, least < most)
    graph = to_onnx.export(request, _path(weights), Path(folder))
    return int8.graph_of(graph) if chosen == "int8" else graph


@naming_extras
def adopt(
    onnx: str | Path,
    *,
    precision: str = "fp16",
    size: tuple[int, int] | None = None,
    preprocess: str | Path | None = None,
    scale: float | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    order: str | None = None,
    classes: str | Path | None = None,
    output: str | None = None,
    name: str | None = None,
    folder: str | Path = GRAPHS,
) -> Path:
    """The checked graph of anyone's ONNX file, which `calibrate`, `quantize` and `build` take by its path.

    Args:
        onnx: the file, from any exporter.
        precision: fp32 (for `calibrate`) or fp16.
        size: (height, width) of its input, where its axes are free; None: its own, or 1024x2048.
        preprocess: imagenet, minus1to1, 0to1 or none, or the path of the JSON of a `Preprocess`.
        scale: what bytes are multiplied with first.
        mean: of each channel, in units of the scaled value.
        std: of each channel.
        order: RGB or BGR.
        classes: a classes.json, as own data sets have it; None: numbered ones.
        output: which output segments, where several could.
        name: of the network; None: the file's.
        folder: where graphs are kept.

    Returns:
        The graph's path.

    Raises:
        ModelError: an unknown precision or order.
        GraphError: it is no ONNX file, segments no frames, or leaves open what was not said; it says what to do.
        LibraryError: onnx or onnxruntime is not installed; it names the extra.
    """
    from export import adopt as adoption
    from export.adopting.options import ORDERS, Asked, Given

    chosen = one_of(order, ORDERS, "order") if order else None
    given = Given(None if preprocess is None else str(preprocess), scale, mean, std, chosen)
    asked = Asked(precision, size, given, _path(classes), output, name)
    return adoption.adopt(Path(onnx), asked, Path(folder))


@naming_extras
def calibrate(
    model_or_graph: str | Path,
    *,
    data: str | Path,
    size: tuple[int, int] | None = None,
    weights: str | Path | None = None,
    classes: str | Path | None = None,
    ema: bool = False,
    fit: "Fit | None" = None,
    preprocess: "Preprocessing" = None,
    frames: int | None = None,
    seed: int = 0,
    method: str | None = None,
    few: bool = False,
    folder: str | Path = TABLES,
) -> Path:
    """The calibration table of a network: what its tensors reach on real frames. INT8 is made from it.

    Args:
        model_or_graph: a registered network, or the path of its FP32 graph (.onnx).
        data: folder of a data set or of images; validation and test frames are never taken.
        size: (height, width) of the network's input; None: 1024x2048, or the graph's own.
        weights: a checkpoint; None: the one shipped.
        classes: a classes.json that names the checkpoint's classes; None: those that it holds.
        ema: take the average of the weights, of a checkpoint with both.
        fit: what becomes of frames of another shape: stretch, pad or auto; None: auto.
        preprocess: how frames are normalised, for a network of your own, as `export`.
        frames: how many, at most; None: 512.
        seed: of their choice.
        method: minmax, percentile, entropy or mse, as `calib.thresholds.METHODS` names them; None: mse.
        few: take fewer than 32 frames without complaint.
        folder: where tables are kept.

    Returns:
        The table's path; `build` and `quantize` take the newest of the same weights.

    Raises:
        ModelError: an unknown network or method, or a size it cannot take.
        DatasetError, FrameError: of `data`.
        GraphError: the graph is not ours or not FP32.
        LibraryError: torch, onnx or onnxruntime is not installed; it names the extra.
    """
    from calib import ranges, sample, thresholds

    chosen = one_of(method or ranges.DEFAULT_METHOD, thresholds.METHODS, "method")
    taken = sample.sample_frames(Path(data), frames or ranges.FRAMES, seed, few=few)
    of = {"weights": weights, "classes": classes, "ema": ema, "fit": fit, "preprocess": preprocess}
    graph = _graph_of(model_or_graph, "fp32", size, **of)
    return ranges.calibrate(graph, taken, seed, chosen, Path(folder))


@naming_extras
def quantize(
    model_or_graph: str | Path,
    *,
    size: tuple[int, int] | None = None,
    weights: str | Path | None = None,
    classes: str | Path | None = None,
    ema: bool = False,
    fit: "Fit | None" = None,
    preprocess: "Preprocessing" = None,
    table: str | Path | None = None,
    method: str | None = None,
    leave: Sequence[str] = (),
    anyway: bool = False,
) -> Path:
    """The INT8 graph of a network, beside its FP16 graph.

    Args:
        model_or_graph: a registered network, or the path of its FP16 graph (.onnx).
        size: (height, width) of the network's input; None: 1024x2048, or the graph's own.
        weights: a checkpoint; None: the one shipped.
        classes: a classes.json that names the checkpoint's classes; None: those that it holds.
        ema: take the average of the weights, of a checkpoint with both.
        fit: what becomes of frames of another shape: stretch, pad or auto; None: auto.
        preprocess: how frames are normalised, for a network of your own, as `export`.
        table: a calibration table; None: the newest of the same weights, or the one shipped.
        method: minmax, percentile, entropy or mse; None: the table's own.
        leave: layers that stay in FP16, beside those that the table leaves; `*` stands for any characters.
        anyway: take it however far its logits are from the float graph's.

    Returns:
        The graph's path.

    Raises:
        ModelError: an unknown network, method or layer, or a size it cannot take.
        GraphError: graph or table are missing, or do not fit each other.
        LibraryError: torch or onnx is not installed; it names the extra.
    """
    of = {"weights": weights, "classes": classes, "ema": ema, "fit": fit, "preprocess": preprocess}
    graph = _graph_of(model_or_graph, "fp16", size, **of)
    return _Int8(table, method, leave, anyway).graph_of(graph)


@naming_extras
def build(
    model_or_graph: str | Path,
    *,
    precision: str | None = None,
    backend: str = "auto",
    size: tuple[int, int] | None = None,
    batch: int | tuple[int, int] = 1,
    weights: str | Path | None = None,
    classes: str | Path | None = None,
    ema: bool = False,
    fit: "Fit | None" = None,
    preprocess: "Preprocessing" = None,
    plain: bool = False,
    table: str | Path | None = None,
    method: str | None = None,
    leave: Sequence[str] = (),
    anyway: bool = False,
    prove: bool = True,
    data: str | Path | None = None,
    folder: str | Path = ENGINES,
    sign: str | Path | None = None,
) -> Path:
    """An engine for this machine, with all that it is made from: the whole chain, each step only if it is not done yet.

    Args:
        model_or_graph: a registered network, or the path of a graph of ours (.onnx).
        precision: fp32, fp16 or int8; None: fp16, or the graph's own. INT8 is also made of an FP16 graph.
        backend: auto (TensorRT where an NVIDIA GPU is, else OpenVINO), tensorrt, tensorrt-rtx, openvino, onnxruntime.
        size: (height, width) of the network's input; None: 1024x2048, or the graph's own.
        batch: as `export`; a graph holds its own.
        weights: a checkpoint; None: the one shipped, or random ones where none is.
        classes: a classes.json that names the checkpoint's classes; None: those that it holds.
        ema: take the average of the weights, of a checkpoint with both.
        fit: what becomes of frames of another shape: stretch, pad or auto; None: auto.
        preprocess: how frames are normalised, for a network of your own, as `export`.
        plain: of the network as PyTorch has it, which rivals are measured with.
        table: of INT8, as `quantize`.
        method: of INT8, as `quantize`.
        leave: of INT8, as `quantize`.
        anyway: of INT8, as `quantize`.
        prove: compare what the engine computes with its graph on onnxruntime.
        data: a data set or folder of which some frames are compared too.
        folder: where engines are kept.
        sign: a private key (`streetseg keys`), with which the engine is signed whether it was there or is new.

    Returns:
        The engine's path; its manifest stands beside it. `streetseg.open` takes it.

    Raises:
        ModelError: an unknown network, precision or backend, or a size it cannot take.
        WeightsError: the checkpoint is unreadable or does not fit.
        GraphError: the graph is not ours, is of another precision, or INT8 has no table.
        EngineError: the library refuses it, or the engine does not execute what was asked.
        LibraryError: a library or device is not here.
    """
    from engines import build as building
    from runtime.backend import backend_module

    asked = one_of(precision, PRECISIONS, "precision") if precision else None
    library: BackendName = building.auto_backend() if backend == "auto" else one_of(backend, BACKENDS, "backend")
    backend_module(library).this_target(library)  # before minutes of export for nothing
    of = {"weights": weights, "classes": classes, "plain": plain, "ema": ema, "fit": fit, "preprocess": preprocess}
    if is_graph(model_or_graph):
        _refuse_with_graph(size=size, batch=batch not in (1, (1, 1)), **of)
        graph, kind = _graph_for(Path(model_or_graph), asked, _Int8(table, method, leave, anyway))
    else:
        kind = asked or "fp16"
        int8 = {
            "size": size or SIZE,
            "batch": batch,
            "table": table,
            "method": method,
            "leave": leave,
            "anyway": anyway,
        }
        graph = export(str(model_or_graph), precision=kind, **of, **int8)  # type: ignore[arg-type]
    frames = Path(data) if data else None
    key = Path(sign) if sign else None
    return building.build_engine(graph, kind, library, Path(folder), prove=prove, data=frames, sign=key)


def is_graph(model_or_graph: str | Path) -> bool:
    """Whether it is the path of a graph and not the name of a network."""
    is_path = isinstance(model_or_graph, Path)
    return str(model_or_graph).endswith(GRAPH_SUFFIX) or (is_path and not is_code(Path(model_or_graph)))


def is_code(model: Path) -> bool:
    """Whether it is the path of a network of the user's own, `path/to/net.py:build`."""
    return ".py" in (model.suffix, Path(model.name.partition(":")[0]).suffix)


def _graph_for(graph: Path, asked: Precision | None, int8: "_Int8") -> tuple[Path, Precision]:
    from engines.build import graph_precision, read_spec

    if not graph.is_file():
        return graph, asked or "fp16"  # whoever builds it says what is missing
    onnx = graph.read_bytes()
    read_spec(onnx)
    own = graph_precision(onnx)
    kind = asked or own
    int8.refuse_for(kind)
    made = kind == "int8" and own == "fp16"
    if kind == own == "int8" and int8.given():
        told = " and ".join(int8.given())
        raise ModelError(f"{graph} is INT8 already: {told} is of the FP16 graph that it is made of")
    return (int8.graph_of(graph) if made else graph), kind


def _graph_of(model_or_graph: str | Path, precision: Precision, size: tuple[int, int] | None, **asked: object) -> Path:
    if is_graph(model_or_graph):
        _refuse_with_graph(size=size, **asked)
        return Path(model_or_graph)
    return export(str(model_or_graph), precision=precision, size=size or SIZE, **asked)  # type: ignore[arg-type]


class _Int8(NamedTuple):
    # What is asked of INT8 alone.
    table: str | Path | None
    method: str | None
    leave: Sequence[str]
    anyway: bool

    def given(self) -> list[str]:
        return [name for name, value in self._asdict().items() if value]

    def refuse_for(self, precision: str) -> None:
        if precision != "int8" and self.given():
            raise ModelError(f"{' and '.join(self.given())}: of precision int8 alone, asked was {precision}")

    def graph_of(self, graph: Path) -> Path:
        from calib import qdq, thresholds

        method = one_of(self.method, thresholds.METHODS, "method") if self.method else None
        return qdq.quantized_graph(graph, _path(self.table), method, self.leave, anyway=self.anyway)


def _refuse_with_graph(**asked: object) -> None:
    given = [name for name, value in asked.items() if value]
    if given:
        raise ModelError(f"{' and '.join(given)}: of a network's name, but a graph was given, which holds its own")


def _path(given: str | Path | None) -> Path | None:
    return Path(given) if given else None
