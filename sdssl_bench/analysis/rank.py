"""How many directions features fill: RankMe and the effective rank.

Both are exp(H(p)), H the entropy in nats, of the singular values' shares p_k = sigma_k / sum(sigma):

    RankMe          of the features as they are, p_k + 1e-7 in the sum  (Garrido et al. 2023, eq. 2)
    effective rank  of the centred features, 0 log 0 = 0                (Roy and Vetterli 2007)

A class token has a large mean, which fills one direction: RankMe counts it, the centred one does not.
Neither exceeds min(n, D), so only numbers of equal n compare. Singular values come from triangular factors
of blocks of rows, which keeps the small ones; squaring the features would lose them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

RANKME_EPSILON = 1e-7
"""Garrido et al. 2023."""
BLOCK = 4096


def singular_values(
    features: NDArray[Any], *, centred: bool = False, block: int = BLOCK
) -> NDArray[np.float64]:
    """[min(n, D)] singular values of features [n, D], largest first, in float64.

    Args:
        features: [n, D].
        centred: whether to subtract the mean row first.
        block: rows in float64 at once.
    """
    n, width = features.shape
    mean = np.zeros(width)
    if centred:
        total = np.zeros(width)
        for start in range(0, n, block):
            total += np.asarray(features[start : start + block], np.float64).sum(0)
        mean = total / n
    factor = np.zeros((0, width))
    for start in range(0, n, block):
        rows = np.asarray(features[start : start + block], np.float64) - mean
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, rows]), mode="r"))
    return np.asarray(np.linalg.svd(factor, compute_uv=False))


def rankme(values: NDArray[np.float64]) -> float:
    """RankMe of singular values.

    Raises:
        ValueError: if all are zero.

    >>> round(rankme(np.ones(8)), 3)
    8.0
    """
    shares = _shares(values) + RANKME_EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


def effective_rank(values: NDArray[np.float64]) -> float:
    """Effective rank of singular values.

    Raises:
        ValueError: if all are zero.

    >>> effective_rank(np.array([3.0, 0.0, 0.0]))
    1.0
    """
    shares = _shares(values)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = values.sum()
    if not total > 0:
        raise ValueError("the rank of features that are all zero is not defined")
    return np.asarray(values / total)
