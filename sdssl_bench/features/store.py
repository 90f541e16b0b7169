"""One folder of feature banks on disk, and the proof of which of their rows are written.

    manifest.json               what the features are of (readable), and the banks in the folder
    layer07-cls-1f3c9a20.npy    [N, D]: row i belongs to image i of the dataset
    journal-*.jsonl             rows that are written, by ranges; one file per process
    complete.json               banks of which every row is proven, written last

A line enters a journal after its rows are safe on disk, so a killed job loses seconds of work and never
leaves a row that is taken for written. Rows are written with plain writes, not through a memory map:
memory does not grow, and a full disk is an error instead of a crash.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.encoders import BLOCK
from sdssl_bench.features.identity import Facts
from sdssl_bench.system import Progress, locked, write_atomic

MANIFEST, COMPLETE = "manifest.json", "complete.json"


def shard_rows(num_rows: int) -> int:
    """Rows per shard, the unit in which progress is kept; depends on the number of images only."""
    if num_rows <= 8_192:
        return 32
    return 256 if num_rows <= 131_072 else 1_024


class BankKey(NamedTuple):
    """What of an encoder a bank holds: a layer, how its tokens are pooled, and where in the block."""

    layer: int
    pooling: str
    point: str = BLOCK

    @property
    def name(self) -> str:
        """Name of the bank inside its folder.

        >>> BankKey(7, "cls").name, BankKey(7, "cls", "mlp").name
        ('layer07-cls', 'layer07-cls-mlp')
        """
        behind = "" if self.point == BLOCK else f"-{self.point}"
        return f"layer{self.layer:02d}-{self.pooling}{behind}"


@dataclass(frozen=True)
class BankFile:
    """Where a bank's rows lie.

    Attributes:
        path: an npy file.
        width: D.
        dtype: "float32" or "float16".
        offset: of row 0 in the file, in bytes.
    """

    path: Path
    width: int
    dtype: str
    offset: int

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return self.width * np.dtype(self.dtype).itemsize


@dataclass
class RowState:
    """Which rows of a bank are proven written.

    Attributes:
        done: [N].
        bad: reasons why the image of a row could not be read, by row; such rows are not done.
    """

    done: NDArray[np.bool_]
    bad: dict[int, str] = field(default_factory=dict)


class BankFolder:
    """The banks of one encoder, dataset split and preprocessing. Callers hold the folder's lock."""

    def __init__(self, path: Path, num_rows: int) -> None:
        self.path = path
        self.num_rows = num_rows

    def manifest(self) -> Facts:
        """The manifest, empty if there is none that can be read."""
        return read_json(self.path / MANIFEST)

    def prepare(self, facts: Facts, names: Mapping[str, int], dtype: str, *, about: Facts) -> None:
        """Create the folder, and every bank of `names` (name -> width) that is missing or damaged."""
        self.path.mkdir(parents=True, exist_ok=True)
        manifest = self.manifest()
        banks = manifest.get("banks", {})
        for leftover in self.path.glob("*.tmp"):  # of a killed writer
            leftover.unlink(missing_ok=True)
        if manifest.get("identity") != facts:  # no manifest, or a damaged one: nothing is proven
            banks = {}
        changed = not banks
        for name, width in names.items():
            if name not in banks or not self._is_whole(self.path / banks[name], width, dtype):
                if name in banks:
                    (self.path / banks[name]).unlink(missing_ok=True)
                # A new name makes every older journal line about this bank void.
                banks[name] = f"{name}-{uuid.uuid4().hex[:8]}.npy"
                self._create(self.path / banks[name], width, dtype)
                changed = True
        if changed:
            content = {**about, "rows": self.num_rows, "identity": facts, "banks": banks}
            write_atomic(self.path / MANIFEST, json.dumps(content, indent=1).encode())
        for orphan in set(self.path.glob("*.npy")) - {self.path / name for name in banks.values()}:
            orphan.unlink(missing_ok=True)  # of a job killed before it could name it above

    def holds(self, facts: Facts, names: Mapping[str, int], dtype: str) -> bool:
        """Whether every bank of `names` (name -> width) is here, as `prepare` would leave it."""
        manifest = self.manifest()
        banks = manifest.get("banks", {})
        return manifest.get("identity") == facts and all(
            name in banks and self._is_whole(self.path / banks[name], width, dtype)
            for name, width in names.items()
        )

    def files(self, names: Sequence[str]) -> dict[str, BankFile]:
        """The files of prepared banks."""
        banks = self.manifest()["banks"]
        return {name: _open_header(self.path / banks[name])[0] for name in names}

    def state(self, files: Mapping[str, BankFile]) -> dict[str, RowState]:
        """What is proven of each bank's rows."""
        complete = set(read_json(self.path / COMPLETE).get("files", []))
        states = {
            file.path.name: RowState(np.full(self.num_rows, file.path.name in complete))
            for file in files.values()
        }
        for line in self._journal_lines():
            bad = {int(row): reason for row, reason in line["bad"].items()}
            for name in states.keys() & set(line["files"]):
                for first, stop in line.get("rows", ()):  # a line of an older form proves nothing
                    states[name].done[first:stop] = True
                states[name].bad.update(bad)
        for state in states.values():
            state.bad = {row: why for row, why in state.bad.items() if not state.done[row]}
        return {name: states[file.path.name] for name, file in files.items()}

    def seal(self, states: Mapping[str, RowState], files: Mapping[str, BankFile]) -> None:
        """Write down which banks are complete; drop the journals once that is all of them."""
        known = set(self.manifest()["banks"].values())
        complete = set(read_json(self.path / COMPLETE).get("files", [])) & known
        complete |= {files[name].path.name for name, state in states.items() if state.done.all()}
        content = json.dumps({"files": sorted(complete)}, indent=1)
        write_atomic(self.path / COMPLETE, content.encode())
        if complete == known:
            for journal in self.path.glob("journal-*.jsonl"):
                journal.unlink(missing_ok=True)

    def _journal_lines(self) -> list[dict[str, Any]]:
        lines = []
        for journal in sorted(self.path.glob("journal-*.jsonl")):
            for text in journal.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    lines.append(json.loads(text))
                except json.JSONDecodeError:  # the writer was killed in the middle of its last line
                    break
        return lines

    def _is_whole(self, path: Path, width: int, dtype: str) -> bool:
        try:
            file, rows = _open_header(path)
            size = path.stat().st_size
        except (OSError, ValueError):
            return False
        fits = (rows, file.width, file.dtype) == (self.num_rows, width, dtype)
        return fits and size == file.offset + self.num_rows * file.row_bytes

    def _create(self, path: Path, width: int, dtype: str) -> None:
        header = {
            "descr": np.dtype(dtype).str,
            "fortran_order": False,
            "shape": (self.num_rows, width),
        }
        with path.open("xb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + self.num_rows * width * np.dtype(dtype).itemsize)


def read_json(path: Path) -> Facts:
    """A JSON object, empty if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _open_header(path: Path) -> tuple[BankFile, int]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"npy version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 2 or fortran:
            raise ValueError(f"shape {shape}")
        return BankFile(path, shape[1], dtype.name, file.tell()), shape[0]


def _ranges(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ascending rows as (first, stop) of runs.

    >>> _ranges(np.array([0, 1, 2, 7]))
    [(0, 3), (7, 8)]
    """
    starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    stops = [*starts[1:], len(rows)]
    return [(int(rows[a]), int(rows[b - 1]) + 1) for a, b in zip(starts, stops) if b > a]


class BankWriter:
    """Writes rows of several banks by dataset index, and this process's journal."""

    def __init__(self, folder: BankFolder, files: Mapping[str, BankFile]) -> None:
        self._files = files
        self._handles = {name: os.open(file.path, os.O_WRONLY) for name, file in files.items()}
        self._journal = folder.path / f"journal-{uuid.uuid4().hex}.jsonl"
        self._proven: list[NDArray[np.int64]] = []
        self._bad: dict[int, str] = {}

    def write(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write values[i] to row rows[i]; rows ascend."""
        file = self._files[name]
        data = memoryview(np.ascontiguousarray(values, np.dtype(file.dtype)).data).cast("B")
        done = 0
        for first, stop in _ranges(rows):
            part = data[done * file.row_bytes : (done + stop - first) * file.row_bytes]
            at = file.offset + first * file.row_bytes
            while part:
                written = os.pwrite(self._handles[name], part, at)
                part, at = part[written:], at + written
            done += stop - first

    def prove(self, rows: NDArray[np.int64], bad: Mapping[int, str]) -> None:
        """Note rows that are written in every bank that lacked them, and images that cannot be read.

        Takes effect with `flush`.
        """
        self._proven.append(rows)
        self._bad.update(bad)

    def flush(self) -> None:
        """Bring all rows to disk, then the line that vouches for them."""
        if not self._proven:
            return
        for handle in self._handles.values():
            os.fsync(handle)
        line = {
            "rows": _ranges(np.unique(np.concatenate(self._proven))),
            "bad": {str(row): reason for row, reason in self._bad.items()},
            "files": [file.path.name for file in self._files.values()],
        }
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self._proven.clear()
        self._bad.clear()

    def close(self) -> None:
        """Release the files; what was not flushed is not vouched for."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


def lock_of(folder: Path) -> Path:
    """The lock's file of a bank folder; beside the folders, so that removing one keeps it valid."""
    return folder.parent / ".locks" / f"{folder.name}.lock"


@contextmanager
def alone(folder: Path, *, progress: Progress | None, what: str) -> Iterator[None]:
    """Keep other jobs off a folder, after waiting for the one that may hold it."""

    def waits() -> None:
        if progress is not None:
            progress.message(f"waiting for another job that computes features of {what}")

    with locked(lock_of(folder), waits=waits):
        yield
