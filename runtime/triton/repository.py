"""A version of a model, added to a repository whole or not at all; or one that is there, served again."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from runtime.artifacts import LEFTOVER, locked, write_atomically
from runtime.backend import backend_module
from runtime.errors import EngineError, PipelineError
from runtime.manifest import read_manifest, verified_engine, write_engine
from runtime.media.frames import read_frame
from runtime.proof import expected_path, read_expected
from runtime.prove import prove
from runtime.samples import STREET
from runtime.serve.engines import Named, Served, opened_lanes, refuse_other_classes
from runtime.spec import EngineManifest
from runtime.triton.golden import Golden, bytes_from_golden, golden_path, read_golden
from runtime.triton.model import mask_of, opening_of
from runtime.triton.places import CODE, CONFIG, ENGINE, MODEL_PY, config_text, served_lanes, served_version, versions


class Written(NamedTuple):
    """What a repository now serves of a model: which version, whether it is new, and the one before, if any."""

    model: Path
    version: int
    is_new: bool
    before: int | None


def add(repository: Path, name: str, engine: Path, lanes: int | None) -> Written:
    """Serve this engine: as a new version, or where a version has it by that.

    Args:
        repository: which is made where it is not there.
        name: of the model.
        engine: proven and tried on its golden frame first.
        lanes: processes; None: as many as before, or as its backend does best.

    Raises:
        EngineError: missing, damaged, unproven, wrong, of another machine, or of other classes than the model's.
        LibraryError: its library is not installed.
    """
    model = repository / name
    with locked(model, lasting=False):
        there = versions(model)
        version = next((number for number, own in there.items() if _is_same(own, engine)), None)
        is_new = version is None
        if version is None:
            _refuse_other_classes(there, engine)
            lanes = lanes or served_lanes(model) or _best(engine)
            version = max(there, default=0) + 1
            _write(model, version, engine, lanes)
        return _served(model, version, lanes, is_new=is_new)


def serve(model: Path, version: int, lanes: int | None) -> Written:
    """Serve a version that is there.

    Raises:
        EngineError: it is not there, or is damaged.
    """
    with locked(model):
        there = versions(model)
        if version not in there:
            known = ", ".join(map(str, there)) or "none"
            raise EngineError(f"{model.name} has no version {version}, there are {known}")
        return _served(model, version, lanes, is_new=False)


def _served(model: Path, version: int, lanes: int | None, *, is_new: bool) -> Written:
    engine = model / str(version) / ENGINE
    manifest = _whole(engine)
    before, lanes = served_version(model), lanes or served_lanes(model) or _best(engine)
    text = config_text(model.name, manifest, version, lanes).encode()
    config = model / CONFIG
    # What is as it was stays as it was: by the time of a file Triton tells whether to load a model again.
    if not config.is_file() or config.read_bytes() != text:
        write_atomically(config, text)
    return Written(model, version, is_new, before)


def _is_same(own: Path, engine: Path) -> bool:
    # A version that is damaged is none that has the engine.
    with suppress(PipelineError):
        return _whole(own) == read_manifest(engine)
    return False


def _whole(engine: Path) -> EngineManifest:
    manifest = read_manifest(engine)
    verified_engine(engine, manifest)
    read_golden(engine)
    return manifest


def _refuse_other_classes(there: dict[int, Path], engine: Path) -> None:
    for own in reversed(there.values()):
        with suppress(EngineError):
            spec = read_manifest(own).spec
            break
    else:
        return
    refuse_other_classes(spec, read_manifest(engine).spec, "give it a name of its own, NAME=FILE")


def _best(engine: Path) -> int:
    return int(getattr(backend_module(read_manifest(engine).backend), "LANES", 1))


def _write(model: Path, version: int, engine: Path, lanes: int) -> None:
    # What is proven and tried is the copy that Triton will open.
    with _staged(model) as folder:
        own = folder / ENGINE
        manifest = read_manifest(engine)
        read_expected(engine)
        write_engine(own, verified_engine(engine, manifest), manifest)
        write_atomically(expected_path(own), expected_path(engine).read_bytes())
        prove(own)
        write_atomically(golden_path(own), bytes_from_golden(_golden(own, lanes)))
        write_atomically(folder / CODE, MODEL_PY.encode())
        folder.rename(model / str(version))


def _golden(engine: Path, lanes: int) -> Golden:
    manifest, opening, frame = read_manifest(engine), opening_of(lanes), read_frame(STREET)
    served = Served(Named("golden", engine), manifest, opened_lanes(engine, opening, manifest))
    try:
        return Golden(frame, mask_of(served, frame))
    finally:
        served.close()


@contextmanager
def _staged(model: Path) -> Iterator[Path]:
    # A folder that Triton takes for no version: its name is no number. What a killed command left is removed; of a
    # living one there is none, as this one holds the lock. A model without a version can keep Triton from starting.
    left = list(model.glob(f"{LEFTOVER}*.part"))
    is_ours = bool(left) or not model.exists()
    folder = model / f"{LEFTOVER}{secrets.token_hex(8)}.part"
    try:
        for each in left:
            shutil.rmtree(each, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_ours:
            with suppress(OSError):  # it holds something
                model.rmdir()
