"""The one way in for JSON that the product reads, whoever wrote it: bounded, and refused by one kind of error.

Python's `json` takes NaN, numbers that become infinite, a key twice and half a surrogate pair, and ends in a
RecursionError where brackets are nested deeply; nothing of ours writes any of these.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

LARGEST_BYTES = 16 << 20  # the largest that is written, a calibration table, has some 200 KB
MOST_VALUES = 1_000_000  # an empty list of two bytes becomes an object of 64
DEEPEST = 64  # ours have some 8
MOST_DIGITS = 19  # of a whole number: 64 bits
TOLD = 100  # characters of a value in a message
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(path: Path) -> Any:
    """The JSON values of a file.

    Raises:
        ValueError: it is not a regular file, or what `values_from_json` refuses.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no file")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise ValueError(f"it has {size >> 20} MiB, expected at most {LARGEST_BYTES >> 20}")
    return values_from_json(path.read_bytes())


def values_from_json(text: str | bytes) -> Any:
    """The values of a JSON text: dicts, lists, strings, booleans, None, ints of 64 bits and finite floats.

    Raises:
        ValueError: it is no JSON in UTF-8, too large, nested too deeply, names a key twice, or has a number that is
            not finite or has more than 64 bits. The message is one short line.
    """
    if len(text) > LARGEST_BYTES:
        raise ValueError(f"it has {len(text) >> 20} MiB, expected at most {LARGEST_BYTES >> 20}")
    decoded = _decoded(text) if isinstance(text, bytes) else text
    if sum(map(decoded.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES} values")
    try:
        values = json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int
        )
    except RecursionError:
        raise _too_deep() from None
    _refuse_deep(values)
    if LONE_SURROGATE.search(json.dumps(values, ensure_ascii=False)):
        raise ValueError("a text in it has half of a surrogate pair")
    return values


def told(value: object) -> str:
    """A value as a message tells it: its beginning, on one line."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= TOLD else f"{text[:TOLD]}..."


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")  # Windows' editors begin a text with a mark of its byte order
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it names {told(twice)} twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has the number {name}, which is not finite")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"its number {text[:TOLD]} is too large")
    return number


def _int(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS or not -(2**63) <= (number := int(text)) < 2**63:
        raise ValueError(f"its number {text[:MOST_DIGITS]}... has more than 64 bits")
    return number


def _refuse_deep(values: Any) -> None:
    level = [values]
    for _ in range(DEEPEST + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"its brackets are nested too deeply, expected at most {DEEPEST}")
