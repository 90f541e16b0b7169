"""Linear centred kernel alignment (CKA) of sets of features of the same images.

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)),   K = X X', L = Y Y'

`minibatch_cka` takes the unbiased HSIC of Song et al. (2012), averages numerator and denominators each over
batches (Nguyen et al. 2021) and divides once: a mean of the batches' CKAs would be biased. The unbiased HSIC
is the inner product of U-centred Gram matrices (Szekely and Rizzo 2014), summed here in float64:

    HSIC1 = <K*, L*> / (n (n - 3)),   K*_ij = K_ij - (r_i + r_j) / (n - 2) + s / ((n - 1)(n - 2)),   i != j

with r the row sums and s the sum of K, whose diagonal is set to zero, as is that of K*.
`biased_cka` is the feature form of Kornblith et al. (2019), |Y'X|^2 / (|X'X| |Y'Y|) with centred columns,
which needs no Gram matrix and is too high unless there are many more images than channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYER_METRIC = "cka/layer"
"""How names of metrics begin that hold the CKA with a layer; its number follows."""
MIN_IMAGES = 4
"""The unbiased HSIC divides by n - 3."""

ROUNDING = 1e-6
"""Deviations below this share of the largest value are rounding of float32 features."""
ROWS = 8_192
"""Rows that `biased_cka` holds in float64 at a time; fewer are taken at once."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """CKA of every feature set of one list with every one of another.

    Attributes:
        values: [A, B]; NaN where one of the two is constant, so that nothing can be said.
        standard_errors: [A, B] delete-one-batch jackknife; NaN with fewer than two batches.
    """

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]


def metric_name(layer: int) -> str:
    """Name of the metric that holds the CKA with a layer.

    >>> metric_name(7)
    'cka/layer07'
    """
    return f"{LAYER_METRIC}{layer:02d}"


def random_batches(count: int, size: int, *, seed: int) -> list[NDArray[np.int64]]:
    """Rows 0..count-1 in random batches of equal length (to one row), at most `size` long.

    Images are stored class by class; only random batches are samples of the whole.

    Raises:
        ValueError: if there are fewer than four rows, or a batch would be shorter.

    >>> [len(batch) for batch in random_batches(20, 8, seed=0)]
    [7, 7, 6]
    """
    number = -(-count // size) if size > 0 else 0
    if number < 1 or count // number < MIN_IMAGES:
        raise ValueError(
            f"an unbiased HSIC needs batches of at least {MIN_IMAGES} images, found {count} images "
            f"in batches of {size}"
        )
    order = np.random.default_rng(seed).permutation(count).astype(np.int64)
    return np.array_split(order, number)


def minibatch_cka(
    first: Sequence[NDArray[Any]],
    second: Sequence[NDArray[Any]] | None,
    batches: Sequence[NDArray[np.int64]],
) -> Similarity:
    """Unbiased linear CKA of all pairs, from one walk over the batches.

    Args:
        first: A feature sets [N, D_a] of the same N images in the same order.
        second: B further ones; None compares `first` with itself: a symmetric matrix, diagonal 1.
        batches: rows of each batch, at least four.

    Returns:
        Values in [-1, 1]: an estimate without bias falls below 0 as often as above for unrelated features.
    """
    inner: list[NDArray[np.float64]] = []
    squares: list[list[NDArray[np.float64]]] = []
    for rows in batches:
        scale = len(rows) * (len(rows) - 3)
        sides = [
            np.stack([u_centred(features[rows]).ravel() for features in side])
            for side in (first, second)
            if side is not None
        ]
        inner.append(sides[0] @ sides[-1].T / scale)
        squares.append([np.einsum("ij,ij->i", side, side) / scale for side in sides])
    numerators = np.stack(inner)
    left, right = (np.stack([part[i] for part in squares]) for i in (0, -1))
    values = _ratio(numerators.mean(0), left.mean(0), right.mean(0))
    errors = np.full_like(values, np.nan)
    if len(batches) > 1:
        without = _ratio(*(_leave_one_out(part) for part in (numerators, left, right)))
        spread = ((without - without.mean(0)) ** 2).sum(0)
        errors = np.sqrt(spread * (len(batches) - 1) / len(batches))
    if second is None:
        values, errors = _symmetric(values, 1.0), _symmetric(errors, 0.0)
    return Similarity(values, errors)


def biased_cka(
    first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]] | None
) -> NDArray[np.float64]:
    """[A, B] linear CKA of all pairs over all images at once, with the biased HSIC; see `minibatch_cka`.

    Returns:
        Values in [0, 1]; NaN where a feature set is constant.
    """
    sets, size = [*first, *(second or ())], len(first)
    columns = range(size) if second is None else range(size, len(sets))
    pairs = {(i, j) for i in range(size) for j in columns if i < j}
    norms = _square_norms(sets, sorted(pairs | {(i, i) for i in range(len(sets))}))
    inner = np.array([[norms[min(i, j), max(i, j)] for j in columns] for i in range(size)])
    left, right = (np.array([norms[i, i] for i in side]) for side in (range(size), columns))
    values = _ratio(inner, left, right)
    return _symmetric(values, 1.0) if second is None else values


def _square_norms(
    sets: Sequence[NDArray[Any]], pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], float]:
    """|x'y|^2 of centred feature sets x and y, by blocks of rows: memory does not grow with these."""
    blocks = [slice(start, start + ROWS) for start in range(0, len(sets[0]), ROWS)]
    means = [
        sum(np.asarray(one[block], np.float64).sum(0) for block in blocks) / len(one)
        for one in sets
    ]
    largest, spread = np.zeros(len(sets)), np.zeros(len(sets))
    products: dict[tuple[int, int], NDArray[np.float64]] = {}
    for block in blocks:
        values = [np.asarray(one[block], np.float64) for one in sets]
        rows = [value - mean for value, mean in zip(values, means, strict=True)]
        largest = np.maximum(largest, [np.abs(value).max(initial=0.0) for value in values])
        spread = np.maximum(spread, [np.abs(row).max(initial=0.0) for row in rows])
        for i, j in pairs:
            product = rows[i].T @ rows[j]
            products[i, j] = products[i, j] + product if (i, j) in products else product
    constant = spread <= ROUNDING * largest
    return {
        (i, j): 0.0 if constant[i] or constant[j] else float(np.vdot(product, product))
        for (i, j), product in products.items()
    }


def u_centred(features: NDArray[Any]) -> NDArray[np.float64]:
    """[n, n] U-centred linear Gram matrix of features [n, D]; zeros if they are constant.

    Every row sums to zero, as does the diagonal; the inner product of two such matrices is
    n (n - 3) times the unbiased HSIC.
    """
    n = len(features)
    rows = centred(features)  # changes nothing but the rounding: a large mean would swamp the rest
    gram = rows @ rows.T
    np.fill_diagonal(gram, 0.0)
    sums = gram.sum(1)
    gram -= (sums[:, None] + sums[None, :]) / (n - 2) - sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(gram, 0.0)
    return np.asarray(gram)


def centred(features: NDArray[Any]) -> NDArray[np.float64]:
    """Float64 features [n, D] minus their mean; exact zeros where they differ by rounding alone."""
    values = np.asarray(features, np.float64)
    rows = values - values.mean(0)
    if np.abs(rows).max(initial=0.0) <= ROUNDING * np.abs(values).max(initial=0.0):
        return np.zeros_like(rows)
    return np.asarray(rows)


def _ratio(
    inner: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    # Roots of each factor, since their product can underflow.
    below = np.sqrt(left)[..., :, None] * np.sqrt(right)[..., None, :]
    values = np.full_like(inner, np.nan)
    np.divide(inner, below, out=values, where=below > 0)
    return values


def _leave_one_out(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over all batches but one, for each of them in turn."""
    return np.asarray((parts.sum(0) - parts) / (len(parts) - 1))


def _symmetric(values: NDArray[np.float64], diagonal: float) -> NDArray[np.float64]:
    """The upper triangle on both sides, to the bit."""
    upper = np.triu(values, 1)
    kept = np.where(np.isnan(np.diag(values)), np.nan, diagonal)
    return np.asarray(upper + upper.T + np.diag(kept))
