"""Arrays of npz files, which may be damaged, no npz at all, or hold pickles."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError

_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, MemoryError, NotImplementedError, AttributeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises of them."""


def read_arrays(
    path: Path, wanted: Callable[[str], bool] = lambda name: True, *, needed: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Those arrays of an npz file whose names are wanted; pickles are refused.

    Args:
        path: of the file.
        wanted: whether an array is read.
        needed: names that must be there.

    Raises:
        DataError: if there is no such file, it is no whole npz of plain arrays, or lacks some.
    """
    if not path.is_file():
        raise DataError(f"No such file: {path}. Expected an npz.")
    try:
        # Opened here, because np.load leaves its own file open when the archive is damaged.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array; np.savez writes named ones")
            if missing := [name for name in needed if name not in stored.files]:
                raise DataError(
                    f"{path}: expected arrays named {' and '.join(needed)}, missing "
                    f"{', '.join(missing)}; it holds {', '.join(stored.files) or 'nothing'}."
                )
            return {name: stored[name] for name in stored.files if wanted(name)}
    except _DAMAGE as error:
        raise DataError(
            f"{path} cannot be read as an npz of plain arrays ({type(error).__name__}: {error}). Write "
            "it with np.savez(path, name=array, ...)."
        ) from error
