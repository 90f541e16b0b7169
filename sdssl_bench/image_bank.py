"""The files of one extraction of image features: a memory-mapped array per layer, and what is done.

The folder looks to `sdssl-bench cache` like any other of the feature cache: `manifest.json` says what
it holds, `complete.json`, written last, which files are whole. `done-LAYERS-PROCESS.npy` marks the
rows that a running or killed extraction has written.
"""

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.features.store import COMPLETE, MANIFEST, bank_name, read_json
from sdssl_bench.results import digest, write_atomic

FLUSH_SECONDS = 5.0
"""A kill loses at most this much work, in seconds."""
_TODO, _WRITTEN, _BAD = 0, 1, 2

Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class ImageBank:
    """Vectors of images, by layer, mapped from disk: the cache may be cleared while they are read.

    Attributes:
        arrays: layer -> [N, D] rows by image index.
        num_images: N, unreadable images included.
        bad_images: rows of images that could not be read; they hold no features.
        seconds: time by phase.
    """

    arrays: Mapping[int, Rows]
    num_images: int
    bad_images: tuple[int, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def features(self, layer: int) -> Rows:
        """[M, D] rows of the readable images: a map of the file, or a copy if some are not."""
        rows = self.arrays[layer]
        return np.asarray(rows[self.readable()]) if self.bad_images else rows

    def readable(self) -> NDArray[np.int64]:
        """[M] image indices of the rows of `features`, ascending."""
        rows = np.arange(self.num_images, dtype=np.int64)
        return np.delete(rows, np.asarray(self.bad_images, np.int64))


@dataclass(frozen=True)
class StoredBank:
    """A folder of the cache that holds one extraction, complete or not.

    Attributes:
        folder: of the files.
        pool: the pooling, for the names of the files.
    """

    folder: Path
    pool: str

    def file(self, layer: int) -> Path:
        """Where a layer's rows lie."""
        return self.folder / f"{bank_name(layer, self.pool)}.npy"

    def missing(self, layers: Sequence[int]) -> list[int]:
        """Layers that have to be extracted."""
        complete = read_json(self.folder / COMPLETE).get("files", [])
        return [
            layer
            for layer in layers
            if self.file(layer).name not in complete or not self.file(layer).is_file()
        ]

    def prepare(
        self, num_images: int, dims: Mapping[int, int], dtype: str, *, about: Mapping[str, Any]
    ) -> NDArray[np.uint8]:
        """The state of each row after creating the files of these layers.

        Files of a killed extraction of the same layers are taken up. What could not be read then is
        tried again: the user may have repaired it.
        """
        names = {bank_name(layer, self.pool): self.file(layer).name for layer in dims}
        banks = {**read_json(self.folder / MANIFEST).get("banks", {}), **names}
        content = {**about, "rows": num_images, "banks": banks}
        write_atomic(self.folder / MANIFEST, json.dumps(content, indent=1).encode())
        states = [np.load(path) for path in self._done_files(list(dims))]
        if states and all(self.file(layer).is_file() for layer in dims):
            written: NDArray[np.uint8] = np.maximum.reduce([s * (s == _WRITTEN) for s in states])
            return written
        for layer, width in dims.items():
            shape = (num_images, width)
            # A new file: who has the old one mapped keeps reading it.
            self.file(layer).unlink(missing_ok=True)
            np.lib.format.open_memmap(self.file(layer), "w+", np.dtype(dtype), shape).flush()
        return np.zeros(num_images, np.uint8)

    def writer(
        self, layers: Sequence[int], process: int, *, state: NDArray[np.uint8]
    ) -> "RowWriter":
        """Where one process puts its rows."""
        arrays = {layer: np.load(self.file(layer), mmap_mode="r+") for layer in layers}
        return RowWriter(arrays, state.copy(), self._done_file(layers, process))

    def complete(self, layers: Sequence[int]) -> None:
        """Prove that every row is written or known to be unreadable, and say so."""
        files = self._done_files(layers)
        state = np.maximum.reduce([np.load(path) for path in files])
        unwritten = np.flatnonzero(state == _TODO)
        assert not len(unwritten), f"rows never written: {unwritten[:5]}"
        bad = np.flatnonzero(state == _BAD).tolist()
        if not bad:
            # With unreadable images the layers stay incomplete: the next run tries these again.
            old = read_json(self.folder / COMPLETE).get("files", [])
            names = sorted({*old, *(self.file(layer).name for layer in layers)})
            write_atomic(self.folder / COMPLETE, json.dumps({"files": names}, indent=1).encode())
            for path in files:
                path.unlink()

    def bad(self, layers: Sequence[int]) -> list[int]:
        """Images of an extraction of exactly these layers that could not be read."""
        states = [np.load(path) for path in self._done_files(layers)]
        return np.flatnonzero(np.maximum.reduce(states) == _BAD).tolist() if states else []

    def open(self, layers: Sequence[int]) -> dict[int, Rows]:
        """Maps of the layers' files."""
        return {layer: np.load(self.file(layer), mmap_mode="r") for layer in layers}

    def _done_file(self, layers: Sequence[int], process: int) -> Path:
        return self.folder / f"done-{digest(sorted(layers))[:12]}-{process}.npy"

    def _done_files(self, layers: Sequence[int]) -> list[Path]:
        return sorted(self.folder.glob(f"done-{digest(sorted(layers))[:12]}-*.npy"))


class RowWriter:
    """Rows of one process; what is marked as done is on disk."""

    def __init__(
        self, arrays: Mapping[int, NDArray[Any]], state: NDArray[np.uint8], file: Path
    ) -> None:
        self._arrays = arrays
        self._state = state
        self._file = file
        self._flushed = time.monotonic()

    @property
    def done(self) -> NDArray[np.bool_]:
        """[N] rows that need no more work."""
        done: NDArray[np.bool_] = self._state != _TODO
        return done

    def write(self, rows: Sequence[int], vectors: Mapping[int, NDArray[np.floating[Any]]]) -> None:
        """Store the vectors [B, D] of every layer."""
        for layer, array in self._arrays.items():
            array[rows] = vectors[layer]
        self._state[rows] = _WRITTEN
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def mark_bad(self, rows: Sequence[int]) -> None:
        """Note images that cannot be read."""
        self._state[list(rows)] = _BAD

    def close(self) -> None:
        """Everything to disk."""
        self._flush()

    def _flush(self) -> None:
        for array in self._arrays.values():
            array.flush()  # type: ignore[attr-defined]
        buffer = io.BytesIO()
        np.save(buffer, self._state)
        write_atomic(self._file, buffer.getvalue())
        self._flushed = time.monotonic()
