"""An inference library made of NumPy, and an engine for it on disk: commands run to their end without a real one.

As a program it is `python -m runtime.infer` with every backend replaced: `python -m tests.helpers.fake_backend ARGS`.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import backend as runtime_backend
from runtime import cli, infer, reference
from runtime.arrays import host_arrays
from runtime.backend import ClosedOnExit, OneByOne, PlainBuffers
from runtime.errors import LibraryError
from runtime.fit import spec_with_fit
from runtime.forks import Guard
from runtime.labels import CAMVID
from runtime.manifest import write_engine
from runtime.spec import BackendName, EngineManifest, Fit, ModelSpec, Preprocess, Target
from tests.helpers.pictures import gradient, lossless

STAGES_MS = {"preprocess": 1.0, "network": 2.0, "postprocess": 4.0}
TARGET = Target("fake", "1.0", "abacus", "beads", "here")
PICTURE = lossless(".png", gradient())
PREPROCESS = Preprocess(64, 128, 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "RGB")
SPEC = ModelSpec("icnet", PREPROCESS, CAMVID, 4, 2, 1, "0" * 64, "a test")


CHOSEN = "engine icnet-fp16: icnet, 64x128, fp16 on openvino\n"  # what a command tells of `working_folder`'s engine


class FakeBackend(OneByOne, PlainBuffers, ClosedOnExit):
    """Classes that follow from the pixels alone."""

    def __init__(self, spec: ModelSpec, *, delay_s: float = 0.0, tells_stages: bool = True, late_from: int = 0) -> None:
        """Each frame takes `delay_s`, from that of number `late_from` on."""
        self.spec = spec
        self.stages_ms = dict(STAGES_MS) if tells_stages else {}
        self.segmented = 0
        self.closed = False
        self._delay_s, self._late_from = delay_s, late_from
        self._guard = Guard("a fake engine")

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ValueError("the engine is closed")

    def segment(self, frame: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        frame, _ = host_arrays(frame, out)
        if self.segmented >= self._late_from:
            time.sleep(self._delay_s)
        self.segmented += 1
        mask = expected_mask(frame)
        if out is None:
            return mask
        np.copyto(out, mask)
        return out

    def overlay(self, frame: np.ndarray, palette: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        mask = self.segment(frame)
        return mask, reference.overlay(frame, mask, palette, alpha)

    def confidence(self, frame: np.ndarray, out: Any = None, confidence_out: Any = None) -> tuple[Any, Any]:
        return self.segment(frame, out), expected_confidence(frame)

    def logits(self, frame: np.ndarray) -> np.ndarray:
        return np.zeros((1, len(self.spec.classes) * 4, 8, 16), np.float32)

    def refit(self, fit: Fit) -> None:
        self.spec = spec_with_fit(self.spec, fit)

    def close(self) -> None:
        self.closed = True


def expected_mask(frame: np.ndarray) -> np.ndarray:
    """What every fake engine gives: the sum of the channels modulo the number of classes.

    Of bytes alone: the memory of wider ones is given back to the system after each frame, and asked for anew, which a
    process that is timed pays for or not as its memory happens to lie.
    """
    parts = np.remainder(frame, len(CAMVID))
    return (parts[..., 0] + parts[..., 1] + parts[..., 2]) % len(CAMVID)  # type: ignore[no-any-return]


def expected_confidence(frame: np.ndarray) -> np.ndarray:
    """What every fake engine gives: its first channel."""
    return frame[..., 0].copy()


opened: list[FakeBackend] = []


def this_target(backend: BackendName) -> Target:
    if backend != "openvino":
        raise LibraryError(f"{backend} is not installed: pip install {backend}")
    return TARGET


def open_engine(engine: bytes, manifest: EngineManifest) -> FakeBackend:
    opened.append(FakeBackend(manifest.spec, **json.loads(engine)))
    return opened[-1]


def write_fake_engine(
    folder: Path,
    *,
    name: str = "icnet-fp16",
    target: Target = TARGET,
    created: str = "2026-01-01",
    spec: ModelSpec = SPEC,
    **settings: object,
) -> Path:
    """An engine whose bytes are the settings of the `FakeBackend` that it opens as."""
    engine = json.dumps(settings).encode()
    digest = hashlib.sha256(engine).hexdigest()
    manifest = EngineManifest(spec, "fp16", {"f16": 1}, "openvino", target, "0" * 64, digest, created)
    write_engine(folder / f"{name}.engine", engine, manifest)
    return folder / f"{name}.engine"


def replaced_modules() -> dict[BackendName, str]:
    """`runtime.backend.MODULES` with this module in every place."""
    return dict.fromkeys(runtime_backend.MODULES, "tests.helpers.fake_backend")


def working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in this folder, with a fake engine as its newest and one picture, a.png."""
    monkeypatch.chdir(folder)
    for name, module in replaced_modules().items():
        monkeypatch.setitem(runtime_backend.MODULES, name, module)
    monkeypatch.setattr("tests.helpers.fake_backend.opened", [])
    write_fake_engine(folder / "artifacts" / "engines")
    (folder / "a.png").write_bytes(PICTURE)
    return folder


def files_below(folder: Path) -> list[str]:
    """Every file in the folder but run.json, to the bottom, hidden ones too."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return sorted(str(path.relative_to(folder)) for path in found)


if __name__ == "__main__":
    runtime_backend.MODULES.update(replaced_modules())
    cli.run(infer.main)
