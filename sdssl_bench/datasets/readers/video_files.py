"""Videos on disk: lists of sequences, frames, annotations, each proven to fit its sequence."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets.readers.palette import VOID, read_mask
from sdssl_bench.errors import DataError
from sdssl_bench.system import resize

Size = tuple[int, int]
"""(H, W) in pixels."""
_FILES = re.compile(r"/?JPEGImages/[^/]+/([^/\s]+)/\S+\s+/?Annotations/\S+")
"""A line of DAVIS-2016's lists: a frame and its annotation."""


def read_sequences(path: Path) -> list[str]:
    """The sequence names of a list such as DAVIS/ImageSets/2017/val.txt, one a line.

    The lists of DAVIS-2016 (ImageSets/480p) have a line for each frame; their sequences are taken.

    Raises:
        DataError: if the file is missing, empty or names a sequence twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a list of sequence names, found: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    if names and (of_frames := [match[1] for line in names if (match := _FILES.fullmatch(line))]):
        names = list(dict.fromkeys(of_frames)) if len(of_frames) == len(names) else names
    if not names:
        raise DataError(f"{path}: expected a sequence name on each line, found an empty list.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: expected each sequence once, found twice: {', '.join(twice)}.")
    bad = [name for name in names if "/" in name or "\\" in name or name in (".", "..")]
    if bad:
        raise DataError(
            f"{path}: expected sequence names such as bike-packing, or lines as in DAVIS-2016's "
            f"lists (/JPEGImages/480p/NAME/00000.jpg /Annotations/480p/NAME/00000.png), found "
            f"'{bad[0]}'."
        )
    return names


def annotation_files(folder: Path) -> list[Path]:
    """The annotated frames of one sequence, in order.

    Raises:
        DataError: if the folder is missing, holds fewer than three masks, or lacks one in between.
    """
    files = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    if len(files) < 3:
        found = f"{len(files)} PNG files" if folder.is_dir() else "no such folder"
        raise DataError(
            f"{folder}: expected the annotations of a sequence, three frames or more, found {found}."
        )
    numbers, step = frame_numbers(files)
    if gaps := [a + step for a, b in pairwise(numbers) if b - a != step]:
        raise DataError(
            f"{folder}: expected an annotation of every frame, found none of frame {gaps[0]} "
            f"({len(files)} annotations, numbered {numbers[0]} to {numbers[-1]}). Extract it again."
        )
    return files


def frame_numbers(files: Sequence[Path]) -> tuple[list[int], int]:
    """The numbers that files are named by and the step between them; [] if one has another name."""
    if not all(path.stem.isdecimal() for path in files):
        return [], 0
    numbers = sorted(int(path.stem) for path in files)
    return numbers, min((b - a for a, b in pairwise(numbers)), default=1)


def read_annotation(
    path: Path, shape: tuple[int, ...] | None = None, *, single_object: bool = False
) -> NDArray[np.uint8]:
    """Ids of one annotation, void as background.

    Args:
        path: of the mask.
        shape: (H, W) it must have.
        single_object: everything but 0 is object 1, 255 too, as in the masks of DAVIS-2016.

    Raises:
        DataError: naming the file, if it is damaged or not of the sequence's shape.
    """
    truth = read_mask(path)
    if shape is not None and truth.shape != shape:
        raise DataError(
            f"{path}: expected {size_text(shape)} as in frame 0, found {size_text(truth.shape)}."
        )
    if single_object:
        return np.not_equal(truth, 0).astype(np.uint8)
    if VOID in truth:
        truth = np.where(truth == VOID, np.uint8(0), truth)
    return truth


def first_annotation(
    path: Path, *, single_object: bool = False
) -> tuple[NDArray[np.uint8], int, tuple[int, ...]]:
    """Ids of a sequence's first annotation, K, and those of 1..K that it lacks.

    Raises:
        DataError: if it holds no object.
    """
    truth = read_annotation(path, single_object=single_object)
    objects = count_objects(truth)
    if not objects:
        ids = ", ".join(map(str, np.unique(read_mask(path))))
        binary = " Masks of 0 and 255, as in DAVIS-2016, are read with --single-object."
        raise DataError(
            f"{path}: expected an object (ids 1..K) in the first annotation, found ids {ids}."
            + binary * ids.endswith("255")
        )
    return (
        truth,
        objects,
        tuple(sorted(set(range(1, objects + 1)) - set(np.unique(truth).tolist()))),
    )


def gap_warning(absent: dict[str, tuple[int, ...]]) -> str:
    """What the public rule makes of ids that a first annotation lacks, by sequence; "" if none."""
    found = [f"{name} {', '.join(map(str, ids))}" for name, ids in absent.items() if ids]
    if not found:
        return ""
    more = f" and {len(found) - 3} more sequences" if len(found) > 3 else ""
    return (
        f"Ids 1..K of the first annotation have gaps ({'; '.join(found[:3])}{more}). By the public "
        "rule K is the largest id, so an id that is absent counts as an object, with J = F = 1 in "
        "every frame where neither mask has it. Number the objects without gaps for scores without it."
    )


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
