"""The files of one extraction of image features: a memory-mapped array per layer, and what is done.

`bank.json` names the complete layers and is written last. `done-LAYERS-PROCESS.npy` marks the rows
that a running or killed extraction has written.
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

from sdssl_bench.results import digest, write_atomic

MANIFEST = "bank.json"
FLUSH_SECONDS = 5.0
"""A kill loses at most this much work, in seconds."""
_TODO, _WRITTEN, _BAD = 0, 1, 2


@dataclass(frozen=True, eq=False)
class ImageBank:
    """Vectors of images, by layer.

    Attributes:
        folder: of the files.
        layers: complete layers that were asked for.
        num_images: rows N, unreadable images included.
        bad_images: rows of images that could not be read; their vectors are zero.
        seconds: time by phase.
    """

    folder: Path
    layers: tuple[int, ...]
    num_images: int
    bad_images: tuple[int, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def features(self, layer: int) -> NDArray[np.floating[Any]]:
        """[N, D] memory-mapped rows by image index."""
        found: NDArray[np.floating[Any]] = np.load(
            layer_file(self.folder, layer), mmap_mode="r", allow_pickle=False
        )
        return found

    def readable(self) -> NDArray[np.int64]:
        """[M] rows that hold features, ascending."""
        rows = np.arange(self.num_images, dtype=np.int64)
        return np.delete(rows, np.asarray(self.bad_images, np.int64))


def layer_file(folder: Path, layer: int) -> Path:
    """Where a layer's rows lie."""
    return folder / f"layer{layer:03d}.npy"


@dataclass(frozen=True)
class StoredBank:
    """A folder of the cache that holds one extraction, complete or not."""

    folder: Path

    def manifest(self) -> dict[str, Any]:
        """What is complete; {} if nothing is."""
        try:
            content = json.loads((self.folder / MANIFEST).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def missing(self, layers: Sequence[int]) -> list[int]:
        """Layers that have to be extracted."""
        complete = self.manifest().get("layers", [])
        return [
            layer
            for layer in layers
            if layer not in complete or not layer_file(self.folder, layer).is_file()
        ]

    def prepare(self, num_images: int, dims: Mapping[int, int], dtype: str) -> NDArray[np.uint8]:
        """The state of each row after creating the files of these layers.

        Files of a killed extraction of the same layers are taken up.
        """
        states = [np.load(path) for path in self._done_files(list(dims))]
        if states and all(layer_file(self.folder, layer).is_file() for layer in dims):
            # What could not be read is tried again: the user may have repaired it.
            state: NDArray[np.uint8] = np.maximum.reduce([s * (s == _WRITTEN) for s in states])
            return state
        for layer, width in dims.items():
            np.lib.format.open_memmap(
                layer_file(self.folder, layer),
                mode="w+",
                dtype=np.dtype(dtype),
                shape=(num_images, width),
            ).flush()
        return np.zeros(num_images, np.uint8)

    def writer(
        self, layers: Sequence[int], process: int, *, state: NDArray[np.uint8]
    ) -> "RowWriter":
        """Where one process puts its rows."""
        arrays = {
            layer: np.load(layer_file(self.folder, layer), mmap_mode="r+") for layer in layers
        }
        return RowWriter(arrays, state.copy(), self._done_file(layers, process))

    def complete(self, layers: Sequence[int], facts: Mapping[str, Any]) -> None:
        """Prove that every row is written or known to be unreadable, and say so in the manifest."""
        files = self._done_files(layers)
        state = np.maximum.reduce([np.load(path) for path in files])
        unwritten = np.flatnonzero(state == _TODO)
        assert not len(unwritten), f"rows never written: {unwritten[:5]}"
        old = self.manifest()
        entry = {
            **facts,
            "layers": sorted({*old.get("layers", []), *layers}),
            "bad_images": np.flatnonzero(state == _BAD).tolist(),
        }
        write_atomic(self.folder / MANIFEST, (json.dumps(entry, indent=1) + "\n").encode())
        for path in files:
            path.unlink()

    def open(self, layers: Sequence[int], *, seconds: Mapping[str, float]) -> ImageBank:
        """The complete bank."""
        entry = self.manifest()
        return ImageBank(
            self.folder, tuple(layers), entry["num_images"], tuple(entry["bad_images"]), seconds
        )

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
