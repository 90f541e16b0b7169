"""PCA whitening of features, learnt on one set of images and applied to others.

DINO's copy detection subtracts the mean but takes the second moment of the features as they were
before; `centred` is the covariance, which statistics asks for. Both keep all dimensions and floor the
eigenvalues at 1e-5 of the largest. All sums are in float64: at that floor, float32 sums would leave
no correct digit in the smallest directions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import TaskError, UsageError, did_you_mean

PRESETS = ("dino", "centred")
"""dino: un-centred second moment (facebookresearch/dino). centred: covariance."""
FLOOR = 1e-5
"""Smallest eigenvalue as a fraction of the largest; facebookresearch/dino."""
BLOCK_ROWS = 4096
"""Rows converted to float64 at a time."""

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Whitening:
    """The map v -> matrix (v - mean).

    Attributes:
        mean: [D] float64.
        matrix: [D, D] float64, rows by descending eigenvalue.
        num_floored: directions whose eigenvalue was raised to the floor.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]
    num_floored: int

    def apply(self, features: Features) -> NDArray[np.float32]:
        """[N, D] whitened rows, not normalised; cosines are taken of them."""
        out = np.empty(features.shape, np.float32)
        for start in range(0, len(features), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            block = features[rows].astype(np.float64)
            block -= self.mean
            out[rows] = block @ self.matrix.T
        return out


def fit_whitening(features: Features, preset: str = "dino", *, floor: float = FLOOR) -> Whitening:
    """Whitening learnt from rows, streamed: a memory-mapped bank never has to fit.

    Args:
        features: [N, D], not normalised.
        preset: one of PRESETS.
        floor: smallest eigenvalue relative to the largest.

    Raises:
        UsageError: for an unknown preset or fewer than two rows.
        TaskError: for features that are not finite, or all zero (all equal, if centred).
    """
    if preset not in PRESETS:
        raise UsageError(did_you_mean("whitening", preset, PRESETS))
    if len(features) < 2:
        raise UsageError(f"Whitening is learnt from at least 2 vectors, found {len(features)}.")
    mean = np.zeros(features.shape[1])
    for block in _blocks(features):
        mean += block.sum(0)
    mean /= len(features)
    if not np.isfinite(mean).all():
        raise TaskError("Whitening: features must be finite, found NaN or infinity.")
    moment = np.zeros((len(mean), len(mean)))
    for block in _blocks(features):
        if preset == "centred":
            block -= mean
        moment += block.T @ block
    moment /= len(features)
    values, vectors = np.linalg.eigh(moment)
    # The trace bounds the eigenvalues: below its rounding error there is no direction to whiten.
    if values[-1] <= np.finfo(np.float64).eps * max(float(mean @ mean), np.finfo(np.float64).tiny):
        raise TaskError(
            "Whitening: expected features that differ from image to image, found "
            f"{len(features)} equal ones."
        )
    lowest = floor * values[-1]
    floored = values < lowest
    scaled = vectors / np.sqrt(np.where(floored, lowest, values))
    return Whitening(mean, np.ascontiguousarray(scaled[:, ::-1].T), int(floored.sum()))


def _blocks(features: Features) -> Iterator[NDArray[np.float64]]:
    """float64 copies of BLOCK_ROWS rows at a time."""
    for start in range(0, len(features), BLOCK_ROWS):
        yield features[start : start + BLOCK_ROWS].astype(np.float64)
