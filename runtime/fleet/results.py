"""The rows of a run: which items are done, and all of them joined in one table."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from runtime.errors import OutputError
from runtime.fleet.listing import MASKS
from runtime.fleet.offers import Known
from runtime.fleet.rows import Asked, Item, Row, bytes_from_rows, rows_from_bytes
from runtime.fleet.stores import Store
from runtime.fleet.worker import ROWS
from runtime.texts import shown

RESULTS = "results.parquet"
READERS = 16  # rows that are read at once
SEAM = "its first frames are not what the part before made of them: read it whole, with --part-seconds 0"


class Joined(NamedTuple):
    """Rows in the order of their items, and the items that have none yet."""

    rows: list[Row]
    open: list[Item]

    @property
    def failed(self) -> list[Row]:
        """Rows with an error."""
        return [row for row in self.rows if row.error]


def rows_of(store: Store) -> dict[str, Row]:
    """All rows that are kept, by their items' ids: of the joined table, and those that came since.

    Of items that were planned otherwise files may have the same names: one belongs to the row that wrote it last.

    Raises:
        OutputError: one of them is no row.
    """
    found = {row.id: row for row in _read(store, RESULTS)} if store.has(RESULTS) else {}
    with ThreadPoolExecutor(READERS) as pool:
        for rows in pool.map(lambda name: _read(store, name), sorted(store.sizes(ROWS))):
            found.update((row.id, row) for row in rows)
    last: dict[str, str] = {}
    for row in sorted(found.values(), key=lambda row: row.started):
        last.update((output.path, output.sha256) for output in row.outputs)
    return {identity: _of_its_own(row, last) for identity, row in found.items()}


def to_do(items: Iterable[Item], store: Store, asked: Asked, known: Known, *, retry_errors: bool = False) -> list[Item]:
    """The items that have no row of these engines, or not all of their files.

    Args:
        items: of the run.
        store: of the outputs.
        asked: of every item.
        known: engines whose rows are taken.
        retry_errors: items whose row has an error are to be done, too.

    Raises:
        OutputError: as `rows_of`.
    """
    rows, sizes = rows_of(store), store.sizes(MASKS)

    def is_done(item: Item) -> bool:
        row = rows.get(item.id(asked))
        if row is None or not known.takes(row.engine_sha256, row.graph_sha256) or (row.error and retry_errors):
            return False
        if not _has_all(row, asked):
            return False
        return all(sizes.get(output.path) == output.bytes for output in row.outputs)

    return [item for item in items if not is_done(item)]


def join(store: Store, items: Sequence[Item], asked: Asked) -> Joined:
    """Join the rows in `RESULTS`, hold parts of a video to each other, and delete what no row tells of any more.

    Behind the rows of these items stay those of other inputs, and of an earlier plan those that no row replaces yet.
    Nobody may be doing items meanwhile.

    Raises:
        OutputError: the table cannot be written, or a row is none.
    """
    names, before = sorted(store.sizes(ROWS)), rows_of(store)
    kept = (before.get(item.id(asked)) for item in items)
    found = [row if row and _has_all(row, asked) else None for row in kept]
    now: dict[str, list[tuple[Item, Row | None]]] = defaultdict(list)
    for item, row in zip(items, found, strict=True):
        now[item.place].append((item, row))
    rows = _held_together([row for row in found if row])
    ids = {row.id for row in rows}
    old = [row for row in before.values() if row.id not in ids]
    others = [row for row in old if not (_is_written_over(row) or _is_replaced(row, now.get(row.place, [])))]
    store.write(RESULTS, bytes_from_rows([*rows, *others]))
    told = {output.path for row in (*rows, *others) for output in row.outputs}
    store.remove(sorted({output.path for row in old for output in row.outputs} - told))
    store.remove(names)
    return Joined(rows, [item for item, row in zip(items, found, strict=True) if row is None])


def _of_its_own(row: Row, last: dict[str, str]) -> Row:
    outputs = tuple(output for output in row.outputs if last[output.path] == output.sha256)
    return row if outputs == row.outputs else dataclasses.replace(row, outputs=outputs)


def _is_written_over(row: Row) -> bool:
    return bool(row.frames and not row.outputs)


def _has_all(row: Row, asked: Asked) -> bool:
    return not row.frames or {output.kind for output in row.outputs} >= set(asked.saves)


def _is_replaced(old: Row, now: Sequence[tuple[Item, Row | None]]) -> bool:
    """Whether all that was read of an input for a row has been read anew, by the items that the input has now."""
    over = [row for item, row in now if _overlap(item.range, (old.first, old.next))]
    return bool(over) and all(row is not None and _replaces(row, old) for row in over)


def _replaces(row: Row, old: Row) -> bool:
    # An input that cannot be read for a while, and is the same for all that is known, costs no mask of it.
    is_other = row.input_sha256 not in ("", old.input_sha256)
    return not row.error or bool(row.outputs) or not old.outputs or is_other


def _overlap(one: tuple[int, int | None], other: tuple[int, int | None]) -> bool:
    return (one[1] is None or other[0] < one[1]) and (other[1] is None or one[0] < other[1])


def _held_together(rows: Sequence[Row]) -> list[Row]:
    parts: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        if row.is_video:
            parts[row.place][row.first] = row
    before = {
        (place, row.next): row for place, several in parts.items() for row in several.values() if row.next is not None
    }

    def held(row: Row) -> Row:
        other = before.get((row.place, row.first))
        if row.error or other is None or other.error or other.seam_tail == row.seam_head:
            return row
        return dataclasses.replace(row, error=f"{shown(row.input)}: from packet {row.first} on {SEAM}")

    return [held(row) if row.is_video else row for row in rows]


def _read(store: Store, name: str) -> list[Row]:
    try:
        return rows_from_bytes(store.read(name))
    except FileNotFoundError:  # joined by another meanwhile
        return []
    except (OSError, ValueError) as error:
        what = f"{store.address}/{name} is not a table of this version"
        raise OutputError(f"{what} ({str(error)[:100]}): delete it, or give another folder with -o") from None
