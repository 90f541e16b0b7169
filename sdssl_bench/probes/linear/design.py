"""The rows of one layer as the logistic-regression solver sees them: centred, decorrelated, plus a one.

The objective of logistic regression with a free bias does not change when features are shifted, nor
when they are rotated, if the weights are rotated back. In the eigenbasis of their covariance the
curvature of the loss is close to diagonal, which is what makes the solver's preconditioner good.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdssl_bench.errors import TaskError

RESIDENT_BYTES = 6 * 2**30
"""Rows of all layers up to this size are kept in memory as float32; larger banks are streamed."""
CHUNK_ROWS = 16384
"""Rows read at a time when a bank is streamed or its covariance is summed."""


class Rows(Protocol):
    """What can be read row by row: an array, a memory map, a tensor, or several arrays joined."""

    @property
    def shape(self) -> Any:
        """[M, D]."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any: ...


class Design:
    """[N, D + 1] rows (x - mean) V and a one, V the eigenvectors of the covariance of x.

    Attributes:
        num_rows: N.
        width: D.
        curvature: [D + 1] variance along each column; 1 for the column of ones.
        resident: whether the transformed rows are kept in memory.
    """

    def __init__(
        self,
        features: Rows,
        rows: NDArray[np.int64] | None = None,
        *,
        device: str = "cpu",
        resident: bool = True,
    ) -> None:
        """Reads the rows twice: for the mean and covariance, and to transform them if resident.

        Args:
            features: [M, D] array or memory map, any float type.
            rows: which of the M rows, ascending; None is all.
            device: torch device of all products.
            resident: keep the transformed rows; False reads and transforms them in every pass.

        Raises:
            TaskError: if a feature is not finite.
        """
        self._features = features
        self._rows = rows
        self._device = torch.device(device)
        self.num_rows = len(features) if rows is None else len(rows)
        self.width = int(features.shape[1])
        self._mean, values, self._basis = self._moments()
        one = torch.ones(1, dtype=torch.float64, device=self._device)
        self.curvature = torch.cat([values.clamp(min=0.0), one]).float()
        self.resident = False
        self._kept = self._transform_all() if resident else None
        self.resident = resident

    def chunks(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """The rows in order, at most `size` at a time: (which rows, [n, D + 1] float32)."""
        for start in range(0, self.num_rows, size):
            part = slice(start, min(start + size, self.num_rows))
            yield part, (self._transform(part) if self._kept is None else self._kept[part])

    def to_features(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights for the columns -> (weights for the features, bias).

        Args:
            weights: [..., D + 1, C] float32.

        Returns:
            [..., D, C] and [..., C] with features @ w + b = columns @ weights.
        """
        rotated = self._basis @ weights[..., :-1, :].double()
        bias = weights[..., -1, :].double() - (self._mean[:, None] * rotated).sum(-2)
        return rotated.float(), bias.float()

    def from_features(self, weights: Tensor, bias: Tensor) -> Tensor:
        """The inverse of `to_features`: [..., D, C] and [..., C] -> [..., D + 1, C]."""
        shifted = bias.double() + (self._mean[:, None] * weights.double()).sum(-2)
        rotated = self._basis.T @ weights.double()
        return torch.cat([rotated, shifted[..., None, :]], -2).float()

    def _read(self, part: slice) -> Tensor:
        where = part if self._rows is None else self._rows[part]
        raw = self._features[where]
        tensor = raw if isinstance(raw, Tensor) else torch.from_numpy(np.array(raw))
        return tensor.to(self._device)

    def _moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean [D], eigenvalues [D] and eigenvectors [D, D] of the covariance, in float64."""
        total = torch.zeros(self.width, dtype=torch.float64, device=self._device)
        products = torch.outer(total, total)
        for start in range(0, self.num_rows, CHUNK_ROWS):
            chunk = self._read(slice(start, min(start + CHUNK_ROWS, self.num_rows))).double()
            total += chunk.sum(0)
            products += chunk.T @ chunk
        if not torch.isfinite(total).all():
            raise TaskError(
                "Features are not finite, so no linear probe can be fitted on them. Check the "
                "checkpoint with 'sdssl-bench doctor', or run with --dtype float32."
            )
        mean = total / self.num_rows
        covariance = products / self.num_rows - torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(covariance)
        return mean, values, vectors

    def _transform(self, part: slice) -> Tensor:
        # Centred before the product and in float32: the mean may dwarf the spread.
        centred = (self._read(part).double() - self._mean).float()
        return torch.nn.functional.pad(centred @ self._basis.float(), (0, 1), value=1.0)

    def _transform_all(self) -> Tensor:
        kept = torch.empty(self.num_rows, self.width + 1, device=self._device)
        for part, chunk in self.chunks_of_features(CHUNK_ROWS):
            kept[part] = chunk
        return kept

    def chunks_of_features(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """As `chunks`, always from the bank."""
        for start in range(0, self.num_rows, size):
            part = slice(start, min(start + size, self.num_rows))
            yield part, self._transform(part)


def fits_in_memory(num_rows: int, widths: Sequence[int]) -> bool:
    """Whether the transformed rows of layers of these widths may be kept."""
    return 4 * num_rows * sum(width + 1 for width in widths) <= RESIDENT_BYTES
