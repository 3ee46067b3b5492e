"""Frames with labels on disk, in the layouts of the data sets."""

from pathlib import Path

import cv2
import numpy as np


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Integers 0..255, (H, W) or (H, W, 3) RGB, as a PNG of 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pixels.astype(np.uint8)
    assert cv2.imwrite(str(path), stored[..., ::-1] if stored.ndim == 3 else stored)


def write_pair(root: Path, name: str, frame: np.ndarray, label: np.ndarray, *, split: str = "val") -> None:
    """As CamVid's folders, and a user's own, hold them."""
    write_image(root / split / f"{name}.png", frame)
    write_image(root / f"{split}annot" / f"{name}.png", label)


def write_city_pair(root: Path, name: str, frame: np.ndarray, label_ids: np.ndarray, *, split: str = "val") -> None:
    """As Cityscapes' folders hold them; the name is `<city>_<sequence>_<frame>`."""
    city = name.split("_")[0]
    write_image(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", frame)
    write_image(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", label_ids)
