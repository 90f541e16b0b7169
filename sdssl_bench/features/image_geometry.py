"""Sizes of images that keep their aspect: shrinking, query crops, scales, whole patches.

Retrieval shrinks the longest side with Lanczos and never enlarges (Radenovic et al. 2018; DINO
eval_image_retrieval.py), so shapes differ and a side is rarely a multiple of the patch. `fit` says
what becomes of the remainder:

    crop    the last incomplete row and column of pixels are dropped, as DINO's patch convolution does;
            a side below one patch is enlarged to one
    resize  both sides are resized to the multiple below
    pad     zeros (of the normalised image) at the right and bottom up to a multiple of 32, as the
            SDSSL authors' encoder does; of the patch where that does not divide 32
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sdssl_bench.errors import UsageError
from sdssl_bench.parameters import check_side

FITS = ("crop", "resize", "pad")
PAD_MULTIPLE = 32
"""The SDSSL authors' encoder, in pixels."""
REDUCING_GAP = 2.0
"""Of Pillow's own `thumbnail`, which the reference's images went through."""

Box = tuple[float, float, float, float]


def thumbnail_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height) after Pillow's `thumbnail`: the aspect kept, never enlarged.

    >>> thumbnail_size((1024, 768), 224), thumbnail_size((100, 80), 224)
    ((224, 168), (100, 80))
    """
    width, height = size
    if width <= longest and height <= longest:
        return size
    aspect = width / height
    if aspect <= 1:
        return _closest(longest * aspect, lambda n: abs(aspect - n / longest)), longest
    return longest, _closest(longest / aspect, lambda n: abs(aspect - longest / n) if n else 0.0)


def _closest(number: float, error: Any) -> int:
    return max(min(math.floor(number), math.ceil(number), key=error), 1)


@dataclass(frozen=True)
class Geometry:
    """From a decoded image to the tensors the encoder sees.

    Attributes:
        longest: side in pixels that the longest side is shrunk to.
        scales: factors of that size; the features of all scales are averaged.
        fit: one of FITS.
        stride: patch size of the encoder in pixels.
    """

    longest: int
    scales: tuple[float, ...]
    fit: str
    stride: int

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UsageError(f"fit takes one of {', '.join(FITS)}; found '{self.fit}'.")
        if not self.scales or min(self.scales) <= 0:
            raise UsageError("Scales are positive factors such as 1,0.7071,0.5.")
        largest = max(1.0, *self.scales)
        check_side(f"imsize {self.longest} at scale {largest:g}", self.longest * largest)
        if self.longest * min(self.scales) < self.stride:
            raise UsageError(
                f"imsize {self.longest} at scale {min(self.scales):g} is below one patch of "
                f"{self.stride} pixels."
            )

    @property
    def pad_to(self) -> int:
        """Sides are multiples of this after fit=pad."""
        return PAD_MULTIPLE if PAD_MULTIPLE % self.stride == 0 else self.stride

    def size(self, original: tuple[int, int], box: Box | None = None) -> tuple[int, int]:
        """(width, height) that an image of `original` size is decoded to."""
        if box is not None:
            left, top, right, bottom = crop_box(original, box)
            original = (right - left, bottom - top)
        width, height = thumbnail_size(original, self.longest)
        if self.fit != "resize":
            return width, height
        return self._whole(width), self._whole(height)

    def load(self, image: Image.Image, box: Box | None = None) -> NDArray[np.uint8]:
        """uint8 [3, height, width] of an RGB image: cropped, then shrunk by Lanczos."""
        size = self.size(image.size, box)
        if box is not None:
            image = image.crop(crop_box(image.size, box))
        if image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def views(self, images: Tensor) -> list[Tensor]:
        """The normalised images [B, 3, H, W] at every scale, sides whole patches."""
        return [self._fitted(images, scale) for scale in self.scales]

    def usual(self) -> tuple[int, int]:
        """(height, width) that the encoder sees of a photograph of 3 to 4 at the first scale."""
        width, height = self.size((4 * self.longest, 3 * self.longest))
        height, width = self.views(torch.empty(1, 1, height, width))[0].shape[-2:]
        return height, width

    def _fitted(self, images: Tensor, scale: float) -> Tensor:
        height, width = (int(side * scale) for side in images.shape[-2:])
        if self.fit == "resize":
            size = (self._whole(height), self._whole(width))
            if size == images.shape[-2:]:
                return images
            return F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        if scale != 1:
            images = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
        height, width = images.shape[-2:]
        if self.fit == "pad":
            return F.pad(images, (0, -width % self.pad_to, 0, -height % self.pad_to))
        if min(height, width) < self.stride:
            # The thin side of a panorama at a small scale still needs one patch.
            size = (max(height, self.stride), max(width, self.stride))
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
            height, width = size
        return images[
            ..., : height // self.stride * self.stride, : width // self.stride * self.stride
        ]

    def _whole(self, side: int) -> int:
        return max(side // self.stride, 1) * self.stride

    def tokens(self, size: tuple[int, int]) -> int:
        """Patch tokens of the largest scale of an image decoded to `size`."""
        return math.ceil(max(self.scales) ** 2 * size[0] * size[1] / self.stride**2)

    def describe(self) -> dict[str, Any]:
        """For the record; JSON values only."""
        return {
            "longest_side": self.longest,
            "scales": list(self.scales),
            "fit": self.fit,
            "patch": self.stride,
            "pad_to": self.pad_to if self.fit == "pad" else None,
            "shrink": "pillow lanczos, reducing_gap 2, never enlarged",
            "scaling": "bilinear on the normalised image, features averaged over scales",
        }


def crop_box(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """A box in whole pixels inside the image.

    Raises:
        UsageError: if nothing of it is inside.
    """
    width, height = size
    left, top, right, bottom = (round(value) for value in box)
    inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise UsageError(
            f"The query box {box} lies outside its image of {width} x {height} pixels."
        )
    return inside
