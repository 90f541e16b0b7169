"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the Python pickles or the binary archive.

Pixels are 3072 bytes per image, channel first. Items are in file order, named "data_batch_1:17" in
both archives, so that both have the same fingerprint.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.files import numbers, read_lines
from sdssl_bench.datasets.listing import Listing, SplitListing
from sdssl_bench.datasets.readers.unpickle import load_arrays
from sdssl_bench.errors import DataError

_PIXELS = 3 * 32 * 32


def read_cifar10(root: Path, num_classes: int) -> Listing:
    """`cifar-10-batches-py` or `cifar-10-batches-bin`."""
    train = [f"data_batch_{i}" for i in range(1, 6)]
    if any((root / f"{stem}.bin").is_file() for stem in [*train, "test_batch"]):
        names = tuple(read_lines(root / "batches.meta.txt"))
        return _listing(root, train, ["test_batch"], class_names=names, label_bytes=1)
    names = _class_names(root / "batches.meta", "label_names")
    return _listing(root, train, ["test_batch"], class_names=names, label_key="labels")


def read_cifar100(root: Path, num_classes: int) -> Listing:
    """`cifar-100-python` or `cifar-100-binary`; the 100 fine classes."""
    if any((root / f"{stem}.bin").is_file() for stem in ("train", "test")):
        names = tuple(read_lines(root / "fine_label_names.txt"))
        # The binary record starts with the coarse label, then the fine one.
        return _listing(root, ["train"], ["test"], class_names=names, label_bytes=2)
    names = _class_names(root / "meta", "fine_label_names")
    return _listing(root, ["train"], ["test"], class_names=names, label_key="fine_labels")


def _listing(
    root: Path,
    train: Sequence[str],
    test: Sequence[str],
    *,
    class_names: tuple[str, ...],
    label_key: str = "",
    label_bytes: int = 0,
) -> Listing:
    suffix = ".bin" if label_bytes else ""
    splits, absent = [], []
    for stems in (train, test):
        there = [stem for stem in stems if (root / f"{stem}{suffix}").is_file()]
        absent += [f"{stem}{suffix}" for stem in stems if stem not in there]
        splits.append(_split(root, there, label_key=label_key, label_bytes=label_bytes))
    return Listing(class_names, splits[0], splits[1], tuple(absent))


def _split(root: Path, stems: Sequence[str], *, label_key: str, label_bytes: int) -> SplitListing:
    parts = [
        _read_binary(root / f"{stem}.bin", label_bytes)
        if label_bytes
        else _read_pickle(root / stem, label_key)
        for stem in stems
    ]
    data = [np.empty((0, _PIXELS), np.uint8), *(part[0] for part in parts)]
    labels = [np.empty(0, np.int64), *(part[1] for part in parts)]
    pixels = np.concatenate(data).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    names = [f"{s}:{i}" for s, part in zip(stems, parts, strict=True) for i in range(len(part[1]))]
    return SplitListing(names, np.concatenate(labels), np.ascontiguousarray(pixels))


def _read_binary(path: Path, label_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = label_bytes + _PIXELS
    raw = np.fromfile(path, np.uint8)
    if not len(raw) or len(raw) % record:
        raise DataError(
            f"{path}: expected records of {record:,} bytes, found {len(raw):,} bytes: the file is "
            f"truncated. Extract the official archive again."
        )
    rows = raw.reshape(-1, record)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)


def _read_pickle(path: Path, label_key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = _read_dict(path)
    data = content.get("data")
    labels = numbers(content.get(label_key, "nothing"), path, what=f"'{label_key}'")
    shape = (len(labels), _PIXELS)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != shape:
        found = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else "none"
        raise DataError(
            f"{path}: expected 'data' as uint8 [{len(labels)}, {_PIXELS}] beside {len(labels)} "
            f"labels, found {found}. Extract the official archive again."
        )
    return data, labels


def _class_names(path: Path, key: str) -> tuple[str, ...]:
    names = _read_dict(path).get(key)
    if not isinstance(names, list):
        raise DataError(f"{path}: expected the list '{key}', found none.")
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)


def _read_dict(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise DataError(f"Expected {path}, found none. Extract the official archive again.")
    content = load_arrays(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a dictionary, found {type(content).__name__}.")
    return {k.decode() if isinstance(k, bytes) else str(k): v for k, v in content.items()}
