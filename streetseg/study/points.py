"""The points that ICNet's paper measures, with its figures, and which network of ours stands for each.

Source: Zhao et al. 2018, arXiv:1704.08545, first version, tables 1 to 4: Cityscapes' validation frames at 1024x2048 on
a Titan X with Caffe.
"""

from typing import NamedTuple

FRAME = (1024, 2048)
OWN, DOUBLE = (352, 480), (704, 960)  # CamVid's frames have 360x480: the nearest size, and where the weights are best
BRANCHES = ("icnet-sub4", "icnet-sub24", "icnet")
SCALE, STRIDE, KERNELS, BRANCH, WIDTH = (
    "input scale", "feature stride", "kernels kept", "ICNet's branches", "ICNet's width",
)  # fmt: skip


class Published(NamedTuple):
    """The paper's figures of a point; `checked` is False where they were not found again in a copy of its tables."""

    miou: float  # percent
    ms: float
    checked: bool = True


class Point(NamedTuple):
    """One step of the study: a network at a size. `width` is that of an ICNet with random weights."""

    series: str
    step: str
    model: str
    size: tuple[int, int] = FRAME
    published: Published | None = None
    width: int | None = None

    @property
    def name(self) -> str:
        """Of its own in the study."""
        width = f"-width{self.width}" if self.width else ""
        return f"{self.model}{width}-{self.size[0]}x{self.size[1]}"

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the frames it is timed on: smaller ones where ICNet's branches are compared on CamVid."""
        return self.size if self.series == BRANCH else FRAME


FULL = Published(71.7, 446)
STUDY = (
    Point(SCALE, "1", "pspnet50-sum", FRAME, FULL),
    Point(SCALE, "1/2", "pspnet50-sum", (512, 1024), Published(68.4, 123, checked=False)),
    Point(SCALE, "1/4", "pspnet50-sum", (256, 512), Published(60.7, 42, checked=False)),
    Point(STRIDE, "16", "pspnet50-sum-os16", FRAME, Published(70.2, 177)),
    Point(STRIDE, "32", "pspnet50-sum-os32", FRAME, Published(67.1, 131)),
    Point(KERNELS, "1/2", "pspnet50-sum-half", FRAME, Published(67.9, 170)),
    Point(KERNELS, "1/4", "pspnet50-sum-quarter", FRAME, Published(59.4, 72)),
    Point(BRANCH, "sub4", "icnet-sub4", FRAME, Published(59.6, 18)),
    Point(BRANCH, "sub24", "icnet-sub24", FRAME, Published(66.5, 25)),
    Point(BRANCH, "sub124", "icnet", FRAME, Published(67.7, 33)),
    Point(WIDTH, "all", "icnet", FRAME, None, 64),
    Point(WIDTH, "3/4", "icnet", FRAME, None, 48),
)
BESIDE_PLAIN = tuple(point for point in STUDY if point.published)  # beside OpenVINO as it comes
# Where the cascade's gain is measured beside its cost: the shipped weights on CamVid's frames.
CASCADE = tuple(
    Point(BRANCH, model.removeprefix("icnet-").replace("icnet", "sub124"), model, size)
    for size in (OWN, DOUBLE)
    for model in BRANCHES
)
