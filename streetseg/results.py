"""Engines in use: `open` one, `evaluate` what it is worth; and `train`, where weights come from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.arguments import raising
from runtime.lanes import Lanes, open_lanes
from runtime.lookup import chosen_engine
from runtime.spec import Fit
from runtime.threads import limited
from streetseg.stages import naming_extras


@naming_extras
def open(
    engine: str | Path | None = None,
    *,
    lanes: int | None = None,
    threads: int | None = None,
    require_signed: str | Path | None = None,
    fit: Fit | None = None,
) -> Lanes:
    """An engine, ready to segment frames by any number of threads; close it, or use it in a `with` statement.

    Args:
        engine: what `build` returned; None: the newest of this machine, told in one line on stderr.
        lanes: frames in the engine at once; None: what its backend does best.
        threads: of the CPU that it uses at most; None: as many as this process may, by affinity and cgroup.
        require_signed: a public key, whose owner must have signed it.
        fit: what becomes of frames of another shape than the network's: stretch, pad, or auto; None: as it was built.

    Raises:
        EngineError: missing, damaged, without manifest, not signed as asked, or built for another machine.
        LibraryError: its inference library is not installed.
        ValueError: lanes or threads is no such number, or fit is none.
    """
    return open_lanes(engine or chosen_engine(), lanes, threads=threads, require_signed=require_signed, fit=fit)


@naming_extras
def evaluate(
    engines: str | Path | Sequence[str | Path] | None = None,
    *,
    data: str | Path,
    dataset: str = "camvid",
    split: str = "val",
    limit: int | None = None,
    save_labels: str | Path | None = None,
    threads: int | None = None,
    fit: Fit | None = None,
) -> dict[str, Any]:
    """What engines are worth on labelled frames, side by side.

    Args:
        engines: one or more; None: the newest of this machine.
        data: the data set's folder.
        dataset: camvid, cityscapes or own.
        split: of the data set.
        limit: only so many frames, the first ones; None: all.
        save_labels: write masks as PNG to a folder an engine in this one; None: not.
        threads: of the CPU, at most; None: as many as this process may use.
        fit: what becomes of frames of another shape than the network's; None: as each engine was built.

    Returns:
        JSON values, as `streetseg evaluate --json` prints them: for each of "engines" miou, pixel_accuracy,
        iou by class and agreement; shares 0..1, None where no pixel decides.

    Raises:
        EngineError: an engine is missing, for another machine, or of other classes than the data set.
        ModelError: an unknown dataset.
        DatasetError: frames and labels are not as they must be.
        OutputError: a mask cannot be written.
        ValueError: threads is no such number, or fit is none.
    """
    from runtime.accuracy.evaluate import evaluated

    given = [engines] if isinstance(engines, str | Path) else engines or ()
    folder = Path(save_labels) if save_labels else None
    with limited(threads):
        return evaluated([Path(engine) for engine in given], dataset, Path(data), split, limit, folder, fit=fit)


@naming_extras
def train(model: str, *, dataset: str, data: str | Path, out: str | Path, **options: Any) -> dict[str, float]:
    """Train a network on labelled frames, on from the checkpoint in `out` where there is one.

    Args:
        model: a registered network.
        dataset: camvid, cityscapes or own.
        data: the data set's folder.
        out: folder of checkpoint, log and weights.
        options: those of `streetseg train`, with underscores: epochs=5, lr=0.01, crop=(360, 480), compile=True.

    Returns:
        mIoU 0..1 on the validation frames, by size.

    Raises:
        ValueError: an option that is not there, or a value that it does not take.
        ModelError, DatasetError, WeightsError: network, frames or start are not as they must be.
        LibraryError: torch is not installed, or has no CUDA device where one is asked.
    """
    from export.training.options import command_of, parse
    from export.training.train import trained

    argv = as_argv({"model": model, "dataset": dataset, "data": data, "out": out, **options})
    with raising():
        args, recipe = parse(argv)
    return trained(args, recipe, command_of(argv))[1]


def as_argv(options: dict[str, Any]) -> list[str]:
    """Options of a function as a command takes them: True is the option alone, None and False leave it out."""
    argv: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        argv += [f"--{name.replace('_', '-')}"] + ([] if value is True else [text])
    return argv
