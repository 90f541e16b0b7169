"""Evaluation preprocessing: the five variants in the wild, by id.

    id  resize                     crop     interpolation  used by
    A   short side 256/224 x size  centre   bicubic        DINO k-NN and linear, DINOv2
    B   short side 256/224 x size  centre   bilinear       MoCo v3 linear and transfer
    C   squash to 256/224 x size   centre   bicubic        SDSSL ImageNet k-NN and linear
    D   squash to size             none     bicubic        Copydays
    E   short side size            centre   bicubic        CLIP, DINOv2 logistic regression

Resizing is Pillow's, antialiased. Rounding is torchvision's (`Resize`, `CenterCrop`), pixel for pixel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdssl_bench.errors import UsageError, did_you_mean

NATIVE_MAX_SIZE = 64
"""Encoders up to this input size see an image that already has that size as it is."""


@dataclass(frozen=True)
class _Variant:
    """One row of the table: whether the resize keeps the aspect, is enlarged by 256/224, and how."""

    keeps_aspect: bool
    enlarged: bool
    interpolation: Image.Resampling


_VARIANTS = {
    "A": _Variant(True, True, Image.Resampling.BICUBIC),
    "B": _Variant(True, True, Image.Resampling.BILINEAR),
    "C": _Variant(False, True, Image.Resampling.BICUBIC),
    "D": _Variant(False, False, Image.Resampling.BICUBIC),
    "E": _Variant(True, False, Image.Resampling.BICUBIC),
}
IDS = tuple(_VARIANTS)


@dataclass(frozen=True)
class Preprocess:
    """RGB image -> uint8 tensor [3, size, size]; picklable, deterministic.

    Attributes:
        id: one of IDS.
        size: side of the encoder's input in pixels.
    """

    id: str
    size: int

    @property
    def resize(self) -> int:
        """Side in pixels before the crop: 256 for 224 in variants A to C, 36 for 32."""
        return self.size * 256 // 224 if _VARIANTS[self.id].enlarged else self.size

    @property
    def native(self) -> bool:
        """Whether an image of size x size passes unchanged (CIFAR on a 32-pixel encoder)."""
        return self.size <= NATIVE_MAX_SIZE

    def describe(self) -> dict[str, Any]:
        """The variant as resolved for this size, for the record; JSON values only."""
        variant = _VARIANTS[self.id]
        return {
            "id": self.id,
            "size": self.size,
            "resize": self.resize,
            "resize_mode": "short side" if variant.keeps_aspect else "squash",
            "crop": "none" if self.id == "D" else "centre",
            "interpolation": variant.interpolation.name.lower(),
            "library": "pillow, antialiased",
            "native_if_already_size": self.native,
        }

    def __call__(self, image: Image.Image) -> Tensor:
        """Uint8 tensor [3, size, size] of an RGB image of any shape."""
        if not (self.native and image.size == (self.size, self.size)):
            image = self._resized_and_cropped(image)
        # One copy: it changes the layout and makes the memory writable, as torch wants it.
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())

    def _resized_and_cropped(self, image: Image.Image) -> Image.Image:
        variant = _VARIANTS[self.id]
        size = self.resize
        target = short_side(image.size, size) if variant.keeps_aspect else (size, size)
        if image.size != target:
            image = image.resize(target, variant.interpolation)
        if target == (self.size, self.size):
            return image
        left = round((target[0] - self.size) / 2.0)
        top = round((target[1] - self.size) / 2.0)
        return image.crop((left, top, left + self.size, top + self.size))


def short_side(size: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height after a resize of the shorter side, the longer one rounded down.

    >>> short_side((500, 375), 256)
    (341, 256)
    """
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def preprocess(id: str, size: int) -> Preprocess:
    """The variant `id` for an encoder whose input is size x size pixels.

    Raises:
        UsageError: for an unknown id or a size below 1.
    """
    if id not in _VARIANTS:
        raise UsageError(did_you_mean("preprocessing", id, IDS))
    if size < 1:
        raise UsageError(f"The input size is a number of pixels from 1, found {size}.")
    return Preprocess(id, size)
