"""The items of a run: each picture, each part of a video; and which of them are to be done."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.artifacts import sha256_of
from runtime.cli import progress
from runtime.errors import FrameError
from runtime.fleet.listing import Input
from runtime.fleet.rows import Asked, Item, bytes_from_items, items_from_bytes
from runtime.fleet.scratch import scratch
from runtime.fleet.stores import Store, fetch, scheme_of
from runtime.json_values import values_from_json
from runtime.media.video import VideoReader, is_video

LIST, ASKED = "plan/items.parquet", "plan/asked.json"
READERS = 4  # inputs that are read at once
LOOKED_AT = 3  # frames by which film is found to be interlaced


def planned(inputs: Sequence[Input], store: Store, part_s: float, asked: Asked) -> list[Item]:
    """The items of these inputs, in their order; kept as `LIST`, by which an input is not read again.

    Args:
        inputs: as they were listed.
        store: of the outputs.
        part_s: seconds of film in an item; 0: a video is one.
        asked: of every item; kept beside them.

    Raises:
        OutputError: the list cannot be written.
    """
    before = _by_input(store)
    with ThreadPoolExecutor(READERS) as pool:
        done = pool.map(lambda each: _items(each, before.get((each.address, each.version, part_s)), part_s), inputs)
        items = [item for several in progress(done, "read inputs", len(inputs), "file") for item in several]
    store.write(ASKED, json.dumps(dataclasses.asdict(asked)).encode())
    store.write(LIST, bytes_from_items(items))
    return items


def kept(store: Store) -> tuple[list[Item], Asked]:
    """The items of the last plan, and what is asked of them.

    Raises:
        FrameError: there is none, or it cannot be read.
    """
    try:
        asked = values_from_json(store.read(ASKED))
        return items_from_bytes(store.read(LIST)), Asked(tuple(asked.pop("saves")), **asked)
    except FileNotFoundError:
        raise FrameError(f"{store.address} holds no {LIST}: name inputs, or list them first with `plan`") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FrameError(
            f"{store.address}/{LIST} cannot be read ({error}): list the inputs again with `plan`"
        ) from None


def share(items: Sequence[Item], number: int, shares: int) -> list[Item]:
    """One of several equal shares of the items, from 1: all together have each item once."""
    return list(items[number - 1 :: shares])


def _by_input(store: Store) -> dict[tuple[str, str, float], list[Item]]:
    found: dict[tuple[str, str, float], list[Item]] = defaultdict(list)
    try:
        items = items_from_bytes(store.read(LIST))
    except (OSError, ValueError):
        return {}
    for item in items:
        found[item.input, item.version, item.part_s].append(item)
    return found


def _items(given: Input, before: list[Item] | None, part_s: float) -> list[Item]:
    # What could not be read may be readable now, with the version that it had.
    known = [item for item in before or () if item.version and item.sha256 and item.place == str(given.place)]
    return known or _read(given, part_s)


def _read(given: Input, part_s: float) -> list[Item]:
    if not given.version:
        return [_item(given, "", part_s, is_film=is_video(Path(given.address)))]
    if not scheme_of(given.address):
        return _of_file(given, Path(given.address), part_s)
    with scratch() as folder:
        path = folder / f"input{given.place.suffix}"  # a key's name may be longer than a disk takes
        try:
            fetch(given.address, path)
        except FrameError:  # whoever does it tells why
            return [_item(given, "", part_s, is_film=is_video(Path(given.address)))]
        return _of_file(given, path, part_s)


def _of_file(given: Input, path: Path, part_s: float) -> list[Item]:
    try:
        sha256 = sha256_of(path) if path.is_file() else ""  # a pipe would be waited for
    except OSError:
        sha256 = ""
    if not sha256:
        return [_item(given, "", part_s, is_film=is_video(path))]
    if not is_video(path):
        return [_item(given, sha256, part_s, is_film=False)]
    return list(_of_film(given, path, sha256, part_s))


def _of_film(given: Input, path: Path, sha256: str, part_s: float) -> Iterator[Item]:
    try:
        with VideoReader(path) as reader:
            for _ in range(LOOKED_AT):
                reader.read()
            interlaced = reader.interlaced
        with VideoReader(path) as reader:
            parts = reader.parts(0 if interlaced else part_s)
    except FrameError:  # damaged: as a whole it is read by the rules of `runtime.infer`, which tell what is wrong
        yield _item(given, sha256, part_s, is_film=True)
        return
    for part in parts:
        yield Item(given.address, str(given.place), given.version, sha256, True, part_s, *part)


def _item(given: Input, sha256: str, part_s: float, *, is_film: bool) -> Item:
    return Item(given.address, str(given.place), given.version, sha256, is_film, part_s)
