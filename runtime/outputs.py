"""Where the pictures of each mask go: one name each, never an input's."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.errors import OutputError
from runtime.frames import FrameFile, shown

SAVES = ("ids", "color", "overlay")


def plan_outputs(files: Sequence[FrameFile], folder: Path, saves: Sequence[str]) -> list[dict[str, Path]]:
    """For each file what is written where: `<folder>/<place below its input folder>/<stem>_<kind>.png`.

    Files that would share a name get their extension in it (`a.png` and `a.jpg`: `a_png_ids.png`, `a_jpg_ids.png`),
    and where that is not enough the folders in which they differ. The same files give the same names in any order.

    Raises:
        OutputError: two files still share a name.
    """
    stems = _stems(files)
    for stem, count in Counter(stems).items():
        if count > 1:
            both = " and ".join(shown(file.path) for file, other in zip(files, stems, strict=True) if other == stem)
            raise OutputError(f"{both} would write the same files; segment them one after the other with another -o")
    return [{kind: folder / stem.parent / f"{stem.name}_{kind}.png" for kind in saves} for stem in stems]


def refuse_overwrites(files: Sequence[FrameFile], outputs: Sequence[dict[str, Path]]) -> None:
    """Look for outputs that are an input, under whatever name.

    Raises:
        OutputError: there is one.
    """
    inputs = {_identity(file.path): file.path for file in files if file.path.exists()}
    for path in (path for paths in outputs for path in paths.values() if path.exists()):
        if _identity(path) in inputs:
            raise OutputError(f"output {shown(path)} would overwrite an input; give another folder with -o")


def _stems(files: Sequence[FrameFile]) -> list[Path]:
    # Whoever shares a name steps to its next longer one, and may meet another there: so until nobody moves.
    common = os.path.commonpath([file.path.parent.resolve() for file in files])
    longer = [_names(file, common) for file in files]
    stems = [next(names) for names in longer]
    moved = True
    while moved:
        counts = Counter(stems)
        steps = [next(names, None) if counts[stem] > 1 else None for names, stem in zip(longer, stems, strict=True)]
        stems = [step or stem for step, stem in zip(steps, stems, strict=True)]
        moved = any(steps)
    return stems


def _names(file: FrameFile, common: str) -> Iterator[Path]:
    stem, extension = file.relative.with_suffix(""), file.relative.suffix.removeprefix(".")
    yield stem
    named = stem.with_name(f"{stem.name}_{extension}") if extension else stem
    yield named
    yield file.path.parent.resolve().relative_to(common) / named.name


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
