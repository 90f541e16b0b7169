"""What a classification set is to the rest of the suite: images by index, targets, and proof of identity.

Everything here is read-only and cheap to pickle, so that data-loader workers can hold it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from sdssl_bench.errors import DataError
from sdssl_bench.system import available_cpus

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4096
"""Images given to the threads at once, so that a set of millions takes no memory."""
Range = tuple[float, float]
_RANGE: ContextVar[Range | None] = ContextVar("image range", default=None)


@contextmanager
def values_within(limits: Range | None) -> Iterator[None]:
    """Image sets that are made meanwhile read 16-bit and float images: `limits` become 0 and 255."""
    before = _RANGE.set(limits)
    try:
        yield
    finally:
        _RANGE.reset(before)


class ImageError(Exception):
    """One image cannot be read; `source` names it, the message says why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.source, self.reason)


class EncodedImages(Protocol):
    """Images in the bytes of their files, in a table; picklable."""

    def encoded(self, index: int) -> bytes | Path:
        """The bytes of an image, or its file."""

    def take(self, rows: NDArray[np.int64]) -> "EncodedImages":
        """Some of the images, in that order."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a classification set.

    Attributes:
        dataset: name, e.g. "cifar10", or "folder:PATH".
        split: "train" (what probes train on: train + val where the field does so) or "test".
        class_names: [C]; class id = position.
        targets: [N] int64 in 0..C-1.
        names: [N] stable item names: paths relative to the set's root, or "data_batch_1:17".
        root: folder that `names` are relative to.
        pixels: [N, H, W, 3] uint8 when the set is stored as arrays, else None and images are files.
        expected: number of images an official (or mini) copy of the split has, None for a folder.
        predefined_val: indices into this split that are officially validation, None if there are none.
        fingerprint: sha256 over names, file sizes (or pixel bytes) and targets: the same images on
            another machine have the same fingerprint.
        freshness: sha256 that also covers modification times; part of cache keys, never of results.
            Of a set stored as arrays it is the fingerprint, which covers every pixel.
        encoded: the images of a set stored in a table, else None.
        listed: [N, 2] size and time of each file as an earlier run found them, None if they are of now;
            a file that is not so any more is an error when it is read.
        tolerated: names of the few files that are damaged in the official archive itself; of these
            a JPEG that ends early is decoded as far as it goes, of any other it is an error.
        image_range: values of 16-bit and float images that become 0 and 255, see `values_within`.
    """

    dataset: str
    split: str
    class_names: tuple[str, ...]
    targets: NDArray[np.int64]
    names: Sequence[str]
    root: Path
    fingerprint: str
    freshness: str
    pixels: NDArray[np.uint8] | None = None
    expected: int | None = None
    predefined_val: NDArray[np.int64] | None = None
    encoded: EncodedImages | None = None
    listed: NDArray[np.int64] | None = None
    tolerated: frozenset[str] = frozenset()
    image_range: Range | None = field(default_factory=_RANGE.get)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_classes(self) -> int:
        """C, including classes that a partial copy has no image of."""
        return len(self.class_names)

    def load(self, index: int) -> Image.Image:
        """The image as RGB.

        Raises:
            ImageError: if the file is missing, truncated or no image; names the file.
            DataError: if the file is not what was listed.
        """
        if self.pixels is not None:
            return Image.fromarray(self.pixels[index])
        name = self.names[index]
        path = self.root / name
        try:
            if self.encoded is not None:
                value = self.encoded.encoded(index)
                source = value if isinstance(value, Path) else BytesIO(value)
                return _read_rgb(source, self.image_range)
            if self.listed is not None:
                _check_listed(path, *self.listed[index].tolist())
            return _read_rgb(path, self.image_range)
        except (MemoryError, DataError):
            raise
        except Exception as error:  # Pillow's decoders raise much more than OSError.
            if name in self.tolerated and path.is_file():
                return _read_damaged_jpeg(path)
            raise ImageError(str(path), f"{type(error).__name__}: {error}") from error


def _check_listed(path: Path, size: int, modified: int) -> None:
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (size, modified):
        raise DataError(
            f"{path} was overwritten since its folder was listed, which left the folder's time as it "
            f"was. Run again after: touch {path.parent}"
        )


def _read_rgb(source: Path | BytesIO, limits: Range | None = None) -> Image.Image:
    """Decode as RGB, whatever the file's mode; alpha is dropped, as torchvision's loader does."""
    with truncated_is_an_error(), Image.open(source) as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            return _within(image, limits)
        if image.mode in ("P", "PA") and "transparency" in image.info:
            # The detour has the same colours and avoids Pillow's warning.
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def _within(image: Image.Image, limits: Range | None) -> Image.Image:
    """A 16-bit or float image as grey RGB: linear from `limits` to 0 and 255, clipped, rounded.

    Raises:
        ValueError: without limits (Pillow would clip to 0..255: nearly all white), or for NaN.
    """
    # Pillow converts other orders of bytes to "I" only.
    values = np.asarray(image.convert("I") if image.mode.startswith("I;") else image, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"mode {image.mode} with NaN or infinity")
    if limits is None:
        raise ValueError(
            f"mode {image.mode} with values from {values.min():g} to {values.max():g} has no defined "
            "conversion to 8-bit RGB; say which values are black and white, such as --image-range 0,65535"
        )
    low, high = limits
    grey = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


@contextmanager
def truncated_is_an_error() -> Iterator[None]:
    """Pillow's strict mode, whatever another library has set for the whole process."""
    others = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = others


def in_threads(read: Callable[[T], R], items: Sequence[T], num_workers: int | None) -> list[R]:
    """`read` of every item, in order; Pillow decodes outside the interpreter lock.

    Args:
        read: in threads.
        items: any number.
        num_workers: threads; all cores if None.
    """
    workers = available_cpus() if num_workers is None else max(1, num_workers)
    with truncated_is_an_error(), ThreadPoolExecutor(workers) as pool:
        return [
            result
            for start in range(0, len(items), _AHEAD)
            for result in pool.map(read, items[start : start + _AHEAD])
        ]


def _read_damaged_jpeg(path: Path) -> Image.Image:
    """Decode a JPEG that ends early: libjpeg fills the rest with grey after an end marker."""
    try:
        return _read_rgb(BytesIO(path.read_bytes() + b"\xff\xd9"))
    except Exception as error:
        raise ImageError(str(path), f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, eq=False)
class ClassificationData:
    """Train and test split of one set, as the k-NN and the probes use them.

    Attributes:
        variant: "official" (complete), "mini" (made by `data mini`), "partial" (--allow-partial on
            an incomplete copy) or "folder" (the user's own).
        headline: "top1" or "mean_per_class", the metric the field reports for this set.
        notes: facts to record with every number, e.g. counts of a partial copy.
    """

    name: str
    variant: str
    headline: str
    train: ImageSet
    test: ImageSet
    notes: dict[str, Any] = field(default_factory=dict)
