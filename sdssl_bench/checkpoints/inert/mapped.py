"""A checkpoint file in memory without reading it: its bytes, its parts, and tensors that lie in it.

The file is mapped once. Every offset, length and stride that the file states is held against its size
before anything is made of it, so that a file that lies is an error and costs nothing.
"""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage

from sdssl_bench.errors import DataError
from sdssl_bench.system import allowance

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Mark, and the lengths of name and extra field, of an entry of a zip file."""
_ENTRY_BYTES = 1024
_SHARING = 8
_MOST_DIMENSIONS = 32


class Span(NamedTuple):
    """Bytes `start` to `stop` of a file."""

    start: int
    stop: int


@dataclass(eq=False)
class Mapped:
    """A file that is mapped into memory.

    Attributes:
        path: the file.
        data: its bytes.
        whole: the same as torch has them; a change would stay in this process.
        budget: see `allowance`.
        left: bytes that views of its storages may still come to, if all were copied.
    """

    path: Path
    data: mmap
    whole: UntypedStorage
    budget: int
    left: int

    def storage(self, span: Span, itemsize: int) -> UntypedStorage:
        """The bytes of a span, without a copy where they are aligned for their type."""
        start, stop = span
        if not 0 <= start <= stop <= len(self.data):
            raise DataError(f"{self.path} is damaged: it states data at bytes {start} to {stop}, "
                            f"but has {len(self.data)}.")  # fmt: skip
        found: UntypedStorage = self.whole[start:stop]
        return found.clone() if start % itemsize else found

    def tensor(
        self, storage: UntypedStorage, dtype: torch.dtype, offset: Any, size: Any, stride: Any
    ) -> Tensor:
        """A view of a storage, if it lies within it.

        Args:
            storage: its bytes.
            dtype: of its elements.
            offset: of its first element, in elements.
            size: elements per dimension.
            stride: steps per dimension, in elements.

        Raises:
            DataError: if it reaches beyond its storage, or is no view at all.
        """
        try:
            numbers = (offset, *size, *stride)
            count, reach = 1, 1
            for n, step in zip(size, stride, strict=True):
                count *= n
                reach += (n - 1) * step
            wrong = set(map(type, numbers)) != {int} or min(numbers) < 0
        except (TypeError, ValueError):
            wrong = True
        if wrong or len(size) > _MOST_DIMENSIONS:
            raise DataError(f"{self.path} is damaged: a tensor of impossible shape.")
        width = dtype.itemsize
        if count and (offset + reach) * width > storage.nbytes():
            raise DataError(
                f"{self.path} is damaged: a tensor of shape {tuple(size)} reaches beyond its data "
                f"({(offset + reach) * width} of {storage.nbytes()} bytes)."
            )
        self.left -= count * width
        if self.left < 0:
            raise DataError(
                f"{self.path} is refused: its tensors, copied apart, would take more than "
                f"{_SHARING} times the size of the file."
            )
        return torch.empty(0, dtype=dtype).set_(storage, offset, tuple(size), tuple(stride))


@contextmanager
def mapping(path: Path) -> Iterator[Mapped]:
    """The file, mapped; tensors made of it stay valid afterwards."""
    with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
        whole: Any = UntypedStorage.from_file(str(path), False, len(data))
        sharing = _SHARING * max(len(data), 1 << 20)
        yield Mapped(path, data, whole, allowance(len(data)), sharing)


class _Frugal(BufferedReader):
    """A file that is never read in pieces larger than its central directory may be."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most:
            raise zipfile.BadZipFile("a central directory larger than its file accounts for")
        return super().read(self.most if size is None or size < 0 else size)


class Archive:
    """The parts of a zip file that are stored as they are, at their places in the mapped file.

    Attributes:
        file: the file.
        sizes: name of every part, and its length in bytes, unpacked.

    Raises:
        DataError: if it is damaged, or states more than it holds.
    """

    def __init__(self, file: Mapped) -> None:
        self.file = file
        stream = _Frugal(FileIO(file.path))
        # Of each entry in the directory, 46 bytes and a name, Python makes an object of this size.
        stream.most = max(1 << 17, 46 * (file.budget // _ENTRY_BYTES))
        try:
            with stream, zipfile.ZipFile(stream) as archive:
                found = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise self.damaged(str(error)) from error
        self._entries = {entry.filename: entry for entry in found}
        self.sizes = {name: entry.file_size for name, entry in self._entries.items()}
        if len(self.sizes) < len(found):
            raise self.damaged("two of its parts have one name")
        stored = sum(entry.file_size for entry in found if not entry.compress_type)
        if stored > len(file.data):
            raise self.damaged("its parts are larger than the whole")

    def damaged(self, what: str) -> DataError:
        """The error for a file that is not what it says."""
        return DataError(
            f"{self.file.path} is no complete zip file ({what}); it is truncated or damaged: copy or "
            "download it again."
        )

    def span(self, name: str) -> Span:
        """Where a part lies.

        Raises:
            DataError: if there is none, or it is packed, encrypted, or lies elsewhere than stated.
        """
        entry, data = self._entries.get(name), self.file.data
        if entry is None:
            raise self.damaged(f"it has no part '{name}'")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise DataError(
                f"{self.file.path} is a compressed or encrypted zip file, expected one that stores its "
                f"parts as they are, as torch.save does ('{name}' is packed): unpack it, and pack it "
                "again with `zip -0 -r`."
            )
        begin = entry.header_offset
        try:
            mark, name_length, extra = (
                _LOCAL_HEADER.unpack_from(data, begin) if begin >= 0 else (b"", 0, 0)
            )
        except struct.error:
            mark, name_length, extra = b"", 0, 0
        if mark != b"PK\x03\x04":
            raise self.damaged(f"no part begins where '{name}' should")
        title = begin + _LOCAL_HEADER.size
        start = title + name_length + extra
        span = Span(start, start + entry.file_size)
        codec = "utf-8" if entry.flag_bits & 0x800 else "cp437"
        if entry.compress_size != entry.file_size or span.stop > len(data):
            raise self.damaged(f"'{name}' reaches beyond its end")
        if data[title : title + name_length] != entry.orig_filename.encode(codec):
            raise self.damaged(f"another part lies where '{name}' should")
        return span

    def bytes(self, name: str) -> bytes:
        """A part, read."""
        start, stop = self.span(name)
        return self.file.data[start:stop]
