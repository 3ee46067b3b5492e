"""The picture of README: the bundled street frame, the same under its classes' colours, and what the colours mean.

`python docs/picture.py ENGINE docs/images/street.jpg`, with an engine of the size where the shipped weights are worth
most: `make engine MODEL=icnet PRECISION=fp16 SIZE=704x960`.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runtime import newest_engine, open_backend, read_frame
from runtime.artifacts import write_atomically
from runtime.cli import DONE, run
from runtime.labels import Label, cityscapes_colors, palette
from runtime.reference import resize_frame
from runtime.samples import STREET

TIMES = 2  # the frame is enlarged: README shows it wider than its 480 pixels
ALPHA = 0.55
GAP_PX, LEGEND_PX, SWATCH_PX, FONT_PX = 8, 64, 26, 27
QUALITY = 88


def picture(frame: np.ndarray, overlay: np.ndarray, classes: tuple[Label, ...], seen: Sequence[int]) -> Image.Image:
    """Frame and overlay side by side, the classes that are seen below, in the order of their ids.

    Args:
        frame: uint8 (H, W, 3) RGB.
        overlay: as the frame.
        classes: all of the network's.
        seen: ids to name.
    """
    height, width, _ = frame.shape
    image = Image.new("RGB", (2 * width + GAP_PX, height + LEGEND_PX), "white")
    image.paste(Image.fromarray(frame), (0, 0))
    image.paste(Image.fromarray(overlay), (width + GAP_PX, 0))
    _legend(ImageDraw.Draw(image), image.width, height, tuple(classes[index] for index in seen))
    return image


def _legend(draw: ImageDraw.ImageDraw, width: int, top: int, classes: tuple[Label, ...]) -> None:
    font = ImageFont.load_default(FONT_PX)
    widths = [SWATCH_PX + 8 + draw.textlength(one.name, font) for one in classes]
    gap = (width - sum(widths)) / (len(widths) + 1)
    left, middle = gap, top + LEGEND_PX // 2 + 2
    for one, wide in zip(classes, widths, strict=True):
        box = (left, middle - SWATCH_PX / 2, left + SWATCH_PX, middle + SWATCH_PX / 2)
        draw.rounded_rectangle(box, 5, fill=tuple(one.color))
        draw.text((left + SWATCH_PX + 8, middle), one.name, "#202020", font, anchor="lm")
        left += wide + gap


def main(argv: Sequence[str]) -> int:
    """Write the picture.

    Raises:
        PipelineError: the engine cannot be opened, or the file not be written.
    """
    parser = argparse.ArgumentParser(prog="python docs/picture.py", description=__doc__)
    parser.add_argument("engine", type=Path, nargs="?", help="by default the newest of this machine")
    parser.add_argument("output", type=Path, help="a .jpg")
    options = parser.parse_args(argv)
    frame = read_frame(STREET)
    frame = resize_frame(frame, TIMES * frame.shape[0], TIMES * frame.shape[1])
    with open_backend(options.engine or newest_engine()) as segmenter:
        classes = cityscapes_colors(segmenter.spec.classes)  # as `make demo` shows them
        mask, overlay = segmenter.overlay(frame, palette(classes), ALPHA)
    seen = [int(index) for index in np.unique(mask) if index < len(classes)]
    data = io.BytesIO()
    picture(frame, overlay, classes, seen).save(data, "JPEG", quality=QUALITY, optimize=True)
    write_atomically(options.output, data.getvalue())
    return DONE


if __name__ == "__main__":
    run(main)
