"""Alignment and uniformity (Wang and Isola 2020), and the ratios of the SDSSL paper (eqs. 7 to 9, Fig. 7).

x_i and y_i are features of two views of image i, of unit length unless asked otherwise.

    alignment           mean_i |x_i - y_i|^gamma
    uniformity          log mean_{i<j} exp(-t |x_i - x_j|^2), of each view, and the mean of the two
    negative alignment  mean_{i<j} |x_i - x_j|^gamma, of each view, and the mean of the two
    R                   negative alignment / alignment
    uniformity ratio    -uniformity / alignment

Pairs are of different images; no image is paired with itself. gamma = t = 2 as in both papers. Standard
errors are delete-one-image jackknives, from the same sums. All in float64, tile by tile.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 1024
"""Rows and columns of the distances in memory at once: 8 MiB."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """Metrics of positive and negative pairs.

    Attributes:
        metrics: name -> value; what cannot be computed is not in it.
        standard_errors: name -> standard error, for those metrics it can be computed of.
        undefined: name -> why it is not in `metrics`.
        items: per-image parts, name -> [n]: "alignment", "negative_alignment" (mean over the other
            images and both views), "view1/energy" and "view2/energy" (mean of exp(-t d^2) over the
            other images, as a multiple of the mean over all).
    """

    metrics: dict[str, float]
    standard_errors: dict[str, float]
    undefined: dict[str, str]
    items: dict[str, NDArray[np.float64]] = field(repr=False)


@dataclass(frozen=True, eq=False)
class PairSums:
    """Sums over the other images, of each image of one view.

    Attributes:
        distance: [n] sum of |x_i - x_j|^gamma.
        energy: [n] sum of exp(-t |x_i - x_j|^2 - shift).
        shift: the largest exponent, so that no sum of all vanishes.
    """

    distance: NDArray[np.float64]
    energy: NDArray[np.float64]
    shift: float


def unit(features: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of unit length, float64.

    Raises:
        ValueError: if a row is zero or not finite.
    """
    values = np.asarray(features, np.float64)
    # Twice: squares of large values would overflow, those of small ones vanish.
    largest = np.abs(values).max(1, initial=0.0, keepdims=True)
    if not np.isfinite(largest).all() or (largest == 0).any():
        raise ValueError("features must be finite and of non-zero length to be normalised")
    values = values / largest
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def pair_scores(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    gamma: float = 2.0,
    t: float = 2.0,
    tile: int = TILE,
) -> PairScores:
    """All metrics of two views [n, D] of the same n images in the same order, n >= 3.

    Raises:
        ValueError: if the shapes differ, there are fewer than 3 images, or a value is not finite.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.shape != y.shape or len(x) < 3:
        raise ValueError(f"expected two views of at least 3 images, found {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features must be finite")
    n = len(x)
    positive = np.linalg.norm(x - y, axis=1) ** gamma
    sums = [pair_sums(view, gamma=gamma, t=t, tile=tile) for view in (x, y)]
    # Row 0 is over all images, row i + 1 over all but image i.
    left_out = np.concatenate([[0.0], positive])
    sizes = np.array([n, *[n - 1] * n])
    with np.errstate(divide="ignore", invalid="ignore"):
        align = (positive.sum() - left_out) / sizes
        negative, uniform = (
            np.mean(values, axis=0)
            for values in (
                [_without_each(s.distance) for s in sums],
                [s.shift + np.log(_without_each(s.energy)) for s in sums],
            )
        )
        values = {
            "alignment": align,
            "uniformity": uniform,
            "negative_alignment": negative,
            "R": negative / align,
            "uniformity_ratio": -uniform / align,
        }
    found = {name: column for name, column in values.items() if np.isfinite(column[0])}
    errors = {name: _jackknife(column[1:]) for name, column in found.items()}
    return PairScores(
        metrics={name: float(column[0]) for name, column in found.items()},
        standard_errors={name: error for name, error in errors.items() if np.isfinite(error)},
        undefined={name: "alignment is 0" for name in values if name not in found},
        items={
            "alignment": positive,
            "negative_alignment": np.mean([s.distance for s in sums], axis=0) / (n - 1),
            **{f"view{i}/energy": s.energy / s.energy.mean() for i, s in enumerate(sums, start=1)},
        },
    )


def pair_sums(x: NDArray[np.float64], *, gamma: float, t: float, tile: int = TILE) -> PairSums:
    """Sums of one view over all pairs of different rows, with one tile of distances in memory."""
    n = len(x)
    # Distances do not change, but a mean far from zero would cost them their last digits.
    x = x - x.mean(0)
    lengths = np.einsum("ij,ij->i", x, x)
    distance, energy, shift = np.zeros(n), np.zeros(n), -np.inf
    for top in range(0, n, tile):
        rows = slice(top, min(top + tile, n))
        for start in range(top, n, tile):
            columns = slice(start, min(start + tile, n))
            squared = lengths[rows, None] + lengths[None, columns] - 2 * x[rows] @ x[columns].T
            np.maximum(squared, 0.0, out=squared)
            exponents = -t * squared
            squared **= gamma / 2
            if start == top:
                np.fill_diagonal(squared, 0.0)
                np.fill_diagonal(exponents, -np.inf)
            largest = float(exponents.max())
            if largest > shift:
                energy *= np.exp(shift - largest)
                shift = largest
            if np.isfinite(shift):
                np.exp(exponents - shift, out=exponents)
            else:
                exponents[:] = 0.0
            distance[rows] += squared.sum(1)
            energy[rows] += exponents.sum(1)
            if start != top:
                distance[columns] += squared.sum(0)
                energy[columns] += exponents.sum(0)
    return PairSums(distance, energy, shift)


def _without_each(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over pairs, [n + 1]: of all images, then without each of them."""
    n, total = len(sums), sums.sum() / 2
    whole = total / (n * (n - 1) / 2)
    return np.concatenate([[whole], (total - sums) / ((n - 1) * (n - 2) / 2)])


def _jackknife(without: NDArray[np.float64]) -> float:
    n = len(without)
    return float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
