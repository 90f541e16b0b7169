"""Masks of object ids as PNG files with the VOC palette, as DAVIS stores and its server accepts them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.errors import DataError
from sdssl_bench.system import writing

VOID = 255
"""Id of pixels that the annotators left open; background everywhere in DAVIS-2017."""


def voc_palette() -> bytes:
    """768 bytes, RGB of ids 0..255: the bits of an id, three at a time, are the high bits of R, G, B.

    Source: PASCAL VOC 2012 development kit.

    >>> list(voc_palette()[3:12])
    [128, 0, 0, 0, 128, 0, 128, 128, 0]
    """
    colours = bytearray()
    for index in range(256):
        for channel in range(3):
            bits = [(index >> (3 * j + channel)) & 1 for j in range(8)]
            colours.append(sum(bit << (7 - j) for j, bit in enumerate(bits)))
    return bytes(colours)


_PALETTE = voc_palette()


def write_mask(path: Path, mask: NDArray[Any]) -> None:
    """Write object ids [H, W] as an 8-bit palette PNG."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    image.putpalette(_PALETTE)
    with writing(path):
        image.save(path, format="PNG")


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Object ids [H, W] of a palette or grey 8-bit PNG, as stored.

    Raises:
        DataError: naming the file, if it is missing, damaged, or stores colours instead of ids.
    """
    from PIL import Image, ImageFile

    # A library that switches this on for the whole process would hide truncated files from us.
    others = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise DataError(
                    f"{path}: expected object ids (a palette PNG, mode P, or mode L), found mode "
                    f"{image.mode}: colours. Save the ids with a palette, not the overlay."
                )
            return np.asarray(image).astype(np.uint8, copy=False)
    except FileNotFoundError:
        raise DataError(
            f"{path}: expected a mask, found no such file. Every evaluated frame needs one."
        ) from None
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise much more than OSError.
        raise DataError(
            f"{path}: expected a PNG mask, found a damaged file ({type(error).__name__}: {error}). "
            "Write it again."
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = others
