"""Features of a dataset split as tasks use them: one array per layer and pooling, rows aligned."""

import os
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.features.store import BankFile

COPY_BYTES = 256 * 2**20
"""A larger selection of rows goes to a temporary file instead of memory."""


class FeatureBank:
    """Features that lie on disk and are mapped when read.

    Attributes:
        indices: [n] dataset index of each row, ascending: all images, unless limited or skipped.
        targets: [n] their classes.
        bad_images: what could not be read and was skipped, "path: reason" each.
        seconds: time spent by phase: load, transfer, forward, write, total.
        cached: whether nothing had to be computed.
    """

    def __init__(
        self,
        files: Mapping[tuple[int, str], BankFile],
        num_rows: int,
        *,
        indices: NDArray[np.int64],
        targets: NDArray[np.int64],
        bad_images: list[str],
        seconds: Mapping[str, float],
        cached: bool,
    ) -> None:
        self.indices = indices
        self.targets = targets
        self.bad_images = bad_images
        self.seconds = dict(seconds)
        self.cached = cached
        self._files = dict(files)
        self._num_rows = num_rows
        # Held open, so that the cache may be cleared while a task still reads.
        self._handles = {key: os.open(file.path, os.O_RDONLY) for key, file in files.items()}
        self._closer = weakref.finalize(self, _close, list(self._handles.values()))

    @property
    def layers(self) -> list[int]:
        """The layers it holds."""
        return sorted({layer for layer, _ in self._files})

    def features(self, layer: int, pooling: str = "cls") -> NDArray[Any]:
        """[n, D] features of one layer, in the order of `indices`.

        A read-only map of the file if the bank has all images; else a copy of its rows, in memory or,
        if large, in a temporary file. Nothing is kept here: memory is free once the caller is done.

        Raises:
            KeyError: for a layer or pooling that was not extracted.
        """
        if (layer, pooling) not in self._files:
            known = ", ".join(f"{number} {name}" for number, name in sorted(self._files))
            raise KeyError(f"no features of layer {layer} {pooling}; this bank holds {known}")
        file = self._files[layer, pooling]
        with os.fdopen(os.dup(self._handles[layer, pooling]), "rb") as opened:
            mapped: NDArray[Any] = np.memmap(
                opened, file.dtype, "r", file.offset, (self._num_rows, file.width)
            )
        if len(self.indices) == self._num_rows:
            return mapped
        if len(self.indices) * file.row_bytes <= COPY_BYTES:
            return np.asarray(mapped[self.indices])
        step = max(1, COPY_BYTES // (8 * file.row_bytes))
        with tempfile.TemporaryFile(dir=file.path.parent, suffix=".tmp") as selection:
            for start in range(0, len(self.indices), step):
                selection.write(mapped[self.indices[start : start + step]].tobytes())
            selection.flush()
            return np.memmap(selection, file.dtype, "r", 0, (len(self.indices), file.width))


def _close(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)


def skipped_images(banks: Mapping[str, FeatureBank]) -> dict[str, Any]:
    """What `--on-bad-image skip` left out of each set of images, for the record; empty if nothing."""
    skipped = {
        name: {"count": len(bank.bad_images), "first": bank.bad_images[:20]}
        for name, bank in banks.items()
    }
    return {"skipped_images": skipped} if any(s["count"] for s in skipped.values()) else {}
