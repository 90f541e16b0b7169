"""What the feature cache holds, how much of the disk it takes, and removing parts of it."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.features.store import COMPLETE, MANIFEST, lock_of, read_json
from sdssl_bench.system import locked


@dataclass(frozen=True)
class CacheEntry:
    """The banks of one encoder, dataset split, preprocessing and precision.

    Attributes:
        key: name of the folder.
        path: the folder.
        model: name of the encoder, "?" if a killed job left no manifest.
        layers: layers that have a bank.
        poolings: likewise.
        rows: images of the split.
        bytes: space on disk.
        complete: whether every row of every bank is written.
        last_used: seconds since 1970.
    """

    key: str
    path: Path
    model: str
    dataset: str
    split: str
    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    rows: int
    bytes: int
    complete: bool
    last_used: float

    def to_json(self) -> dict[str, Any]:
        """JSON values; the time in ISO format."""
        used = datetime.fromtimestamp(self.last_used, UTC).isoformat(timespec="seconds")
        return {**asdict(self), "path": str(self.path), "last_used": used}


def ls(cache_dir: Path) -> list[CacheEntry]:
    """All entries, most recently used first."""
    root = cache_dir.expanduser() / "features"
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(map(_entry, folders), key=lambda entry: (-entry.last_used, entry.key))


def du(cache_dir: Path) -> int:
    """Bytes on disk of all entries."""
    return sum(entry.bytes for entry in ls(cache_dir))


def rm(
    cache_dir: Path,
    *,
    keys: Sequence[str] | None = None,
    older_than_days: float | None = None,
) -> list[CacheEntry]:
    """Remove entries; those that a running job works on stay.

    Args:
        cache_dir: root of the cache.
        keys: keys or beginnings of keys; None is every entry.
        older_than_days: only entries that were not used for so long.

    Returns:
        What was removed.

    Raises:
        UsageError: for a key that no entry has.
        DataError: if a folder cannot be removed.
    """
    entries = ls(cache_dir)
    for key in keys or ():
        if not key or not any(entry.key.startswith(key) for entry in entries):
            raise UsageError(
                f"No entry of the cache begins with '{key}'. See 'sdssl-bench cache ls'."
            )
    latest = time.time() - (older_than_days or 0) * 86_400
    removed = []
    for entry in entries:
        if keys is not None and not entry.key.startswith(tuple(keys)):
            continue
        if older_than_days is not None and entry.last_used > latest:
            continue
        if _remove(entry.path):
            removed.append(entry)
    return removed


def _remove(folder: Path) -> bool:
    try:
        with locked(lock_of(folder), waits=_busy):
            # Renamed first: nobody ever sees half a folder under a valid key.
            doomed = folder.parent / f".removed-{folder.name}-{time.time_ns()}"
            folder.rename(doomed)
            shutil.rmtree(doomed)
    except Timeout:
        return False
    except OSError as error:
        raise DataError(f"{folder} cannot be removed: {error.strerror or error}.") from error
    return True


def _busy() -> None:
    raise Timeout("a running job works on it")


def _entry(folder: Path) -> CacheEntry:
    manifest = read_json(folder / MANIFEST)
    banks: dict[str, str] = manifest.get("banks", {})
    complete = set(read_json(folder / COMPLETE).get("files", []))
    files = [path.stat() for path in folder.iterdir() if path.is_file()]
    used = folder / "last-used"
    return CacheEntry(
        key=folder.name,
        path=folder,
        model=manifest.get("model", "?"),
        dataset=manifest.get("dataset", "?"),
        split=manifest.get("split", "?"),
        layers=tuple(sorted({int(name[5:].partition("-")[0]) for name in banks})),
        poolings=tuple(sorted({name.partition("-")[2] for name in banks})),
        rows=manifest.get("rows", 0),
        bytes=sum(status.st_blocks * 512 for status in files),
        complete=bool(banks) and complete >= set(banks.values()),
        last_used=(used if used.exists() else folder).stat().st_mtime,
    )
