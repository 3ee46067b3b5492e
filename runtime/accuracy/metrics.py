"""What masks are worth against labels: the confusion matrix, and the figures that follow from it.

Source: mcordts/cityscapesScripts 2.3.0, evaluation/evalPixelLevelSemanticLabeling.py, getIouScoreForLabel and
getScoreAverage.
"""

import numpy as np


def confusion(mask: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by their label (row) and their mask (column); those whose label does not count are left out.

    Args:
        mask: uint8 (H, W) train ids, all of them classes.
        label: uint8 (H, W) train ids, `runtime.labels.IGNORED` where a pixel does not count.
        classes: how many there are.

    Returns:
        int64 (classes, classes).

    Raises:
        ValueError: their sizes differ, or the mask holds a value that is no class.
    """
    if mask.shape != label.shape:
        raise ValueError(f"the mask is {mask.shape}, its label {label.shape}")
    if mask.max() >= classes:
        raise ValueError(f"the mask holds {mask.max()}, there are {classes} classes")
    counted = label < classes
    joint = label[counted].astype(np.intp) * classes + mask[counted]
    return np.bincount(joint, minlength=classes**2).reshape(classes, classes).astype(np.int64, copy=False)


def confusion_by_confidence(mask: np.ndarray, label: np.ndarray, confidence: np.ndarray, classes: int) -> np.ndarray:
    """`confusion` of the pixels of each confidence: the sum from one on is that of what is not void below it.

    Args:
        mask: uint8 (H, W) train ids, all of them classes.
        label: as in `confusion`.
        confidence: uint8 (H, W).
        classes: how many there are.

    Returns:
        int64 (256, classes, classes).
    """
    counted = label < classes
    joint = (confidence[counted].astype(np.intp) * classes + label[counted]) * classes + mask[counted]
    return np.bincount(joint, minlength=256 * classes**2).reshape(256, classes, classes).astype(np.int64, copy=False)


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class; NaN for a class that neither the labels nor the masks hold.

    Args:
        matrix: int64 (C, C), `confusion` summed over frames.

    Returns:
        float64 (C,), 0..1.
    """
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    shares = np.full(len(hits), np.nan)
    np.divide(hits, union, out=shares, where=union > 0)
    return shares


def mean_iou(matrix: np.ndarray) -> float:
    """The mean of `iou` over the classes that have one; NaN where none has.

    Args:
        matrix: int64 (C, C).
    """
    known = iou(matrix)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")


def pixel_accuracy(matrix: np.ndarray) -> float:
    """The share of the counted pixels whose class is their label's; NaN where no pixel counts.

    Args:
        matrix: int64 (C, C).
    """
    counted = matrix.sum()
    return float(np.trace(matrix) / counted) if counted else float("nan")
