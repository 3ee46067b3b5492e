"""The parameters of a request: those of `runtime.infer`'s options that concern one picture."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

from runtime.cli import byte_from_text, closest
from runtime.infer_options import alpha_from_text, quality_from_text
from runtime.json_values import told
from runtime.media.jpeg import QUALITY
from runtime.serve.accept import FORMS, form_of
from runtime.serve.replies import Refusal
from runtime.spec import FITS, Fit

Colors = Literal["own", "cityscapes"]
MOST_PARAMETERS = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of one picture.

    `void_below` is None where nobody asks for a confidence: it costs another look at the logits.
    """

    form: str = "ids"
    engine: str = ""  # "": the first
    fit: Fit | None = None  # None: as the engine says
    void_below: int | None = None
    alpha: float = 0.5
    colors: Colors = "own"
    confidence: bool = False  # as a second plane of a raw answer
    quality: int = QUALITY  # of a JPEG


def asked_from_query(query: str, accept: str) -> Asked:
    """The parameters in an address, and the form in `Accept`, which the parameter `as` goes before.

    Raises:
        Refusal: 400, a parameter is unknown, given twice, or has no such value; 406, see `form_of`.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise Refusal(400, "parameter", f"there are more than {MOST_PARAMETERS} parameters") from None
    given = dict(pairs)
    if len(given) < len(pairs):
        raise Refusal(400, "parameter", "a parameter is given twice")
    values = values_of(given)
    form = values.pop("as", None) or form_of(accept)
    return _consistent(Asked(form=form, **values))


def values_of(given: Mapping[str, str]) -> dict[str, Any]:
    """The values of parameters, by their names.

    Raises:
        Refusal: 400, one is unknown or has no such value.
    """
    found: dict[str, Any] = {}
    for name, text in given.items():
        if name not in PARAMETERS:
            raise Refusal(400, "parameter", str(closest(name[:100], PARAMETERS, "parameter")))
        try:
            found[name] = PARAMETERS[name](text)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise Refusal(400, "parameter", f"{name}: {error}") from None
    return found


def _one_of(*known: str) -> Callable[[str], str]:
    def value(text: str) -> str:
        if text not in known:
            raise ValueError(f"{told(text)} is none of {', '.join(known)}")
        return text

    return value


def _yes(text: str) -> bool:
    return _one_of("0", "1")(text) == "1"


PARAMETERS: dict[str, Callable[[str], Any]] = {
    "as": _one_of(*FORMS), "engine": str, "fit": _one_of(*FITS), "void_below": byte_from_text,
    "alpha": alpha_from_text, "colors": _one_of(*get_args(Colors)), "confidence": _yes,
    "quality": quality_from_text,
}  # fmt: skip


def _consistent(asked: Asked) -> Asked:
    if asked.confidence and asked.form not in ("raw", "confidence"):
        raise Refusal(400, "parameter", "confidence=1 adds a plane to a raw answer; as=confidence is it as a PNG")
    if asked.void_below is None and (asked.confidence or asked.form == "confidence"):
        return dataclasses.replace(asked, void_below=0)
    return asked
