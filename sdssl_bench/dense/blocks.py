"""What is done of a long run, kept block by block, so that a killed one goes on and processes share it."""

import io
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError
from sdssl_bench.system import read_arrays, replacing, write_atomic

Arrays = dict[str, NDArray[Any]]
Change = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Blocks:
    """Arrays of blocks of images, a file each.

    Attributes:
        folder: named by a key of everything that changes the arrays.
    """

    folder: Path

    def read(self, split: str, start: int, *names: str) -> Arrays:
        """Arrays of the block that begins at an image; {} if one of them is not there, or is damaged.

        Args:
            split: of the images.
            start: place of the block's first image.
            names: of the arrays; all if none is given.
        """
        try:
            wanted = (lambda name: name in names) if names else (lambda name: True)
            return read_arrays(self._path(split, start), wanted, needed=names)
        except DataError:
            return {}

    def add(self, split: str, start: int, arrays: Arrays) -> None:
        """Keep arrays of a block beside those that are there; a reader sees all of them or the old."""
        buffer = io.BytesIO()
        every: dict[str, Any] = {**self.read(split, start), **arrays}
        np.savez(buffer, **every)
        write_atomic(self._path(split, start), buffer.getvalue())

    def join(
        self,
        split: str,
        starts: Sequence[int],
        name: str,
        *,
        keep: str,
        to: str,
        change: Change | None = None,
    ) -> Path:
        """The rows of an array [n, D] of all blocks, in their order, in one file that may be mapped.

        Args:
            split: of the images.
            starts: of all blocks.
            name: of the array.
            keep: name of an array [n] that says which rows count.
            to: name of the file.
            change: rows [m, D] -> [m, E], before they are written.
        """
        path = self.folder / f"{to}.npy"
        if path.exists():
            return path
        kept = [self.read(split, start, keep)[keep] for start in starts]
        change = change or (lambda part: part)
        first = change(self.read(split, starts[0], name)[name][:1])
        rows = sum(int(one.sum()) for one in kept)
        with replacing(path) as temporary:
            whole = np.lib.format.open_memmap(
                temporary, "w+", first.dtype, (rows, *first.shape[1:])
            )
            at = 0
            for start, one in zip(starts, kept, strict=True):
                part = change(self.read(split, start, name)[name][one])
                whole[at : at + len(part)] = part
                at += len(part)
            whole.flush()
        return path

    def clear(self) -> None:
        """Remove everything: the run is stored."""
        with suppress(OSError):
            shutil.rmtree(self.folder)

    def _path(self, split: str, start: int) -> Path:
        return self.folder / f"{split}-{start:08d}.npz"
