"""Numpy's arrays and numbers, in pickles and in .npz files, as tensors."""

import math
import re
import warnings
import zipfile
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from sdssl_bench.checkpoints.inert.mapped import Archive
from sdssl_bench.errors import DataError
from sdssl_bench.system import StandIn

_DTYPES = {
    "b1": torch.bool, "i1": torch.int8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64,
    "u1": torch.uint8, "u2": torch.uint16, "u4": torch.uint32, "u8": torch.uint64,
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64,
    "c8": torch.complex64, "c16": torch.complex128, "V2": torch.bfloat16,
}  # fmt: skip
"""By numpy's codes. JAX saves bfloat16, which numpy has not, as two bytes without meaning."""
_HEADER_BYTES = 1 << 16


def contiguous(size: Sequence[int], *, fortran: bool = False) -> list[int]:
    """Strides of an array whose last dimension runs fastest, in Fortran's order the first."""
    order = list(size) if fortran else list(reversed(size))
    strides = [math.prod(order[:i]) for i in range(len(order))]
    return strides if fortran else strides[::-1]


def dtype_of(code: str, order: str = "") -> tuple[torch.dtype, bool] | None:
    """Type of a code of numpy's, and whether its bytes are in the other order; None for no numbers."""
    match = re.fullmatch(r"([<>=|]?)([?a-zA-Z])(\d{0,2})", code)
    if match is None:
        return None
    dtype = _DTYPES.get("b1" if match[2] == "?" else match[2] + match[3])
    return None if dtype is None else (dtype, (order or match[1]) == ">")


def tensor_of(
    data: bytes, dtype: torch.dtype, size: Sequence[int], *, swapped: bool, fortran: bool = False
) -> Tensor | None:
    """The array with these bytes, not copied where they can stay; None if they are not its bytes."""
    count = math.prod(size)
    if any(type(n) is not int or n < 0 for n in size) or count * dtype.itemsize != len(data):
        return None
    if not count:
        return torch.empty(tuple(size), dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that bytes cannot be written to; nobody does
        flat = torch.frombuffer(data, dtype=dtype)
    if swapped:
        flat = flat.clone()
        flat.untyped_storage().byteswap(dtype)
    return flat.as_strided(tuple(size), tuple(contiguous(size, fortran=fortran)))


def _bytes(value: Any) -> bytes | None:
    """Bytes, also as protocol 2 has them (a text in latin1) and as Python 2 has them (a text)."""
    if isinstance(value, StandIn) and type(value.args) is tuple:
        if value.kind == "_codecs.encode" and type(value.args[0]) is str:
            return value.args[0].encode("latin1")
        return b"" if value.kind == "builtins.bytes" and not value.args else None
    return value.encode() if type(value) is str else value if type(value) is bytes else None


def _dtype(value: Any) -> tuple[torch.dtype, bool] | None:
    if (
        not isinstance(value, StandIn)
        or value.kind != "numpy.dtype"
        or type(value.args) is not tuple
    ):
        return None
    state = value.state if type(value.state) is tuple and len(value.state) > 1 else ("", "")
    return dtype_of(str(value.args[0]), str(state[1])) if value.args else None


def array(dtype: Any, size: Any, data: Any, *, fortran: bool = False) -> Tensor | None:
    """An array of a pickle; None if it holds no numbers."""
    known, raw = _dtype(dtype), _bytes(data)
    if known is None or raw is None or type(size) is not tuple:
        return None
    return tensor_of(raw, known[0], size, swapped=known[1], fortran=fortran)


def read_npz(archive: Archive) -> dict[str, Tensor]:
    """The arrays of an .npz file; what is packed may come to twice the size of the file.

    Raises:
        DataError: if it is damaged, holds Python objects, or states more than it holds.
    """
    file = archive.file
    packed = _packed(archive)
    found: dict[str, Tensor] = {}
    for part in archive.sizes:
        name = part.removesuffix(".npy")
        if packed:
            data, start = packed[part], 0
        else:
            start, stop = archive.span(part)
            data = file.data[start : min(stop, start + _HEADER_BYTES)]
        size, fortran, code, begin = _header(archive, name, data)
        known = dtype_of(code)
        if known is None:
            raise DataError(f"{file.path}: '{name}' is of numpy's type {code}, expected numbers.")
        dtype, swapped = known
        if packed:
            tensor = tensor_of(data[begin:], dtype, size, swapped=swapped, fortran=fortran)
            if tensor is None:
                raise archive.damaged(f"'{name}' has not the length that it states")
        else:
            storage = file.storage(archive.span(part)._replace(start=start + begin), dtype.itemsize)
            if swapped:
                storage.byteswap(dtype)
            strides = contiguous(size, fortran=fortran)
            tensor = file.tensor(storage, dtype, 0, size, strides)
        found[name] = tensor
    return found


def _packed(archive: Archive) -> dict[str, bytes]:
    """The parts of a file of numpy.savez_compressed, unpacked; nothing if they are stored as they are."""
    path, limit = archive.file.path, 2 * len(archive.file.data)
    with zipfile.ZipFile(path) as stream:
        if not any(entry.compress_type for entry in stream.infolist()):
            return {}
        if sum(archive.sizes.values()) > limit:
            raise DataError(
                f"{path} would unpack to more than twice its size, which no weights do; save it with "
                "numpy.savez instead of numpy.savez_compressed."
            )
        try:
            return {name: stream.read(name) for name in archive.sizes}
        except Exception as error:  # whatever a decompressor says of damaged bytes
            raise archive.damaged(str(error)) from error


def _header(archive: Archive, name: str, data: bytes) -> tuple[tuple[int, ...], bool, str, int]:
    """Shape, whether it is in Fortran's order, type and length of header of an array."""
    from numpy.lib import format as npy

    stream = BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        size, fortran, dtype = read(stream)
    except Exception as error:  # numpy parses the header as Python's literals
        raise archive.damaged(f"'{name}' is no array: {str(error)[:80]}") from error
    return size, fortran, dtype.str, stream.tell()
