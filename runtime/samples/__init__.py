"""A street frame to try things on, and its labels; README.md beside them says whose they are."""

from pathlib import Path

STREET = Path(__file__).with_name("street.jpg")  # (360, 480) RGB: what demonstrations, checks and figures are made on
STREET_LABEL = Path(__file__).with_name("street_label.png")  # uint8 train ids of `runtime.labels.CAMVID`, 255: no class
