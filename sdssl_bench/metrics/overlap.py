"""Intersection over union of class masks, from counts per image.

IoU of a class = pixels that are it and were called it, over pixels that are it or were called it, both
summed over all images (Everingham et al. 2015). mIoU is the mean over the classes that occur in the true
masks. It is no mean over images; `linearised` gives each image its part in it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def class_counts(
    predicted: NDArray[Any], true: NDArray[Any], *, num_classes: int, void: int
) -> Counts:
    """[3, C] pixels of each class in a mask: true, predicted, and both; void pixels are left out.

    Args:
        predicted: [H, W] classes 0..C-1.
        true: [H, W] classes 0..C-1, or `void`.
        num_classes: C.
        void: what stands for pixels that nobody labelled.

    Raises:
        ValueError: if the shapes differ.

    >>> class_counts(np.array([[0, 1]]), np.array([[0, 0]]), num_classes=2, void=255).tolist()
    [[2, 0], [1, 1], [1, 0]]
    """
    if predicted.shape != true.shape:
        raise ValueError(f"masks of one shape are compared, found {predicted.shape}, {true.shape}")
    known = true != void
    ours, theirs = predicted[known], true[known]
    both = theirs[ours == theirs]
    return np.stack(
        [np.bincount(ids, minlength=num_classes) for ids in (theirs, ours, both)]
    ).astype(np.int64)


def class_iou(counts: Counts) -> NDArray[np.float64]:
    """[C] IoU of each class from [N, 3, C] `class_counts`; NaN where a class occurs in no true mask."""
    true, predicted, both = counts.sum(0, dtype=np.int64)
    union = np.maximum(true + predicted - both, 1)
    return np.where(true > 0, both / union, np.nan)


def overlap_scores(counts: Counts, *, absent: str = "ignore") -> dict[str, NDArray[np.float64]]:
    """Scores [N] of images whose plain mean is mIoU, and pixel accuracy.

    Args:
        counts: [N, 3, C] `class_counts`, with at least one pixel that is not void.
        absent: what is done about a class that is in no true mask: "ignore" it, or "zero" where it was
            called, as scikit-learn's macro average of the Jaccard index does.

    >>> one = class_counts(np.array([[0, 1]]), np.array([[0, 0]]), num_classes=2, void=255)
    >>> {name: values.tolist() for name, values in overlap_scores(one[None]).items()}
    {'mIoU': [0.5], 'accuracy': [0.5]}
    """
    true, predicted, both = (counts[:, row].astype(np.float64) for row in range(3))
    present = (true if absent == "ignore" else true + predicted).sum(0) > 0
    union = (true + predicted - both)[:, present]
    return {
        "mIoU": linearised(both[:, present], union),
        "accuracy": linearised(both.sum(1, keepdims=True), true.sum(1, keepdims=True)),
    }


def linearised(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] scores of images whose mean is the mean over classes of sum(parts) / sum(wholes).

    To first order, an image that counts twice moves the metric by (its score - the metric) / N: the scores
    are the pseudo-values of the infinitesimal jackknife (Efron 1982, chapter 6), so that their spread is
    that of the metric over samples of images, and those of two encoders may be paired.

    Args:
        parts: [N, C], e.g. intersections.
        wholes: [N, C], e.g. unions; no class sums to 0.

    >>> linearised(np.array([[1.0], [0.0]]), np.array([[2.0], [2.0]])).tolist()
    [0.5, 0.0]
    """
    totals = wholes.sum(0)
    ratios = parts.sum(0) / totals
    moves = (parts - ratios * wholes) / totals
    return np.asarray(ratios.mean() + len(parts) * moves.mean(1))
