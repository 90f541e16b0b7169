"""Sizes and modification times of many files, by one directory scan per folder."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_THREADS = 8
"""Only hide the latency of a network file system; a local disk does not need them."""


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """Entries that are not hidden, sorted by name; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(visible, key=lambda entry: entry.name)


def file_facts(root: Path, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Size in bytes [N] and modification time in ns [N] of each file; -1 where there is none.

    Of a name that comes twice only the last is looked up: a list with duplicates is refused anyway.
    """
    sizes, times = [-1] * len(names), [-1] * len(names)
    rows: dict[str, dict[str, int]] = {}
    for row, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        if folder not in rows:
            rows[folder] = {}
        rows[folder][file] = row
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda item: _folder_facts(root / item[0], item[1]), rows.items())
        for facts in found:
            for row, size, time in facts:
                sizes[row] = size
                times[row] = time
    return np.array(sizes, np.int64), np.array(times, np.int64)


def _folder_facts(folder: Path, wanted: Mapping[str, int]) -> list[tuple[int, int, int]]:
    facts = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                row = wanted.get(entry.name)
                if row is not None and entry.is_file():
                    stat = entry.stat()
                    facts.append((row, stat.st_size, stat.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return facts
