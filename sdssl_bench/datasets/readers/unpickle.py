"""Read a pickle that may hold containers, numbers, strings and numeric arrays, and nothing else.

A pickle is a program. CIFAR's official files are pickles of Python 2; this reader resolves none of
the names in them by import: the few that an array needs are answered by functions of this file.
"""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError

_ARRAY_CLASS = object()
"""Stands for the class numpy.ndarray; not callable, so a pickle can only hand it back to us."""


def _rebuild_array(kind: object, shape: object, code: object) -> NDArray[Any]:
    """The empty array that the pickle then fills by `__setstate__`."""
    if kind is not _ARRAY_CLASS:
        raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
    return np.empty(0, np.uint8)


def _rebuild_dtype(code: Any, *flags: Any) -> np.dtype[Any]:
    """A dtype of plain numbers; objects, records and strings are refused."""
    dtype = np.dtype(code.decode("ascii") if isinstance(code, bytes) else code)
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"an array of dtype {dtype}")
    # A copy, since the pickle goes on to set its state and numpy shares its built-in dtypes.
    return np.dtype(dtype.str, copy=True)


def _rebuild_scalar(dtype: np.dtype[Any], data: Any) -> Any:
    """A numpy number."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype)[0]


def _rebuild_bytes(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them in protocol 2."""
    if codecs.lookup(encoding).name not in ("iso8859-1", "ascii", "utf-8"):
        raise pickle.UnpicklingError(f"text in encoding {encoding}")
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): _rebuild_dtype,
    ("_codecs", "encode"): _rebuild_bytes,
    # numpy 2 renamed numpy.core to numpy._core; files of both ages exist.
    ("numpy.core.multiarray", "_reconstruct"): _rebuild_array,
    ("numpy._core.multiarray", "_reconstruct"): _rebuild_array,
    ("numpy.core.multiarray", "scalar"): _rebuild_scalar,
    ("numpy._core.multiarray", "scalar"): _rebuild_scalar,
}


class _Unpickler(pickle.Unpickler):
    """Resolves names from the table above only."""

    blocked: str | None = None

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            self.blocked = f"{module_name}.{global_name}"
            raise pickle.UnpicklingError(f"it names {self.blocked}") from None


def load_arrays(path: Path) -> Any:
    """The content of a pickle of plain containers and numeric arrays; text of Python 2 as latin1.

    Raises:
        DataError: if the file names anything else (the name is said, nothing was executed), is
            truncated, or is no pickle.
    """
    with path.open("rb") as file:
        reader = _Unpickler(file, encoding="latin1")
        try:
            return reader.load()
        except Exception as error:  # A broken pickle raises anything; nothing of it was run.
            if reader.blocked:
                raise DataError(
                    f"{path}: expected a pickle of plain lists, numbers and numpy arrays, found one "
                    f"that would call '{reader.blocked}'. Nothing was executed. This is not the "
                    f"official file and may be hostile: delete it and obtain the archive again."
                ) from error
            raise DataError(
                f"{path}: expected a complete pickle, found one that cannot be read "
                f"({type(error).__name__}: {error}). Extract the official archive again."
            ) from error
