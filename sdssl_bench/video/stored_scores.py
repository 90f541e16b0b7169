"""Finished sequences: scores kept as soon as a sequence is done, so that a killed run goes on from there.

A file holds one sequence at one layer and lies in a folder named by a key of everything that changes
the scores. What a run wrote besides scores (masks, pictures) is stamped with the same key, so files
of another encoder or protocol are never taken for this run's.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError
from sdssl_bench.system import read_arrays, write_atomic


@dataclass(frozen=True, eq=False)
class LayerResult:
    """One sequence at one layer.

    Attributes:
        values: [2, K, T] J, then F, of objects 1..K in the T evaluated frames.
        vanished: ids of objects that no patch of the first frame was labelled with.
    """

    values: NDArray[np.float64]
    vanished: tuple[int, ...]


def packed(result: LayerResult) -> bytes:
    """The file of a result."""
    buffer = io.BytesIO()
    np.savez(buffer, values=result.values, vanished=np.array(result.vanished, np.int64))
    return buffer.getvalue()


@dataclass(frozen=True)
class StoredScores:
    """The scores of one run, key by key.

    Attributes:
        folder: where the files lie.
    """

    folder: Path

    def read(self, name: str, layer: int, *, shape: tuple[int, ...]) -> "LayerResult | None":
        """What is kept of a sequence; None if it is not finished or its file is damaged."""
        try:
            stored = read_arrays(self.path(name, layer))
            kept = LayerResult(stored["values"], tuple(stored["vanished"].tolist()))
        except (DataError, KeyError):
            return None
        good = kept.values.shape == shape and bool(np.isfinite(kept.values).all())
        return kept if good else None

    def write(self, name: str, layer: int, result: "LayerResult") -> None:
        """Keep a sequence's result; a reader sees all of it or nothing."""
        write_atomic(self.path(name, layer), packed(result))

    def path(self, name: str, layer: int) -> Path:
        """The file of a sequence at a layer."""
        return self.folder / f"{quote(name, safe='')}-layer{layer:02d}.npz"


@dataclass(frozen=True)
class Stamp:
    """Which sequences a folder of masks or pictures holds, and of which run.

    Attributes:
        folder: of the files.
        key: of the run.
    """

    folder: Path
    key: str

    def holds(self, name: str, files: Sequence[Path]) -> bool:
        """Whether this run finished the sequence here and its files are still there."""
        path = self._path(name)
        try:
            stamped = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        sizes = {str(file.relative_to(self.folder)): _size(file) for file in files}
        return bool(stamped == {"key": self.key, "files": sizes} and -1 not in sizes.values())

    def set(self, name: str, files: Sequence[Path]) -> None:
        """Say that a sequence is finished."""
        path = self._path(name)
        sizes = {str(file.relative_to(self.folder)): _size(file) for file in files}
        write_atomic(path, json.dumps({"key": self.key, "files": sizes}).encode())

    def clear(self, name: str) -> None:
        """Say that a sequence's files are about to change."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / ".sdssl-bench" / f"{quote(name, safe='')}.json"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
