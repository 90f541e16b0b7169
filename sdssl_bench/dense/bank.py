"""The bank of labelled patches of a layer, and where its neighbours are sought.

Patches are compared as they are or standardised (capi), by their angle or by their distance. The search
knows angles only, so distances become angles: of rows [z, -|z|^2 / 2, c] that c makes equally long, the one
at the least angle to [q, 1, 0] is the one whose z is nearest to q.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdssl_bench.dense.blocks import Blocks
from sdssl_bench.dense.settings import Settings
from sdssl_bench.errors import TaskError
from sdssl_bench.neighbors import top_k

Features = NDArray[Any]


@dataclass(frozen=True)
class Space:
    """Where patches are compared.

    Attributes:
        distance: "cosine" or "euclidean".
        mean: [D] that is subtracted, if features are standardised.
        scale: [D] that the rest is divided by.
        reach: largest |z|^2 + |z|^4 / 4 of the bank's rows, where distances are asked for.
    """

    distance: str
    mean: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    reach: float = 0.0

    def standardised(self, rows: Features) -> Features:
        """[n, D] float32, or the rows as they are."""
        if self.mean is None or self.scale is None:
            return rows
        return ((rows - self.mean) / self.scale).astype(np.float32)

    def bank_rows(self, rows: Features) -> Features:
        """[n, E] rows of the bank [n, D], as they are searched."""
        rows = self.standardised(rows)
        if self.distance == "cosine":
            return rows
        squares = _squares(rows)
        # In float64: next to the squares of long rows float32 would lose their differences.
        rest = np.sqrt(np.maximum(self.reach - squares - squares**2 / 4, 0))
        return np.column_stack([rows.astype(np.float64), -squares / 2, rest])

    def queries(self, rows: Features) -> Features:
        """[n, E] of queries [n, D]."""
        rows = self.standardised(rows)
        if self.distance == "cosine":
            return rows
        return np.column_stack([rows.astype(np.float64), np.ones(len(rows)), np.zeros(len(rows))])


Moments = tuple[NDArray[np.float64], NDArray[np.float64]]


def moments_of(parts: Iterable[Features]) -> Moments | None:
    """Mean [D] and deviation [D] of the rows of all parts [n, D]; None without any.

    The deviation of a feature that is constant is 1, as by scikit-learn's StandardScaler.
    """
    count, shift, sums, squares = 0, np.zeros(()), np.zeros(()), np.zeros(())
    for part in parts:
        if not count:
            shift = part.mean(0, dtype=np.float64)
        rest = part - shift
        count, sums, squares = count + len(part), sums + rest.sum(0), squares + (rest**2).sum(0)
    if not count:
        return None
    mean = shift + sums / count
    deviation = np.sqrt(np.maximum(squares / count - (sums / count) ** 2, 0))
    return mean, np.where(deviation > np.finfo(np.float32).eps * np.abs(mean), deviation, 1.0)


def space_of(parts: Iterable[Features], moments: Moments | None, distance: str) -> Space:
    """A space for the rows of `parts`, standardised by moments, if there are any.

    Args:
        parts: [n, D] pieces of the bank.
        moments: `moments_of` the rows that standardise.
        distance: "cosine" or "euclidean".
    """
    space = Space(distance, *(moments or (None, None)))
    if distance == "cosine":
        return space
    found = (_squares(space.standardised(part)) for part in parts if len(part))
    return replace(space, reach=max(float((one + one**2 / 4).max()) for one in found))


def _squares(rows: Features) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return np.asarray(np.einsum("nd,nd->n", wide, wide))


@dataclass(frozen=True)
class Bank:
    """Patches of a layer as files: [N, E] features and [N, C] or [N, P] labels."""

    space: Space
    features: Path
    labels: Path

    def __len__(self) -> int:
        return len(np.load(self.labels, mmap_mode="r"))

    def nearest(
        self, queries: Features, k: int, *, backend: str, device: torch.device
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities [Q, k], descending, and rows [Q, k] of the bank; ties by lower row.

        Raises:
            TaskError: if the bank has fewer rows.
        """
        bank = np.load(self.features, mmap_mode="r")
        if len(bank) < k:
            raise TaskError(f"k = {k} needs as many labelled patches, the bank has {len(bank)}.")
        return top_k(self.space.queries(queries), bank, k=k, backend=backend, device=device)


def banks_of(
    blocks: Blocks, starts: Sequence[int], layer: int, *, keep: str, settings: Settings
) -> dict[str, Bank]:
    """{distance: bank} of a layer, from the blocks of training images.

    Args:
        blocks: with arrays bank, labels, seen and `keep` of the layer.
        starts: of the blocks.
        layer: 1..L.
        keep: "labelled" for every labelled patch, "fitted" for those of images that are not held out.
        settings: of the protocol.
    """
    rows, mask = f"bank{layer}", f"{keep}{layer}"
    # A block without one readable image has no patches.
    starts = [start for start in starts if blocks.read("train", start, mask)]

    def parts(which: str) -> Iterator[Features]:
        for start in starts:
            arrays = blocks.read("train", start, rows, which)
            yield arrays[rows][arrays[which]]

    moments = moments_of(parts(f"seen{layer}")) if settings.standardise else None
    labels = blocks.join("train", starts, f"labels{layer}", keep=mask, to=f"{keep}-labels{layer}")
    found = {}
    for distance in settings.distance:
        space = space_of(parts(mask), moments, distance)
        features = blocks.join(
            "train", starts, rows, keep=mask, to=f"{keep}-{rows}-{distance}", change=space.bank_rows
        )
        found[distance] = Bank(space, features, labels)
    return found
