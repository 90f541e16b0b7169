"""Maps of features in the plane by t-SNE (van der Maaten and Hinton 2008), and numbers beside them.

Principal components first (50), t-SNE by scikit-learn's Barnes-Hut on them, started from the first two.
A map is a picture and no measurement: beside it stand the silhouette of the features themselves, and
silhouette and purity of the map. One thread and a fixed seed: the same features give the same map on the
same machine; elsewhere other rounding leads to another, equally valid one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.analysis.cka import centred

MIN_IMAGES = 8
"""Fewer points have no neighbourhoods that a perplexity could describe."""

START_SPREAD = 1e-4
"""Standard deviation of the first coordinates before the descent; scikit-learn, openTSNE."""


@dataclass(frozen=True, eq=False)
class Map:
    """A t-SNE map.

    Attributes:
        points: [m, 2] float32.
        divergence: Kullback-Leibler divergence that was reached; comparable at equal m and perplexity.
    """

    points: NDArray[np.float32]
    divergence: float


def principal_components(features: NDArray[Any], count: int) -> NDArray[np.float64]:
    """[m, min(count, m, D)] coordinates of features [m, D] along their principal axes, largest first.

    Zeros where the features differ by rounding alone. Signs are fixed: of each axis, the entry of
    largest magnitude is positive.
    """
    left, spread, axes = np.linalg.svd(centred(features), full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)[:, 0]
    return np.asarray((left * spread * np.where(largest < 0, -1.0, 1.0))[:, :count])


def fitting_perplexity(perplexity: float, count: int) -> float:
    """The perplexity, or what `count` points allow: a third of the other points.

    >>> fitting_perplexity(30, 500), fitting_perplexity(30, 31)
    (30, 10.0)
    """
    return min(perplexity, (count - 1) / 3)


def tsne_map(
    features: NDArray[Any],
    *,
    perplexity: float = 30.0,
    components: int = 50,
    iterations: int = 1000,
    seed: int = 0,
) -> Map:
    """The map of features [m, D].

    Args:
        features: m >= 8 rows that are not all equal.
        perplexity: effective number of neighbours, below m.
        components: principal components that t-SNE sees.
        iterations: of gradient descent.
        seed: of t-SNE.

    Raises:
        ValueError: if there are too few rows or all are equal.
    """
    if len(features) < MIN_IMAGES:
        raise ValueError(f"t-SNE needs at least {MIN_IMAGES} images, found {len(features)}")
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the order of sums over threads would move every point
        coordinates = principal_components(features, components)
        spread = coordinates[:, 0].std()
        if not spread > 0:
            raise ValueError("t-SNE needs features that differ")
        start = np.zeros((len(features), 2), np.float32)
        start[:, : min(2, coordinates.shape[1])] = coordinates[:, :2] / spread * START_SPREAD
        model = TSNE(
            perplexity=perplexity,
            init=start,
            learning_rate="auto",
            max_iter=iterations,
            random_state=seed,
            n_jobs=1,
        )
        points = model.fit_transform((coordinates / spread).astype(np.float32))
    return Map(np.asarray(points, np.float32), float(model.kl_divergence_))


def purity(points: NDArray[Any], targets: NDArray[np.int64], *, k: int = 10) -> float:
    """Share of the k nearest other points that are of a point's own class; equal distances by row.

    Args:
        points: [m, D].
        targets: [m] classes.
        k: neighbours, below m.
    """
    values = np.asarray(points, np.float64)
    values = values - values.mean(0)
    lengths = np.einsum("ij,ij->i", values, values)
    hits = 0
    for start in range(0, len(values), 1024):
        rows = np.arange(start, min(start + 1024, len(values)))
        squared = lengths[rows, None] + lengths[None] - 2 * values[rows] @ values.T
        squared[np.arange(len(rows)), rows] = np.inf
        nearest = np.argsort(squared, axis=1, kind="stable")[:, :k]
        hits += int((targets[nearest] == targets[rows, None]).sum())
    return hits / (len(values) * k)


def silhouette(points: NDArray[Any], targets: NDArray[np.int64], *, metric: str) -> float:
    """Mean silhouette (Rousseeuw 1987) of the classes, in [-1, 1].

    Args:
        points: [m, D].
        targets: [m] classes, at least two and fewer than m of them.
        metric: "euclidean" or "cosine".
    """
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(np.asarray(points, np.float64), targets, metric=metric))
