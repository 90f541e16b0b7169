"""A picture to look at per sequence: frames from left to right, layers from top to bottom.

The first row is the annotation. Masks are laid over the frames in the palette's colours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdssl_bench.datasets import voc_palette
from sdssl_bench.metrics import boundary
from sdssl_bench.system import replacing

if TYPE_CHECKING:
    from PIL import Image

TILE_WIDTH = 200
"""Width of one frame in the picture, in pixels."""

LABEL_WIDTH = 96
_PALETTE = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)


def shown_frames(num_frames: int, most: int = 8) -> list[int]:
    """Indices of the frames in the picture, spread evenly, first and last included.

    >>> shown_frames(50)
    [0, 7, 14, 21, 28, 35, 42, 49]
    """
    count = min(most, num_frames)
    return sorted({round(i) for i in np.linspace(0, num_frames - 1, count).tolist()})


def overlay(frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> "Image.Image":
    """A thumbnail of the frame [H, W, 3], its objects [h, w] half covered with their colours and outlined."""
    from PIL import Image

    width = TILE_WIDTH
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    photo = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    ids = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    mixed = photo // 2 + _PALETTE[ids] // 2
    shown = np.where(ids[..., None] > 0, mixed, photo).astype(np.uint8)
    # A light outline, since an object may have the colour that the palette gives it.
    for k in np.unique(ids):
        shown[boundary(ids == k)] = 255
    return Image.fromarray(shown)


def strip(
    rows: Mapping[str, Sequence["Image.Image"]], frames: Sequence[int], *, title: str
) -> "Image.Image":
    """The picture.

    Args:
        rows: label ("annotation", "layer 12", ...) -> one thumbnail per frame, all of one size.
        frames: indices of the frames, written above the columns.
        title: sequence and encoder.
    """
    from PIL import Image, ImageDraw, ImageFont

    width, height = next(iter(rows.values()))[0].size
    top, gap = 40, 3
    size = (LABEL_WIDTH + len(frames) * (width + gap), top + len(rows) * (height + gap))
    picture = Image.new("RGB", size, "white")
    draw: Any = ImageDraw.Draw(picture)
    font = ImageFont.load_default()
    draw.text((4, 4), title, fill="black", font=font)
    for column, frame in enumerate(frames):
        draw.text(
            (LABEL_WIDTH + column * (width + gap), 22), f"frame {frame}", fill="black", font=font
        )
    for row, (label, tiles) in enumerate(rows.items()):
        y = top + row * (height + gap)
        draw.multiline_text((4, y + height // 2 - 12), label, fill="black", font=font)
        for column, tile in enumerate(tiles):
            picture.paste(tile, (LABEL_WIDTH + column * (width + gap), y))
    return picture


def write_strip(path: Path, picture: "Image.Image") -> None:
    """Save as PNG."""
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
