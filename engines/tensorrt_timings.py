"""What TensorRT measured of its kernels on this machine, kept beside the engines.

Measured anew, near ties fall otherwise: two builds of one graph may differ by more than a change of ours is worth.
"""

from dataclasses import astuple
from pathlib import Path
from typing import Any

from runtime.artifacts import is_sealed, key_of, locked, write_sealed
from runtime.bars import say
from runtime.spec import Target


def timings_path(folder: Path, target: Target) -> Path:
    """Where the engines of one target keep them. TensorRT-RTX measures nothing, and with a cache asks for a GPU."""
    return folder / f"timings-{target.library}-{key_of({'target': list(astuple(target))})}.cache"


class TimingCache:
    """The cache of one build."""

    def __init__(self, config: Any, path: Path) -> None:
        """Give the builder what is kept; a damaged or foreign file is told and not used.

        Args:
            config: the library's IBuilderConfig.
            path: as `timings_path` gives it.
        """
        self._config, self._path = config, path
        self._kept = path.read_bytes() if is_sealed(path) else b""
        if path.is_file() and not self._kept:
            say(f"{path} is damaged: kernels are measured anew")
        self._cache: Any = config.create_timing_cache(self._kept)
        if not config.set_timing_cache(self._cache, False):
            say(f"{path} is not of this GPU or library: kernels are measured anew")
            self._cache = config.create_timing_cache(b"")
            config.set_timing_cache(self._cache, False)

    def keep(self) -> None:
        """Write what the build measured, with what another build wrote meanwhile."""
        try:
            with locked(self._path):
                newer = self._path.read_bytes() if is_sealed(self._path) else b""
                if newer and newer != self._kept:
                    self._cache.combine(self._config.create_timing_cache(newer), False)
                measured = bytes(self._cache.serialize())
                if measured != newer:
                    write_sealed(self._path, measured)
        except OSError as error:
            say(f"what TensorRT measured is not kept, the next build measures anew: {error}")
