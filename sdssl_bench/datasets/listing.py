"""What a reader finds in a dataset's official lists, before anything is verified; file primitives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError


@dataclass(frozen=True, eq=False)
class SplitListing:
    """One split as its lists have it; the files may or may not exist.

    Attributes:
        names: [N] paths relative to the root, or "data_batch_1:17" for rows of arrays.
        targets: [N] 0-based class ids.
        pixels: [N, H, W, 3] uint8 of a set stored as arrays.
        keys: [N] names that do not depend on how a copy is nested; `names` if None.
        predefined_val: indices that are officially validation.
    """

    names: Sequence[str]
    targets: NDArray[np.int64]
    pixels: NDArray[np.uint8] | None = None
    keys: Sequence[str] | None = None
    predefined_val: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Listing:
    """Both splits.

    Attributes:
        class_names: [C].
        absent: files of arrays that are not there, so that their items are unknown.
    """

    class_names: tuple[str, ...]
    train: SplitListing
    test: SplitListing
    absent: tuple[str, ...] = ()

    def split(self, name: str) -> SplitListing:
        """The split "train" or "test"."""
        return self.train if name == "train" else self.test


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
