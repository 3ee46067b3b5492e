"""A mask as the client takes it: PNG of ids, raw ids, run lengths, colours, an overlay, a confidence."""

import json
from typing import Any

import numpy as np

from runtime.labels import IGNORED, VOID, Label, cityscapes_colors, palette
from runtime.media.jpeg import MOST_SIDE_PX, jpeg_from_pixels
from runtime.media.outputs import Look, Seen
from runtime.media.pictures import Segmented
from runtime.media.png import png_from_pixels
from runtime.serve.accept import FORMS
from runtime.serve.asked import Asked
from runtime.serve.replies import Refusal, Reply
from runtime.spec import ModelSpec


def answer_of(segmented: Segmented, asked: Asked, spec: ModelSpec) -> Reply:
    """The answer in the form that is asked for.

    Raises:
        Refusal: 400, the picture is too long for a JPEG.
    """
    seen = segmented.seen
    height, width = seen.mask.shape
    headers = {"X-Frame-Size": f"{height}x{width}", "Vary": "Accept"}
    if asked.form == "runs":
        return Reply(200, json.dumps(runs_of(seen.mask, spec)).encode(), FORMS["runs"], headers)
    if asked.form == "raw":
        return Reply(200, _raw(seen, asked), FORMS["raw"], headers | {"X-Planes": _planes(asked)})
    look = Look(palette(shown_classes(spec, asked)), asked.alpha, asked.void_below)
    if asked.form == "jpeg":
        if max(height, width) > MOST_SIDE_PX:
            raise Refusal(400, "jpeg", f"{height}x{width} are no JPEG, of at most {MOST_SIDE_PX} a side: as=overlay")
        pixels = look.pixels("overlay", segmented.frame, seen)
        return Reply(200, jpeg_from_pixels(pixels, asked.quality), FORMS["jpeg"], headers)
    return Reply(200, png_from_pixels(look.pixels(asked.form, segmented.frame, seen)), FORMS[asked.form], headers)


def shown_classes(spec: ModelSpec, asked: Asked) -> tuple[Label, ...]:
    """The classes in the colours that are asked for."""
    return cityscapes_colors(spec.classes) if asked.colors == "cityscapes" else spec.classes


def class_values(spec: ModelSpec) -> list[dict[str, Any]]:
    """The classes as JSON: id, name, and the colour of their data set and of Cityscapes, [red, green, blue]."""
    return [
        {"id": i, "name": own.name, "color": list(own.color), "cityscapes": list(street.color)}
        for i, (own, street) in enumerate(zip(spec.classes, cityscapes_colors(spec.classes), strict=True))
    ]


def runs_of(mask: np.ndarray, spec: ModelSpec) -> dict[str, Any]:
    """A mask as runs of one class: ids and lengths, row after row, from the upper left; a run goes on in the next row.

    Args:
        mask: uint8 (H, W) train ids.

    Returns:
        JSON values; classes are those that are seen, with their share of the mask, 0..1.
    """
    flat = mask.reshape(-1)
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(starts, append=flat.size)
    counts = np.bincount(flat[starts], lengths, minlength=256)
    seen = [_class(int(i), spec) | {"share": float(counts[i]) / flat.size} for i in np.flatnonzero(counts)]
    size = {"height": mask.shape[0], "width": mask.shape[1]}
    return {**size, "ids": flat[starts].tolist(), "lengths": lengths.tolist(), "classes": seen}


def _class(index: int, spec: ModelSpec) -> dict[str, Any]:
    if index == IGNORED:
        return {"id": index, "name": VOID}
    return {"id": index, "name": spec.classes[index].name}


def _raw(seen: Seen, asked: Asked) -> bytes:
    mask = seen.mask.tobytes()
    return mask + seen.confidence.tobytes() if asked.confidence and seen.confidence is not None else mask


def _planes(asked: Asked) -> str:
    return "ids, confidence" if asked.confidence else "ids"
