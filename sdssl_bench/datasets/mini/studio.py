"""What the writers of miniature sets share: images class by class, and the official file formats.

Bytes depend on the seed and the content alone.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdssl_bench.datasets.mini import photographs
from sdssl_bench.datasets.mini.photographs import REGIONS, Region

Counts = dict[str, int]


class Studio:
    """Classes and their images for one set.

    Attributes:
        regions: one per class.
        num_train, num_test: images per class.
    """

    def __init__(
        self, rng: np.random.Generator, first: int, *, classes: int, train: int, test: int
    ) -> None:
        self.rng = rng
        self.regions: list[Region] = [REGIONS[(first + i) % len(REGIONS)] for i in range(classes)]
        self.num_train = train
        self.num_test = test

    def counts(self) -> Counts:
        """What the marker says of this set."""
        n = len(self.regions)
        return {"classes": n, "train": n * self.num_train, "test": n * self.num_test}

    def shots(self, split: str) -> Iterator[tuple[int, int]]:
        """(class id, running number from 1 within the class), classes interleaved."""
        for number in range(self.num_train if split == "train" else self.num_test):
            for class_id in range(len(self.regions)):
                yield class_id, number + 1

    def image(
        self, class_id: int, split: str, *, size: tuple[int, int] | None = None
    ) -> Image.Image:
        """A fresh crop; by default of random shape, about 100 pixels."""
        if size is None:
            width, height = (int(side) for side in self.rng.integers(88, 132, 2))
            size = (width, height)
        return photographs.crop(self.regions[class_id], split, size=size, rng=self.rng)

    def name(self, class_id: int, *, joint: str = "_") -> str:
        """The region's name with its spaces replaced."""
        return self.regions[class_id].name.replace(" ", joint)


def save_jpeg(image: Image.Image, path: Path) -> None:
    """JPEG as photographs have it; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=88)


def write_lines(path: Path, lines: list[str]) -> None:
    """A text list; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def write_mat(path: Path, variables: dict[str, Any]) -> None:
    """A MATLAB 5 file whose bytes depend on its content only (scipy writes the date)."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(cast(Any, buffer), variables, do_compression=True)
    header = b"MATLAB 5.0 MAT-file, sdssl-bench miniature".ljust(116)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + buffer.getvalue()[116:])


def cells(values: list[str], *, column: bool = False) -> NDArray[Any]:
    """Strings as a MATLAB cell array, a row unless `column`."""
    array = np.array(values, object)
    return array[:, None] if column else array[None]


def structs(fields: dict[str, list[Any]]) -> NDArray[Any]:
    """A MATLAB struct array [1, N]."""
    length = len(next(iter(fields.values())))
    array = np.empty((1, length), [(field, object) for field in fields])
    for field, values in fields.items():
        array[field][0, :] = values
    return array


def write_pickle(path: Path, content: dict[bytes, Any]) -> None:
    """A pickle as Python 2 and the numpy of its time wrote it (protocol 2): CIFAR's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x80\x02" + _opcodes(content) + b".")


def _opcodes(value: Any) -> bytes:
    """The opcodes that push a value; today's `pickle` cannot write strings of Python 2."""
    if value is None or isinstance(value, bool):
        return b"N" if value is None else (b"\x88" if value else b"\x89")
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, tuple | list):
        items = b"".join(map(_opcodes, value))
        return b"(" + items + b"t" if isinstance(value, tuple) else b"](" + items + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(k) + _opcodes(v) for k, v in value.items()) + b"u"
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        empty = b"(cnumpy\nndarray\n" + _opcodes((0,)) + _opcodes(b"b") + b"t"
        dtype = b"cnumpy\ndtype\n" + _opcodes((b"u1", 0, 1)) + b"R"
        dtype += _opcodes((3, b"|", None, None, None, -1, -1, 0)) + b"b"
        state = b"(" + _opcodes(1) + _opcodes(value.shape) + dtype
        state += _opcodes(False) + _opcodes(value.tobytes()) + b"t"
        return b"cnumpy.core.multiarray\n_reconstruct\n" + empty + b"R" + state + b"b"
    raise TypeError(f"no opcodes for {type(value).__name__}")
