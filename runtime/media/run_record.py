"""What a run of `runtime.infer` was: `run.json` beside its outputs, and the marks by which they are known again."""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runtime.artifacts import key_of, write_atomically
from runtime.errors import OutputError
from runtime.manifest import read_manifest
from runtime.media.camera import is_camera, shown_address
from runtime.media.marks import MADE_BY, PICTURES, VideoMark, is_whole, videos_told
from runtime.media.pictures import Task
from runtime.media.results import Report
from runtime.media.tallies import Tally
from runtime.spec import ModelSpec
from runtime.texts import shown

# What changes no pixel of an output. Any option that is not named here does, as far as --resume knows.
WITHOUT_EFFECT = frozenset(
    {"inputs", "list", "shard", "resume", "output", "engine", "save", "warmup", "max_pixels", "require_signed", "lanes",
     "threads", "fit", "sequential", "stages", "json", "jsonl", "stats", "regions", "camera_size", "camera_fps",
     "camera_format", "reconnect", "show", "show_port", "window", "confidence"}
)  # fmt: skip


class Record:
    """Who makes the outputs. A mark stands for the engine's bytes, its classes, what changes pixels, and the input."""

    def __init__(self, engine: Path, spec: ModelSpec, options: argparse.Namespace) -> None:
        """A run that begins now."""
        self._started = time.time()
        self._options, self._spec, self._engine = options, spec, engine
        self._manifest = read_manifest(engine)
        self._asked = {name: _plain(value) for name, value in sorted(vars(options).items())}
        self._asked["inputs"] = [shown_address(each) if is_camera(each) else each for each in options.inputs]
        self._classes = [{"id": i, "name": n, "color": list(color)} for i, (n, color) in enumerate(spec.classes)]
        effective = {name: value for name, value in self._asked.items() if name not in WITHOUT_EFFECT}
        if not options.void_below:  # as before there was such an option
            del effective["void_below"]
        if options.overlay_format == "png":
            del effective["overlay_format"], effective["quality"]
        self._folder: Path = options.output
        self._videos = videos_told(self._folder)
        effective["fit"] = spec.preprocess.fit  # the engine's own, where none is given
        self._key = key_of({"engine": self._manifest.engine_sha256, "classes": self._classes, "options": effective})

    def mark_of(self, path: Path) -> str:
        """The mark of what this run makes of a file as it is now; "" where it is not there."""
        try:
            status = path.stat()
        except OSError:
            return ""
        return f"{self._key} {status.st_size:x} {status.st_mtime_ns:x}"

    def is_kept(self, task: Task) -> bool:
        """Whether all outputs of a task are there, whole, and of the same engine, options and input."""
        return bool(task.mark) and all(
            is_whole(path, task.mark) if path.suffix in PICTURES else self._is_whole_video(path, task.mark)
            for path in task.outputs.values()
        )

    def add_video(self, paths: Iterable[Path], mark: str, report: Report, tally: Tally) -> None:
        """These files, of one input, are whole: told at once, since the next one may take hours.

        Raises:
            OutputError: it cannot be written.
        """
        for path in paths:
            self._videos[str(path.relative_to(self._folder))] = VideoMark(mark, path.stat().st_size)
        self.write(report, tally, interrupted=True)

    def write(self, report: Report, tally: Tally, *, interrupted: bool) -> None:
        """Write `run.json`, or `run-I-of-N.json` of a shard, over that of an earlier run.

        Raises:
            OutputError: it cannot be written.
        """
        shard = self._options.shard
        path = self._folder / (f"run-{shard.number}-of-{shard.shards}.json" if shard else "run.json")
        text = json.dumps(self._document(report, tally, interrupted), indent=1)
        try:
            write_atomically(path, f"{text}\n".encode())
        except OSError as error:
            hint = "give another folder with -o"
            raise OutputError(f"{shown(path)} cannot be written ({error.strerror}): {hint}") from None

    def _is_whole_video(self, path: Path, mark: str) -> bool:
        told = self._videos.get(str(path.relative_to(self._folder)))
        return told is not None and told.mark == mark and path.is_file() and path.stat().st_size == told.bytes

    def _document(self, report: Report, tally: Tally, interrupted: bool) -> dict[str, Any]:
        manifest = self._manifest
        return {
            "made_by": MADE_BY,
            "engine": {
                "path": str(self._engine), "sha256": manifest.engine_sha256, "model": self._spec.name,
                "precision": manifest.precision, "backend": manifest.backend,
            },
            "classes": self._classes,
            "options": self._asked,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "seconds": round(time.time() - self._started, 3),
            "interrupted": interrupted,
            "done": report.done + len(report.streams),
            "kept": report.kept,
            "failed": report.failed_inputs,
            "stats": tally.overall(),
            "videos": {name: video._asdict() for name, video in self._videos.items()},
        }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
