"""RandAugment (Cubuk et al. 2020) and random erasing (Zhong et al. 2020), both timm's, as DeiT has them.

timm draws from Python's and numpy's global generators. Here they are an image's or batch's own for the
moment of drawing, so what comes out depends on its generator alone, in threads and processes alike.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sdssl_bench.encoders import IMAGENET_MEAN

POLICY = "rand-m{magnitude}-n2-mstd0.5-inc1"
"""DeiT: two operations an image, each with probability .5, magnitude of deviation .5, increasing."""

_DRAWING = threading.Lock()


def rand_augment(
    image: Image.Image, rng: np.random.Generator, *, magnitude: int, resample: Image.Resampling
) -> Image.Image:
    """The image after two random operations.

    Args:
        image: RGB, cropped and flipped.
        rng: decides which and how strong.
        magnitude: 1 to 10; DeiT: 9.
        resample: of rotations, shears and shifts.
    """
    with _drawing_from(rng):
        calls = _policy(magnitude, resample)([])
    for function, arguments, options in calls:  # outside the lock, so that threads work in parallel
        image = function(image, *arguments, **options)
    return image


def erase(pixels: Tensor, rng: np.random.Generator, *, probability: float) -> Tensor:
    """Normalised images [B, 3, H, W], some with a box of 2 to 33 % of the area turned into noise.

    The noise is drawn from torch's generator of the images' device. Works in place.
    """
    from timm.data.random_erasing import RandomErasing

    with _drawing_from(rng):
        out: Tensor = RandomErasing(probability, mode="pixel", device=pixels.device)(pixels)
    return out


@contextmanager
def _drawing_from(rng: np.random.Generator) -> Iterator[None]:
    with _DRAWING:
        state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002, timm's own
        random.seed(int(rng.integers(2**32)))
        np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)  # noqa: NPY002


@cache
def _policy(magnitude: int, resample: Image.Resampling) -> Callable[[list[Any]], Any]:
    """The policy with operations that, instead of being done, are listed with what was drawn."""
    from timm.data.auto_augment import posterize, rand_augment_transform

    def kept(image: Image.Image, bits: int, **options: Any) -> Image.Image:
        # At magnitude 10 no bit is left: black, where Pillow now refuses.
        out: Image.Image = posterize(image, bits, **options) if bits else image.point(lambda _: 0)
        return out

    policy: Any = rand_augment_transform(
        POLICY.format(magnitude=magnitude),
        {
            "img_mean": tuple(round(255 * value) for value in IMAGENET_MEAN),
            "interpolation": resample,
        },
    )
    for operation in policy.ops:
        function = kept if operation.aug_fn is posterize else operation.aug_fn
        operation.aug_fn = partial(_listed, function)
    listed: Callable[[list[Any]], Any] = policy
    return listed


def _listed(function: Any, calls: list[Any], *arguments: Any, **options: Any) -> list[Any]:
    return [*calls, (function, arguments, options)]
