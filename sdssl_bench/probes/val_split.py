"""Validation images carved out of the training split, the same on every machine and in every run.

Where a set has official validation images those are taken. Else, within every class, the images whose
names hash lowest: no seed, no order of files, no limit moves an image from one side to the other as
long as the class holds the same images. Nothing is ever chosen on the test split.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets import ImageSet
from sdssl_bench.errors import DataError

SALT = "sdssl-bench validation split 1:"
"""Part of every hash; a new number is a new split, and then a new version of the tasks."""


def validation_mask(
    images: ImageSet, indices: NDArray[np.int64], *, fraction: float = 0.2
) -> NDArray[np.bool_]:
    """Which of the images used are validation.

    Args:
        images: the training split.
        indices: [n] dataset indices in use, ascending.
        fraction: of each class, rounded, at least one image of a class of two or more; 0.2 is
            ssl-transfer's. Not used where validation is predefined.

    Returns:
        [n] True where `indices` is validation. A class with one image keeps it for fitting.

    Raises:
        DataError: if either side would be empty, or lack every image of a class of the other side.
    """
    if images.predefined_val is not None:
        mask = np.isin(indices, images.predefined_val)
    else:
        names = [images.names[i] for i in indices.tolist()]
        mask = hashed_mask(names, images.targets[indices], fraction=fraction)
    fit, val = (np.unique(images.targets[indices[side]]) for side in (~mask, mask))
    if len(val) == 0 or len(np.setdiff1d(val, fit)):
        raise DataError(
            f"{images.dataset}: expected training images for fitting and for validation of the same "
            f"classes, found {len(fit)} classes for fitting, {len(val)} for validation, "
            f"{len(np.setdiff1d(val, fit))} in validation alone. Use a larger --limit or a complete "
            "copy of the dataset."
        )
    return mask


def hashed_mask(
    names: Sequence[str], targets: NDArray[np.int64], *, fraction: float
) -> NDArray[np.bool_]:
    """The hash rule on its own: [n] names and classes -> [n] True for validation.

    >>> hashed_mask(["a", "b", "c", "d"], np.zeros(4, np.int64), fraction=0.25).tolist()
    [False, False, True, False]
    """
    if not 0 < fraction < 1:
        raise ValueError(f"a fraction between 0 and 1 is needed, found {fraction}")
    digests = np.array([hashlib.sha256((SALT + name).encode()).hexdigest() for name in names])
    mask = np.zeros(len(names), dtype=bool)
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        if len(members) > 1:
            count = min(max(1, round(fraction * len(members))), len(members) - 1)
            mask[members[np.argsort(digests[members], kind="stable")[:count]]] = True
    return mask
