"""Files of `torch.save`: the zip format, the one before torch 1.6, and bare pickles; read, never run."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import UntypedStorage

from sdssl_bench.checkpoints.inert.mapped import Archive, Mapped, Span
from sdssl_bench.checkpoints.inert.restore import KNOWN, STORAGES, Restorer, Storages
from sdssl_bench.errors import DataError
from sdssl_bench.system import PickleError, StandIn, Unpickled, unpickle

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What files before torch 1.6 begin with."""
Found = tuple[Any, tuple[str, ...]]
"""Content, and the names that stood in for what was not opened."""


def read_zip(archive: Archive) -> Found:
    """The content of a zip file of torch.save, its tensors in the mapped file.

    Raises:
        DataError: if it is damaged, or holds what cannot be read.
    """
    file = archive.file
    pickles = [name for name in archive.sizes if name.rpartition("/")[2] == "data.pkl"]
    if not pickles:
        parts = ", ".join(list(archive.sizes)[:5])
        raise DataError(
            f"{file.path} is a zip file without data.pkl, expected one of torch.save or of numpy.savez. "
            f"It holds {parts or 'nothing'}."
        )
    name = min(pickles, key=len)
    room = name.removesuffix("data.pkl")
    order = "little"
    if f"{room}byteorder" in archive.sizes:
        order = archive.bytes(f"{room}byteorder").decode("ascii", "replace")
    if order not in ("little", "big"):
        raise DataError(f"{file.path} is damaged: it states the byte order {order[:20]!r}.")
    found = _unpickle(file, archive.bytes(name))
    done: dict[str, tuple[UntypedStorage, torch.dtype]] = {}

    def storages(key: Any) -> tuple[UntypedStorage, torch.dtype]:
        dtype, name, count, _ = _persistent(file, key)
        if name not in done:
            span = archive.span(f"{room}data/{name}")
            storage = file.storage(span, dtype.itemsize)
            if order == "big":
                storage.byteswap(dtype)
            done[name] = storage, dtype
        storage, first = done[name]
        if count * dtype.itemsize > storage.nbytes() or (order == "big" and first != dtype):
            raise DataError(
                f"{file.path} is damaged: it states {count} elements of {dtype} in data/{name}, "
                f"which has {storage.nbytes()} bytes."
            )
        return storage, dtype

    return _restored(file, found, storages)


def read_legacy(file: Mapped) -> tuple[str, Found]:
    """A file that begins with a pickle, and whether it is "legacy" (torch before 1.6) or a bare "pickle".

    Raises: as `read_zip`.
    """
    first = _unpickle(file)
    if first.value != _MAGIC:
        if first.end != len(file.data):
            raise _damaged(file, f"{len(file.data) - first.end} bytes follow its pickle")
        return "pickle", _restored(file, first, _nothing_outside(file))
    version = _unpickle(file, start=first.end)
    if version.value != _PROTOCOL:
        raise _damaged(file, f"version {version.value!r}, expected {_PROTOCOL}")
    system = _unpickle(file, start=version.end)
    found = _unpickle(file, start=system.end)
    keys = _unpickle(file, start=found.end)
    spans = _spans(file, found.persistent, keys)
    done: dict[str, UntypedStorage] = {}

    def storages(key: Any) -> tuple[UntypedStorage, torch.dtype]:
        dtype, name, count, view = _persistent(file, key)
        if name not in spans:
            raise _damaged(file, f"the data of storage {name!r} is missing")
        if name not in done:
            done[name] = file.storage(spans[name], dtype.itemsize)
        storage, start, stop = done[name], 0, count * dtype.itemsize
        if type(view) is tuple and len(view) == 3:  # of files before torch 0.4
            start, stop = view[1] * dtype.itemsize, (view[1] + view[2]) * dtype.itemsize
        if not 0 <= start <= stop <= storage.nbytes():
            raise _damaged(file, f"storage {name!r} has {storage.nbytes()} bytes")
        return storage[start:stop], dtype

    return "legacy", _restored(file, found, storages)


def _spans(file: Mapped, persistent: list[Any], keys: Unpickled) -> dict[str, Span]:
    """Where the data lies that follows the pickles: of each storage its length, then its bytes."""
    types = {}
    for key in persistent:
        if type(key) is tuple and key and key[0] == "storage":
            dtype, name, _, _ = _persistent(file, key)
            types[name] = dtype
    spans, position = {}, keys.end
    for name in map(str, keys.value if type(keys.value) is list else []):
        if name not in types:
            raise _damaged(file, f"nothing refers to its storage {name!r}")
        count = int.from_bytes(file.data[position : position + 8], "little")
        start = position + 8
        position = start + count * types[name].itemsize
        if position > len(file.data):
            raise _damaged(file, f"storage {name!r} states {count} elements, past its end")
        spans[name] = Span(start, position)
    if position != len(file.data):
        raise _damaged(file, f"{len(file.data) - position} bytes follow its data")
    return spans


def _persistent(file: Mapped, key: Any) -> tuple[torch.dtype, str, int, Any]:
    """Type, name, number of elements and view of a storage, from the id that stands for it."""
    if type(key) is tuple and len(key) in (5, 6) and key[0] == "storage":
        kind, name, _, count = key[1:5]
        dtype = STORAGES.get(kind.kind.rpartition(".")[2]) if isinstance(kind, StandIn) else None
        if dtype is not None and type(name) in (str, int) and type(count) is int and count >= 0:
            return dtype, str(name), count, key[5] if len(key) == 6 else None
    raise _damaged(file, f"{str(key)[:80]} stands for no storage of numbers")


def _nothing_outside(file: Mapped) -> Storages:
    def storages(key: Any) -> tuple[UntypedStorage, torch.dtype]:
        raise _damaged(file, "a bare pickle has no data outside of itself")

    return storages


def _unpickle(file: Mapped, data: bytes | None = None, start: int = 0) -> Unpickled:
    try:
        return unpickle(file.data if data is None else data, start, budget=file.budget)
    except PickleError as error:
        raise _damaged(file, str(error)) from error


def _restored(file: Mapped, found: Unpickled, storages: Storages) -> Found:
    closed = (name for name in found.names if name not in KNOWN)
    return Restorer(file, storages).restore(found.value), tuple(sorted(closed))


def _damaged(file: Mapped, what: str) -> DataError:
    return DataError(
        f"{file.path} cannot be read as a torch checkpoint ({what}); it is truncated, damaged or of "
        "another kind: copy or download it again."
    )


def as_mapping(content: Any, path: Any) -> Mapping[str, Any]:
    """What a file holds, by text keys; a list's members have their numbers as keys.

    Raises:
        DataError: if it is neither.
    """
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        name = content.kind if isinstance(content, StandIn) else type(content).__name__
        raise DataError(
            f"{path} holds a {name}, expected a dictionary with text keys "
            "(a state dict, or a training checkpoint that contains one) or a module."
        )
    return {str(key): value for key, value in content.items()}
