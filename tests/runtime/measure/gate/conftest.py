"""A pair of engines, workers that take a given time, and the gate run quickly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.measure.gate import measuring
from runtime.measure.worker import Job, Peak
from tests.helpers.engines import built_engine
from tests.helpers.gate import Speeds


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("engines")
    return built_engine(folder, seed=0), built_engine(folder, seed=1)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """Makes workers that take these milliseconds, in the order in which they are started, give or take some noise."""

    def install(*milliseconds: float, noise: float = 0.01, changed_px: int = 0) -> None:
        random = np.random.default_rng(0)
        left = iter(enumerate(milliseconds))

        class FakeWorker:
            def __init__(self, job: Job, frame: Path, patience_s: float) -> None:
                self._shape = np.load(frame).shape[:2]
                self._number, self._ms = next(left)
                self.runtime, self.patience_s = job.code / "runtime" / "__init__.py", patience_s
                self.lead_ms = 0.0

            def frame_ms(self) -> float:
                return self._ms * float(np.exp(noise * random.standard_normal()))

            def ask(self, *, do: str, file: str = "") -> Any:
                if do == "mask":
                    mask = np.zeros(self._shape, np.uint8)
                    mask.flat[: changed_px * self._number] = 1
                    return np.save(file, mask)
                assert do == "peak"
                return Peak(123.0)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None: ...

        monkeypatch.setattr(measuring, "Worker", FakeWorker)

    return install
