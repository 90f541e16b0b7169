"""Random crops and flips of training images, each a function of (seed, epoch, position) alone.

So an epoch is the same whatever loads it: one thread, many workers, several processes, or a run that
was killed and goes on. The crop is torchvision's RandomResizedCrop: ten tries of a random area and
aspect, then the largest central crop of a permitted aspect.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sdssl_bench.datasets import ImageSet
from sdssl_bench.probes.linear.regularisers import POLICY, rand_augment

RATIO = (3 / 4, 4 / 3)
"""Narrowest and widest crop, width / height; torchvision."""
TRIES = 10
FLIP = 0.5
"""Probability of a flip."""
REPEAT_UNIT = 256
"""An epoch of repeated images is a multiple of it; DeiT."""
RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class RandomCropFlip:
    """(image, random generator) -> uint8 [3, size, size]: RandomResizedCrop, flip, maybe RandAugment.

    Attributes:
        size: side of the encoder's input in pixels.
        scale: smallest and largest share of the image's area.
        interpolation: "bilinear" or "bicubic", antialiased.
        randaugment: its magnitude; 0 is off.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    interpolation: str = "bilinear"
    randaugment: int = 0

    def __call__(self, item: tuple[Image.Image, np.random.Generator]) -> Tensor:
        """The augmented pixels of one image."""
        image, rng = item
        box = random_box(image.size, self.scale, rng)
        flip = rng.random() < FLIP
        crop = image.crop(box)
        if crop.size != (self.size, self.size):
            crop = crop.resize((self.size, self.size), RESAMPLING[self.interpolation])
        pixels = np.asarray(crop)
        pixels = pixels[:, ::-1] if flip else pixels
        if self.randaugment:
            pixels = np.asarray(
                rand_augment(
                    Image.fromarray(pixels),
                    rng,
                    magnitude=self.randaugment,
                    resample=RESAMPLING[self.interpolation],
                )
            )
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def describe(self) -> Mapping[str, Any]:
        """For the record; JSON values only."""
        policy = {"randaugment": POLICY.format(magnitude=self.randaugment)}
        return {
            "crop": "random resized",
            "size": self.size,
            "scale": list(self.scale),
            "ratio": [round(side, 4) for side in RATIO],
            "interpolation": self.interpolation,
            "flip": FLIP,
            "library": "pillow, antialiased",
            **(policy if self.randaugment else {}),
        }


def random_box(
    size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of an image of `size` = (width, height)."""
    width, height = size
    for _ in range(TRIES):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w + 1))
            top = int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@dataclass(frozen=True, eq=False)
class EpochImages:
    """One epoch's items by position, each image with the random generator of its augmentation.

    Attributes:
        images: the training split.
        order: [P] dataset index at each position.
        seed: of the run.
        epoch: from 0.
    """

    images: ImageSet
    order: NDArray[np.int64]
    seed: int
    epoch: int

    def load(self, position: int) -> tuple[Image.Image, np.random.Generator]:
        """The image at a position and its generator.

        Raises:
            ImageError: if it cannot be read.
        """
        rng = np.random.default_rng([self.seed, self.epoch, position, 1])
        return self.images.load(int(self.order[position])), rng


def epoch_order(
    indices: NDArray[np.int64], *, seed: int, epoch: int, count: int | None = None, repeats: int = 1
) -> NDArray[np.int64]:
    """A shuffled epoch: each image once, or `count` items of one permutation after another.

    With `repeats` above 1 as many copies of an image follow each other and the epoch stays as long, less
    what whole batches of 256 leave over: repeated augmentation as DeiT samples it.
    """
    rng = np.random.default_rng([seed, epoch, 0])
    if repeats > 1:
        whole = len(indices) // REPEAT_UNIT * REPEAT_UNIT or len(indices)
        return np.repeat(rng.permutation(indices), repeats)[:whole]
    wanted = len(indices) if count is None else count
    rounds = -(-wanted // len(indices))
    return np.concatenate([rng.permutation(indices) for _ in range(rounds)])[:wanted]


def steps_of(num_items: int, batch: int) -> Sequence[slice]:
    """Positions of each optimiser step; the last may be smaller."""
    return [slice(a, min(a + batch, num_items)) for a in range(0, num_items, batch)]
