"""Containers, numbers, texts and numeric arrays of a pickle that holds nothing else.

CIFAR's official files and the ground truth of revisited Oxford/Paris are pickles of Python 2. They are
read as data (`system.pickles`); numpy's few names get their meaning here.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from sdssl_bench.errors import DataError
from sdssl_bench.system import PickleError, StandIn, allowance, unpickle

_RECONSTRUCT, _SCALAR = "multiarray._reconstruct", "multiarray.scalar"
_KNOWN = {
    "numpy.ndarray", "numpy.dtype", "_codecs.encode", "builtins.bytes",
    # numpy 2 renamed numpy.core to numpy._core; files of both ages exist.
    *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in (_RECONSTRUCT, _SCALAR)),
}  # fmt: skip


def load_arrays(path: Path) -> Any:
    """What the pickle holds; its arrays cannot be written to.

    Raises:
        DataError: if the file names anything else (the name is said, nothing was executed), is
            truncated, costs more memory than its size accounts for, or is no pickle.
    """
    data = path.read_bytes()
    try:
        found = unpickle(data, budget=allowance(len(data)))
        closed = [name for name in found.names if name not in _KNOWN]
        content = None if closed else _Opener().open(found.value)
    except (PickleError, ValueError, TypeError, LookupError, struct.error, RecursionError) as error:
        raise DataError(
            f"{path}: expected a complete pickle, found one that cannot be read "
            f"({type(error).__name__}: {error}). Extract the official archive again."
        ) from error
    if closed:
        raise DataError(
            f"{path}: expected a pickle of plain lists, numbers and numpy arrays, found one "
            f"that would call '{closed[0]}'. Nothing was executed. This is not the "
            f"official file and may be hostile: delete it and obtain the archive again."
        )
    return content


class _Opener:
    """Gives stand-ins their meaning; what a pickle refers to twice is opened once."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}

    def open(self, value: Any) -> Any:
        if type(value) not in (dict, list, tuple, StandIn):
            return value
        if id(value) not in self._done:
            if type(value) is dict:
                found: Any = {self.open(key): self.open(part) for key, part in value.items()}
            elif type(value) is StandIn:
                found = _meaning(value)
            else:
                found = type(value)(map(self.open, value))
            self._done[id(value)] = found
        return self._done[id(value)]


def _meaning(it: StandIn) -> Any:
    """The array, number or bytes that a stand-in is for."""
    if it.kind.endswith(_RECONSTRUCT):
        _, shape, dtype, fortran, data = it.state
        kind = _dtype(dtype)
        array = np.frombuffer(_bytes(data), kind)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    if it.kind.endswith(_SCALAR):
        return np.frombuffer(_bytes(it.args[1]), _dtype(it.args[0]))[0]
    return _bytes(it)


def _dtype(it: StandIn) -> np.dtype[Any]:
    """A dtype of plain numbers."""
    dtype = np.dtype(it.args[0])
    if dtype.kind not in "biuf":
        raise PickleError(f"an array of dtype {dtype}")
    ordered: np.dtype[Any] = dtype.newbyteorder(it.state[1])
    return ordered


def _bytes(value: Any) -> bytes:
    """Bytes, also as Python 3 writes them in protocol 2 and as Python 2 has them (a text)."""
    if isinstance(value, StandIn) and value.kind == "_codecs.encode" and value.args is not None:
        return str(value.args[0]).encode("latin1")
    if isinstance(value, StandIn) and value.kind == "builtins.bytes" and value.args == ():
        return b""
    if not isinstance(value, str | bytes):
        raise PickleError(f"{value} instead of bytes")
    return value.encode() if isinstance(value, str) else value
