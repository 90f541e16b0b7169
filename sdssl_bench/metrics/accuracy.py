"""Accuracy, as pure functions of arrays. Values are fractions; x100 happens only in tables.

N items, C classes. Ties are broken by the lower class id, so that no backend can move a score.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def class_ranks(values: NDArray[Any], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes come before the true one, best value first, equal values by class id.

    Args:
        values: [N, C] votes, logits or probabilities.
        targets: [N] true classes in 0..C-1.

    Returns:
        [N]; 0 where np.argmax is right, below k where the true class is among the first k.

    >>> class_ranks(np.array([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0]]), np.array([2, 1]))
    array([1, 1])
    """
    true = np.take_along_axis(values, targets[:, None], axis=1)
    ahead = (values > true) | ((values == true) & (np.arange(values.shape[1]) < targets[:, None]))
    return np.asarray(np.count_nonzero(ahead, axis=1), np.int64)


def top1_accuracy(values: NDArray[Any], targets: NDArray[np.int64]) -> float:
    """Fraction of items whose best class is the true one; arguments as for `class_ranks`.

    >>> top1_accuracy(np.array([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0]]), np.array([1, 1]))
    0.5
    """
    return topk_accuracy(values, targets, k=1)


def topk_accuracy(values: NDArray[Any], targets: NDArray[np.int64], *, k: int) -> float:
    """Fraction of items whose true class is among the first k; arguments as for `class_ranks`.

    Raises:
        ValueError: if there are no items, or non-finite values.
    """
    if len(targets) == 0:
        raise ValueError("accuracy of no items is undefined")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite: NaN compares with nothing and would rank first")
    return float(np.mean(class_ranks(values, targets) < k))


def mean_per_class(
    correct: NDArray[np.bool_],
    targets: NDArray[np.int64],
    *,
    num_classes: int,
    classes: ArrayLike | None = None,
) -> float:
    """Mean over classes of the accuracy within each class, so that rare classes weigh the same.

    Args:
        correct: [N] whether each item was classified correctly.
        targets: [N] true classes in 0..C-1.
        num_classes: C.
        classes: the classes to average over, for partial test sets; None is all C.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: if one of those classes has no item, or an item is of none of them.

    >>> mean_per_class(np.array([1, 1, 0, 0], bool), np.array([0, 0, 0, 1]), num_classes=2)
    0.3333333333333333
    """
    wanted = np.arange(num_classes) if classes is None else np.unique(np.asarray(classes))
    counts = np.bincount(targets, minlength=num_classes)
    if len(counts) > num_classes:
        raise ValueError(f"targets must be below {num_classes}, found {targets.max()}")
    empty = wanted[counts[wanted] == 0]
    if len(empty) or len(wanted) == 0:
        raise ValueError(
            f"every class needs a test item; without one: {', '.join(map(str, empty[:20])) or 'all'}"
        )
    if counts[wanted].sum() != len(targets):
        raise ValueError("some items are of classes that are not averaged over")
    hits = np.bincount(targets, weights=correct, minlength=num_classes)
    return float(np.mean(hits[wanted] / counts[wanted]))
