"""Positive pairs: MoCo v3's two views of an image, each a function of image name and seed alone.

So the pairs of an image are the same for every model, sample size, batch and process. Images up to 64 px
are not blurred, as in pretraining: nothing would be left of them.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdssl_bench.datasets import NATIVE_MAX_SIZE, ImageSet
from sdssl_bench.features import (
    JITTER,
    SOLARIZE_FROM,
    View,
    draw,
    recolour,
    text_seed,
    to_tensor,
    view_pair,
)
from sdssl_bench.probes import random_box

KINDS = ("auto", "mocov3", "small")
CROP_MIN = 0.08
"""Smallest area of a crop; MoCo v3."""

Item = tuple[Image.Image, str]


@dataclass(frozen=True, eq=False)
class NamedImages(ImageSet):
    """Images that come with their names."""

    def load(self, index: int) -> Item:  # type: ignore[override]  # what `OneView` takes
        """The image as RGB and its name.

        Raises:
            ImageError: if it cannot be read.
        """
        return super().load(index), self.names[index]

    @staticmethod
    def of(images: ImageSet, *, split: str) -> "NamedImages":
        """The same images, as a split of that name."""
        known = {one.name: getattr(images, one.name) for one in fields(images)}
        return NamedImages(**{**known, "split": split})


@dataclass(frozen=True)
class OneView:
    """(image, name) -> uint8 [3, size, size]; picklable, and safe in threads.

    Attributes:
        view: what happens to an image, and how probably.
        number: 1 or 2; the two views of an image are drawn apart.
        seed: of the run.
    """

    view: View
    number: int
    seed: int

    def __call__(self, item: Item) -> Tensor:
        """The view of one image."""
        image, name = item
        seed = text_seed(f"{self.seed}/{self.number}/{name}")
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        crop = image.crop(random_box(image.size, (self.view.crop_min, 1.0), rng))
        crop = crop.resize((self.view.size, self.view.size), Image.Resampling.BILINEAR)
        if rng.random() < self.view.flip:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(recolour(crop, draw(self.view, generator)))

    def describe(self) -> dict[str, Any]:
        """Everything that decides what it does; JSON values only."""
        view = self.view
        return {
            "id": f"view{self.number}",
            "seed": self.seed,
            "size": view.size,
            "crop_area": [view.crop_min, 1.0],
            "interpolation": "bilinear",
            "flip": view.flip,
            "jitter": view.jitter,
            "jitter_ranges": list(JITTER),
            "grey": view.grey,
            "blur": view.blur,
            "solarize": view.solarize,
            "solarize_from": SOLARIZE_FROM,
            "library": "pillow",
        }


def views(kind: str, *, size: int, seed: int) -> tuple[OneView, OneView]:
    """The two views for an encoder's input of `size` pixels.

    Args:
        kind: "mocov3", "small" (no blur), or "auto": by size.
        size: side in pixels.
        seed: of the run.
    """
    if kind == "auto":
        kind = "small" if size <= NATIVE_MAX_SIZE else "mocov3"
    first, second = view_pair(kind, size=size, crop_min=CROP_MIN)
    return OneView(first, 1, seed), OneView(second, 2, seed)
