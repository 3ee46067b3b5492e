"""How frames of a user's own network are normalised: by the options, else as its weights note it, else by its code.

Whatever is trained notes it in its weights, so that they are not deployed with another one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from export.adopting.options import Given
from runtime.cli import log
from runtime.errors import GraphError, ModelError, WeightsError
from runtime.json_values import values_from_json
from runtime.texts import shown

if TYPE_CHECKING:
    from export.network import Normalization

KEY = "normalization"  # in the metadata of safetensors
Said = tuple[float, tuple[float, float, float], tuple[float, float, float], str]  # the fields of a Normalization
Preprocessing = str | Path | Mapping[str, object] | None


def given_from(preprocess: Preprocessing) -> Given:
    """What a caller says: a preset, the path of a JSON file, or `scale`, `mean`, `std` and `channel_order` by name.

    Raises:
        ModelError: a name is none of these.
    """
    if not isinstance(preprocess, Mapping):
        return Given(None if preprocess is None else str(preprocess))
    values = {"order" if name == "channel_order" else name: value for name, value in preprocess.items()}
    if wrong := sorted(values.keys() - set(Given._fields)):
        raise ModelError(f"preprocess has {wrong[0]!r}, expected some of {', '.join(Given._fields)}")
    return Given(**values)  # type: ignore[arg-type]


def said_by(given: Given) -> Said | None:
    """The normalisation that the options say; None where they say nothing. The order is RGB unless they say another.

    Raises:
        ModelError: they leave something open, or what they name cannot be read.
    """
    if given == Given():
        return None
    from export.adopting.meaning import normalisation

    try:
        known = normalisation(given, {}, is_bytes=False)
    except GraphError as error:
        raise ModelError(str(error).replace("not in the file", "not said")) from None
    if min(known.scale, *known.std) <= 0:
        raise ModelError(f"{known.said_by}: scale and std are above 0, got {known.scale:g} and {list(known.std)}")
    if known.size:
        log(f"of {known.said_by} height, width and fit are not taken: the size that is asked says them")
    return known.scale, known.mean, known.std, known.channel_order or "RGB"


def noted_in(weights: Path | None) -> "Normalization | None":
    """What a training noted in its weights; None where it noted nothing.

    Raises:
        WeightsError: it is in another form.
    """
    if weights is None or weights.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            text = (file.metadata() or {}).get(KEY)
        return normalization_of(values_from_json(text)) if text else None
    except (SafetensorError, OSError):
        return None  # whoever loads them says what is wrong
    except (ValueError, TypeError):
        raise WeightsError(f"weights {weights} note their normalisation in a form that is not read") from None


def normalization_of(said: object) -> "Normalization":
    """The noun of such values, or of their JSON. Raises ValueError or TypeError where they are none."""
    from export.network import Normalization

    scale, mean, std, order = said  # type: ignore[misc]
    first, second = (tuple(float(value) for value in each) for each in (mean, std))  # type: ignore[has-type]
    if len(first) != 3 or len(second) != 3 or order not in ("RGB", "BGR") or min(float(scale), *second) <= 0:  # type: ignore[has-type]
        raise ValueError("no normalisation")
    return Normalization(float(scale), first, second, order)  # type: ignore[arg-type, has-type]


def note_of(normalization: "Normalization") -> dict[str, str]:
    """What a training adds to the metadata of its weights."""
    return {KEY: json.dumps(normalization)}


def agreed(said: Said | None, weights: Path | None) -> "Normalization | None":
    """What the options say, or the weights note; None: neither does, and the network's code has to.

    Raises:
        WeightsError: both do, and not the same.
    """
    noted, asked = noted_in(weights), normalization_of(said) if said else None
    if asked and noted and asked != noted:
        raise WeightsError(
            f"weights {shown(weights)} were trained on frames normalised by {_told(noted)}, not by {_told(asked)}; "
            "leave --preprocess out (make: PREPROCESS=), and theirs is taken"
        )
    return asked or noted


def _told(of: "Normalization") -> str:
    mean, std = ([float(f"{value:.6g}") for value in each] for each in (of.mean, of.std))
    return f"(value * {of.scale:.6g} - {mean}) / {std}, {of.channel_order}"
