"""Sizes and modification times of many files, by one directory scan per folder."""

import os
from collections.abc import Container, Sequence
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
    """Size in bytes [N] and modification time in ns [N] of each file; -1 where there is none."""
    sizes = np.full(len(names), -1, np.int64)
    times = np.full(len(names), -1, np.int64)
    rows: dict[str, dict[str, list[int]]] = {}
    for row, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        rows.setdefault(folder, {}).setdefault(file, []).append(row)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda item: _folder_facts(root / item[0], item[1]), rows.items())
        for (_, wanted), facts in zip(rows.items(), found, strict=True):
            for file, size, time in facts:
                sizes[wanted[file]] = size
                times[wanted[file]] = time
    return sizes, times


def _folder_facts(folder: Path, wanted: Container[str]) -> list[tuple[str, int, int]]:
    facts = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in wanted and entry.is_file():
                    stat = entry.stat()
                    facts.append((entry.name, stat.st_size, stat.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return facts
