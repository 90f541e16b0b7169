"""Videos on disk: lists of sequences, frames, annotations, each proven to fit its sequence."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.readers.palette import VOID, read_mask
from sdssl_bench.errors import DataError
from sdssl_bench.system import resize

Size = tuple[int, int]
"""(H, W) in pixels."""


def read_sequences(path: Path) -> list[str]:
    """The sequence names of a list such as DAVIS/ImageSets/2017/val.txt, one a line.

    Raises:
        DataError: if the file is missing, empty or names a sequence twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a list of sequence names, found: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: expected a sequence name on each line, found an empty list.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: expected each sequence once, found twice: {', '.join(twice)}.")
    bad = [name for name in names if "/" in name or "\\" in name or name in (".", "..")]
    if bad:
        raise DataError(
            f"{path}: expected sequence names such as bike-packing, found '{bad[0]}'. Lists of "
            "DAVIS-2016 (ImageSets/480p) name files; use ImageSets/2017/val.txt."
        )
    return names


def annotation_files(folder: Path) -> list[Path]:
    """The annotated frames of one sequence, in order.

    Raises:
        DataError: if the folder is missing or holds fewer than three masks.
    """
    files = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    if len(files) < 3:
        found = f"{len(files)} PNG files" if folder.is_dir() else "no such folder"
        raise DataError(
            f"{folder}: expected the annotations of a sequence, three frames or more, found {found}."
        )
    return files


def read_annotation(path: Path, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """Ids of one annotation, void as background.

    Raises:
        DataError: naming the file, if it is damaged or not of the sequence's shape.
    """
    truth = read_mask(path)
    if shape is not None and truth.shape != shape:
        raise DataError(
            f"{path}: expected {size_text(shape)} as in frame 0, found {size_text(truth.shape)}."
        )
    if VOID in truth:
        truth = np.where(truth == VOID, np.uint8(0), truth)
    return truth


def first_annotation(path: Path) -> tuple[NDArray[np.uint8], int]:
    """Ids of a sequence's first annotation and K, its number of objects.

    Raises:
        DataError: if it holds no object.
    """
    truth = read_annotation(path)
    objects = count_objects(truth)
    if not objects:
        ids = ", ".join(map(str, np.unique(read_mask(path))))
        raise DataError(
            f"{path}: expected an object (ids 1..K) in the first annotation, found ids {ids}. "
            "DAVIS-2016 masks are 0 and 255: write the object as id 1."
        )
    return truth, objects


def count_objects(annotation: NDArray[Any]) -> int:
    """K, the largest id of an annotation; 255 is void, not an object."""
    return int(annotation.max(where=annotation != 255, initial=0))


def read_frame(path: Path, expected: Size, working: Size) -> NDArray[np.uint8]:
    """[H, W, 3] RGB of one frame, resized.

    Raises:
        DataError: naming the file, if it is missing, damaged, or not of the expected size.
    """
    from PIL import Image

    from sdssl_bench.datasets.base import truncated_is_an_error

    try:
        with truncated_is_an_error(), Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise much more than OSError.
        raise DataError(
            f"{path}: expected a JPEG image, found {type(error).__name__}: {error}. Extract it again."
        ) from error
    if pixels.shape[:2] != expected:
        raise DataError(
            f"{path}: expected {expected[1]} x {expected[0]} pixels as in the first frame, found "
            f"{pixels.shape[1]} x {pixels.shape[0]}."
        )
    if pixels.shape[:2] != working:
        pixels = resize(pixels, working)
    return pixels


def size_text(shape: tuple[int, ...]) -> str:
    """Width x height of an [H, W] shape."""
    return f"{shape[1]} x {shape[0]} pixels"
