"""What a head sees of a layer: its class token, its mean patch, or the last n layers' side by side.

    cls        [CLS] of the layer
    mean       mean of its patch tokens
    cls+mean   both, 2 D wide (DINO's ViT-B, DINOv2)
    lastN      [CLS] of the N layers that end with it, N D wide (DINO's ViT-S: last4)
    lastN+mean the same and the mean patch of the layer itself (DINOv2)

Of the first layers lastN takes as many as there are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import UsageError
from sdssl_bench.features import FeatureBank

Part = tuple[int, str]
"""Layer and pooling of one slice of a head's input."""

_LAST = re.compile(r"last([1-9]\d?)")


def parts_of(kind: str, layer: int) -> list[Part]:
    """Which features make the input of a head on `layer`, in order.

    Raises:
        UsageError: if `kind` is none of the forms above.

    >>> parts_of("last2+mean", 12)
    [(11, 'cls'), (12, 'cls'), (12, 'mean')]
    """
    base, plus, pooled = kind.partition("+")
    last = _LAST.fullmatch(base)
    if (plus and pooled != "mean") or not (last or base == "cls" or (base == "mean" and not plus)):
        raise UsageError(
            f"--features takes cls, mean, cls+mean, last4 or last4+mean (any last1 to last99), found "
            f"'{kind}'."
        )
    if base == "mean":
        return [(layer, "mean")]
    depth = int(last[1]) if last else 1
    tokens = [(one, "cls") for one in range(max(1, layer - depth + 1), layer + 1)]
    return [*tokens, (layer, "mean")] if plus else tokens


def needed(kinds: Sequence[str], layers: Sequence[int]) -> tuple[list[int], list[str]]:
    """Layers and poolings that the heads of these layers need."""
    parts = {part for kind in kinds for layer in layers for part in parts_of(kind, layer)}
    return sorted({layer for layer, _ in parts}), sorted({pooling for _, pooling in parts})


@dataclass(frozen=True, eq=False)
class Joined:
    """Columns of several arrays side by side, read when indexed: [N, sum of widths]."""

    arrays: Sequence[NDArray[Any]]

    @property
    def shape(self) -> tuple[int, int]:
        """N and the total width."""
        return len(self.arrays[0]), sum(int(array.shape[1]) for array in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if len(self.arrays) == 1:
            return np.asarray(self.arrays[0][rows])
        return np.concatenate([np.asarray(array[rows]) for array in self.arrays], axis=1)


def joined(bank: FeatureBank, kind: str, layer: int) -> Joined:
    """The inputs of a head on `layer` for every row of a bank."""
    return Joined([bank.features(one, pooling) for one, pooling in parts_of(kind, layer)])
