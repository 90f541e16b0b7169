"""Strips of videos and galleries of searches, made small enough for the page.

They are written by `run --strips` and `run --gallery` into folders of the user's choice; records do not
name these folders, so the user names them. All pictures get the same size and quality: the best of a few
steps at which all of them fit. If not even the last step fits, the first pictures in order stay and
the page says what was left out.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdssl_bench.errors import DataError
from sdssl_bench.reports.page_data import Data

STEPS = ((1400, 80), (1100, 75), (840, 70), (640, 60))
"""Width in pixels and JPEG quality, from the best to the smallest."""
ENTRY = 400
"""Bytes that a picture's entry takes beside the picture itself, at most."""


@dataclass(frozen=True)
class Picture:
    """One picture file.

    Attributes:
        kind: "strip" or "gallery".
        path: of the file.
        caption: what it shows.
    """

    kind: str
    path: Path
    caption: str


def add_pictures(
    data: Data, *, strips: Sequence[Path], galleries: Sequence[Path], budget: int
) -> None:
    """Put the pictures of these folders into `data`, at most `budget` bytes of them.

    Raises:
        DataError: if a folder holds no pictures, or a picture cannot be read.
    """
    found = [
        *(picture for folder in strips for picture in _strips(folder)),
        *_by_layer([picture for folder in galleries for picture in _galleries(folder)]),
    ]
    entries: list[dict[str, Any]] = []
    for width, quality in STEPS if found else ():
        entries = [_entry(picture, width=width, quality=quality) for picture in found]
        if sum(map(_bytes, entries)) <= budget:
            break
    fitting: list[dict[str, Any]] = []
    room = budget
    for entry in entries:
        if _bytes(entry) > room:
            break
        room -= _bytes(entry)
        fitting.append(entry)
    data["pictures"] = fitting
    if len(fitting) < len(found):
        data["about"]["left_out"].append(
            f"Left out to keep the page small: {len(found) - len(fitting)} of {len(found)} pictures, "
            f"from {found[len(fitting)].caption} on."
        )


def _bytes(entry: dict[str, Any]) -> int:
    return len(entry["source"]) + ENTRY


def _strips(folder: Path) -> Iterator[Picture]:
    for path in _files(folder, "*.png", "strips", "--strips"):
        yield Picture("strip", path, f"{path.stem} ({folder.name})")


def _galleries(folder: Path) -> Iterator[Picture]:
    for path in _files(folder, "layer*/*.png", "galleries", "--gallery"):
        layer = path.parent.name.removeprefix("layer").lstrip("0")
        yield Picture("gallery", path, f"layer {layer}: {path.stem} ({folder.name})")


def _files(folder: Path, pattern: str, what: str, option: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise DataError(
            f"Expected {what} ({pattern}) in {folder}, found none. Name the folder given to "
            f"'sdssl-bench run {option}'."
        )
    return paths


def _by_layer(pictures: list[Picture]) -> list[Picture]:
    """The last layer first: what does not fit is lost from the end."""
    return sorted(pictures, key=lambda p: p.path.parent.name, reverse=True)


def _entry(picture: Picture, *, width: int, quality: int) -> dict[str, Any]:
    from PIL import Image

    try:
        with Image.open(picture.path) as opened:
            image = opened.convert("RGB")
    except OSError as error:
        raise DataError(f"Expected a picture in {picture.path}, found: {error}.") from error
    original = f"{image.width} × {image.height}"  # noqa: RUF001
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality, optimize=True)
    return {
        "kind": picture.kind,
        "caption": picture.caption,
        "width": image.width,
        "height": image.height,
        "original": original,
        "source": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(),
    }
