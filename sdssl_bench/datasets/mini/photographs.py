"""Real photographs, of the folder `photos` and of scikit-learn's wheel, cut into classes.

A class is a photograph or a band of one. Train crops come from its left part, test crops from its
right part, with a gap between, so that no pixel is in both. Nothing is ever downloaded: the files
are opened by path, never through functions that may fetch them.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from sdssl_bench.errors import DataError

_FOLDERS = {"sdssl_bench": "datasets/mini/photos", "sklearn": "datasets/images"}


@dataclass(frozen=True)
class Region:
    """A photograph, or the band of its height from `top` to `bottom` (fractions)."""

    name: str
    file: str
    package: str = "sdssl_bench"
    top: float = 0.0
    bottom: float = 1.0


REGIONS = (
    Region("chelsea", "chelsea.jpg"),
    Region("brick", "brick.jpg"),
    Region("coffee", "coffee.jpg"),
    Region("grass", "grass.jpg"),
    Region("flower head", "flower.jpg", "sklearn", 0.0, 0.5),
    Region("astronaut face", "astronaut.jpg", bottom=0.5),
    Region("retina upper", "retina.jpg", bottom=0.5),
    Region("hubble", "hubble.jpg"),
    Region("camera sky", "camera.jpg", bottom=0.5),
    Region("text", "text.jpg"),
    Region("rocket sky", "rocket.jpg", bottom=0.5),
    Region("cell", "cell.jpg"),
    Region("china roof", "china.jpg", "sklearn", 0.0, 0.5),
    Region("gravel", "gravel.jpg"),
    Region("flower base", "flower.jpg", "sklearn", 0.5, 1.0),
    Region("astronaut suit", "astronaut.jpg", top=0.5),
    Region("rocket pad", "rocket.jpg", top=0.5),
    Region("camera lawn", "camera.jpg", top=0.5),
    Region("china base", "china.jpg", "sklearn", 0.5, 1.0),
    Region("retina lower", "retina.jpg", top=0.5),
)


@cache
def _photograph(package: str, file: str) -> Image.Image:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise DataError(
            f"Expected the package {package} for its photographs, found none installed."
        )
    path = Path(found.origin).parent / _FOLDERS[package] / file
    if not path.is_file():
        raise DataError(
            f"Expected the photograph {path}, which wheels of {package} hold, found none. "
            f"Install {package} from its wheel again."
        )
    with Image.open(path) as image:
        return image.convert("RGB")


def whole(region: Region) -> Image.Image:
    """A copy of the region in full; RGB."""
    picture = _photograph(region.package, region.file)
    top, bottom = (round(edge * picture.height) for edge in (region.top, region.bottom))
    return picture.crop((0, top, picture.width, bottom))


def area(region: Region, split: str) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in pixels of the part of the photograph that a split may use."""
    width, height = _photograph(region.package, region.file).size
    left, right = (0.0, 0.48) if split == "train" else (0.52, 1.0)
    return (
        round(left * width),
        round(region.top * height),
        round(right * width),
        round(region.bottom * height),
    )


def crop(
    region: Region, split: str, *, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A random crop of the split's area at random scale, flip and brightness; RGB, `size` pixels."""
    left, top, right, bottom = area(region, split)
    width, height = size
    largest = min((right - left) / width, (bottom - top) / height)
    scale = largest * rng.uniform(0.4, 0.95)
    x = rng.uniform(left, right - width * scale)
    y = rng.uniform(top, bottom - height * scale)
    box = (x, y, x + width * scale, y + height * scale)
    # Resizing a piece that was cut out first keeps the filter from reaching over the gap.
    piece = _photograph(region.package, region.file).crop((left, top, right, bottom))
    box = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    image = piece.resize(size, Image.Resampling.BICUBIC, box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gain = rng.uniform(0.7, 1.3)
    return image.point([min(255, round(value * gain)) for value in range(256)] * 3)
