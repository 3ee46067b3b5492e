"""Which form of a mask a client takes: the header `Accept`, as RFC 9110, 12.5.1 has it."""

import re
from typing import NamedTuple

from runtime.serve.replies import Refusal

# The forms that an answer has, and their media types; `as` names the form where one type has several.
FORMS = {
    "ids": "image/png",
    "raw": "application/octet-stream",
    "runs": "application/json",
    "color": "image/png",
    "overlay": "image/png",
    "confidence": "image/png",
    "jpeg": "image/jpeg",  # the overlay; asked for by name alone: Java names the type where it takes anything
}
OF_TYPE = {"image/png": "ids", "application/octet-stream": "raw", "application/json": "runs"}
# Java sends "*; q=.2" where it is told nothing.
OF_RANGE = {"*/*": "ids", "*": "ids", "image/*": "ids", "application/*": "raw"}
QUALITY = re.compile(r"(?:0?\.[0-9]{1,3}|0\.?|1(?:\.0{0,3})?)")
OFFERED = ", ".join([*OF_TYPE, *(f"{FORMS[form]};as={form}" for form in ("color", "overlay", "confidence", "jpeg"))])
MOST_RANGES = 50


class Range(NamedTuple):
    """One media range of the header: its form, and how much it is wanted, 0..1."""

    form: str
    quality: float


def form_of(accept: str) -> str:
    """The form that is wanted most, of equal ones the first; without a header the class ids as PNG.

    Raises:
        Refusal: 406, none of them is offered.
    """
    ranges = [found for text in accept.split(",")[:MOST_RANGES] if (found := _range(text))]
    if not accept.strip():
        return "ids"
    wanted = max(ranges, key=lambda each: each.quality, default=None)
    if wanted is None or not wanted.quality:
        raise Refusal(406, "accept", f"Accept {accept[:100]!r} names nothing that is offered: {OFFERED}")
    return wanted.form


def _range(text: str) -> Range | None:
    # None: a type, or a form of one, that is not offered.
    name, *rest = (part.strip() for part in text.split(";"))
    values = {key.strip().lower(): value.strip().strip('"') for key, _, value in (each.partition("=") for each in rest)}
    quality = values.pop("q", "1")
    if not QUALITY.fullmatch(quality):
        return None
    form = OF_TYPE.get(name.lower()) or OF_RANGE.get(name.lower())
    named = values.get("as", form)
    if named not in FORMS or (named != form and FORMS[named] != name.lower()):
        return None
    return Range(named, float(quality))
