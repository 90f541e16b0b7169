"""Test images that are training images too, by the digest of their pixels.

Decoding a set tells all of them. Without decoding, files of equal size are compared by their bytes, which
misses a copy that was saved again; sets stored as arrays need no decoding.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sdssl_bench.datasets.base import ClassificationData, ImageError, ImageSet, in_threads
from sdssl_bench.datasets.files import file_facts

COMPARED_ROWS = 20_000
"""Files of equal size that are read without --decode; more would take as long as decoding."""


@dataclass(frozen=True)
class Copies:
    """Test images that stand in train too.

    Attributes:
        compared: "pixels", "bytes" (of files of equal size), or "" if there were too many to look.
        test_images: how many.
        under_another_class: of them.
        examples: "test image = training image", a few.
    """

    compared: str
    test_images: int = 0
    under_another_class: int = 0
    examples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What was found, in a sentence."""
        if not self.compared:
            return "copies between train and test were not looked for: --decode does"
        if not self.test_images:
            how = "pixels" if self.compared == "pixels" else "bytes of files of equal size"
            return f"no test image is a training image too ({how})"
        classes = f", {self.under_another_class:,} of them under another class"
        return (
            f"{self.test_images:,} test images are training images too (equal {self.compared})"
            f"{classes if self.under_another_class else ''}: {'; '.join(self.examples)}"
        )


def read_all(data: ClassificationData, num_workers: int | None) -> tuple[tuple[str, ...], Copies]:
    """Decode every image: what cannot be read, and the copies among the rest."""
    faults: list[str] = []
    digests = []
    for images in (data.train, data.test):
        found = in_threads(partial(_pixels, images), range(len(images)), num_workers)
        faults += [one for one in found if isinstance(one, str)]
        digests.append([one if isinstance(one, bytes) else None for one in found])
    return tuple(faults), _matched(data, *digests, compared="pixels")


def find_copies(data: ClassificationData, num_workers: int | None) -> Copies:
    """The copies that can be found without decoding."""
    pairs = (data.train, data.test)
    if all(images.pixels is not None for images in pairs):
        digests = [[_pixels(images, i) for i in range(len(images))] for images in pairs]
        return _matched(data, *digests, compared="pixels")
    if any(images.encoded is not None or images.pixels is not None for images in pairs):
        return Copies("")
    sizes = [file_facts(images.root, images.names)[0] for images in pairs]
    both = np.intersect1d(sizes[0], sizes[1])
    rows = [np.flatnonzero(np.isin(size, both)).tolist() for size in sizes]
    if sum(map(len, rows)) > COMPARED_ROWS:
        return Copies("")
    train, test = (
        dict(zip(some, in_threads(partial(_bytes, images), some, num_workers), strict=True))
        for images, some in zip(pairs, rows, strict=True)
    )
    return _matched(
        data,
        [train.get(i) for i in range(len(data.train))],
        [test.get(i) for i in range(len(data.test))],
        compared="bytes",
    )


def _matched(
    data: ClassificationData,
    train: Sequence[bytes | str | None],
    test: Sequence[bytes | str | None],
    *,
    compared: str,
) -> Copies:
    rows: dict[bytes | str, list[int]] = {}
    for row, digest in enumerate(train):
        if digest is not None:
            rows.setdefault(digest, []).append(row)
    found = [(row, rows[digest]) for row, digest in enumerate(test) if digest in rows]
    other = sum(
        data.test.targets[row] not in data.train.targets[twins].tolist() for row, twins in found
    )
    examples = [
        f"{data.test.names[row]} = {data.train.names[twins[0]]}" for row, twins in found[:5]
    ]
    return Copies(compared, len(found), other, tuple(examples))


def _pixels(images: ImageSet, row: int) -> bytes | str:
    """Digest of the RGB pixels, or why there are none."""
    try:
        image = images.load(row)
    except ImageError as error:
        return str(error)
    pixels = np.asarray(image)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()


def _bytes(images: ImageSet, row: int) -> bytes:
    try:
        with (images.root / images.names[row]).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b"\0" + str(row).encode() + images.split.encode()  # Equal to nothing.
