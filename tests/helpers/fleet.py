"""A small fleet's folder: pictures, a film, a file that is neither, and an engine; rows as what a run made."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from runtime import cli
from runtime.fleet import main
from runtime.fleet.rows import OF_A_RUN, Row, rows_from_bytes
from tests.helpers.pictures import gradient, lossless
from tests.helpers.videos import moving, write_video

PICTURES, FRAMES = 4, 60


def fill(
    folder: Path, *, pictures: int = PICTURES, films: int = 1, bad: bool = False, size: tuple[int, int] = (40, 64)
) -> Path:
    """Pictures `0.png`..., films `0.mp4`... of B-frames and an open GOP, each another; `bad`: and what is neither."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        shifted = np.roll(gradient(*size), (number % 40, number // 40), (0, 1))
        (folder / f"{number}.png").write_bytes(lossless(".png", shifted))
    extra = {"bf": "3", "x264-params": "open-gop=1:scenecut=0:b-adapt=0"}
    for number in range(films):
        frames = [np.roll(frame, number, 0) for frame in moving(FRAMES)]
        write_video(folder / f"{number}.mp4", frames, key_every=8, extra=extra)
    if bad:
        (folder / "bad.png").write_bytes(b"no picture" * 10)
    return folder


def plan(*words: str, out: str = "out") -> None:
    """List the items of `in`, of the current folder."""
    assert main(["plan", "in", "-o", out, "--part-seconds", "0.5", *words]) == cli.DONE


def do(engine: Path, item: str = "1/1", *words: str, out: str = "out") -> int:
    """Do a share of what was planned; the exit code."""
    return main(["-o", out, "--item", item, "--engine", str(engine), *words])


def results(folder: Path) -> list[Row]:
    """The joined rows."""
    return rows_from_bytes((folder / "results.parquet").read_bytes())


def told(rows: list[Row]) -> list[Row]:
    """The rows without what differs from run to run."""
    same = dataclasses.asdict(Row("", "", "", "", "", "", False, 0, None, None, None, ""))
    return [dataclasses.replace(row, **{name: same[name] for name in OF_A_RUN}) for row in rows]


def hold_rows(found: list[Row], expected: list[Row]) -> None:
    """Hold rows to others but for what differs from run to run; what else does is named."""
    assert [row.id for row in found] == [row.id for row in expected]
    for ours, theirs in zip(told(found), told(expected), strict=True):
        fields = dataclasses.asdict(ours), dataclasses.asdict(theirs)
        other = {name: (value, fields[1][name]) for name, value in fields[0].items() if value != fields[1][name]}
        assert not other, f"{ours.input}: {other}"


def masks(folder: Path) -> dict[str, bytes]:
    """Every file of the masks, by its name."""
    found = sorted(path for path in (folder / "masks").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def hold_to_folder(fs: Any, folder: Path, out: str) -> None:
    """Hold the masks and rows of a run into a bucket to those of the same run into a folder."""
    fs.invalidate_cache()
    found = {name.removeprefix(f"{out}/"): fs.cat_file(name) for name in fs.find(f"{out}/masks")}
    assert found == masks(folder)
    rows = {row.id: row for row in told(rows_from_bytes(fs.cat_file(f"{out}/results.parquet")))}
    same = {row.id: row for row in told(results(folder))}
    assert rows.keys() == same.keys()
    assert [(rows[i].outputs, rows[i].shares, rows[i].key) for i in rows] == [
        (same[i].outputs, same[i].shares, same[i].key) for i in rows
    ]
    assert not fs.exists(f"{out}/rows") or fs.find(f"{out}/rows") == []
