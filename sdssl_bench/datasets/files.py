"""Files of a set: text and MATLAB lists, folders, and sizes and times of many files by one scan a folder."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError

_THREADS = 8
"""Only hide the latency of a network file system; a local disk does not need them."""


def read_lines(path: Path) -> list[str]:
    """Non-empty lines without surrounding white space.

    Raises:
        DataError: if the file is missing or no text.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise DataError(
            f"Expected the list file {path}, found none. Extract the official archive again."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"Expected a text list in {path}, found a file that is not: {error}."
        ) from (error)
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_table(path: Path) -> dict[str, str]:
    """Lines "id rest of the line" as {id: rest}, in file order.

    Raises:
        DataError: for a line without second column or an id that comes twice; names file and line.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        key, _, rest = line.partition(" ")
        if not rest.strip():
            raise DataError(f"{path}, line {number}: expected 'ID VALUE', found '{line[:80]}'.")
        if key in table:
            raise DataError(f"{path}, line {number}: the id '{key}' comes a second time.")
        table[key] = rest.strip()
    return table


def integer(text: str, path: Path, *, what: str) -> int:
    """A whole number of a list file.

    Raises:
        DataError: if it is none.
    """
    try:
        return int(text)
    except ValueError as error:
        raise DataError(
            f"{path}: expected a whole number as {what}, found '{text[:80]}'."
        ) from error


def read_mat(path: Path, *variables: str) -> dict[str, NDArray[Any]]:
    """Variables of a MATLAB file, each squeezed to one dimension.

    Raises:
        DataError: if the file is missing, is malformed or lacks a variable.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(
            f"Expected the list file {path}, found none. Extract the official archive again."
        )
    try:
        content = loadmat(path, squeeze_me=True)
    except MemoryError:
        raise
    except Exception as error:  # scipy's reader raises whatever a broken byte leads to.
        raise DataError(
            f"{path}: expected a MATLAB 5 file, found one that cannot be read "
            f"({type(error).__name__}: {error}). Extract the official archive again."
        ) from error
    missing = [name for name in variables if name not in content]
    if missing:
        found = ", ".join(k for k in content if not k.startswith("__")) or "none"
        raise DataError(
            f"{path}: expected the variables {', '.join(variables)}, found {found}. "
            "This is not the official list file; extract the archive again."
        )
    return {name: np.atleast_1d(content[name]) for name in variables}


def numbers(values: Any, path: Path, *, what: str) -> NDArray[np.int64]:
    """Whole numbers of a list file, 1-d.

    Raises:
        DataError: if they are not.
    """
    array = np.atleast_1d(np.asarray(values))
    try:
        whole = array.astype(np.int64)
        exact = bool((whole == array).all())
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact or array.ndim != 1:
        raise DataError(f"{path}: expected whole numbers as {what}, found {array.dtype} values.")
    return whole


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
