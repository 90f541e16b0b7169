"""MoCo v3's two asymmetric views of an image, each a function of image and seed alone.

What a view does is drawn first, from the seed of the sample; then it is done to the Pillow image here,
or in batch on the device (`device_views`). A sample's seed depends on the run's seed, the epoch and the
sample, never on the worker: the same views come from any number of workers, and after a resume.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vf

JITTER = (0.4, 0.4, 0.2, 0.1)
"""Ranges of brightness, contrast, saturation and hue."""
BLUR_SIGMA = (0.1, 2.0)
SOLARIZE_FROM = 128
NUM_FACTORS = 12
"""Length of a drawn view: [jitter, brightness, contrast, saturation, hue, order of the four (4),
grey, sigma, solarise]; the flip is part of the crop."""


@dataclass(frozen=True)
class View:
    """Probabilities of one view's operations.

    Attributes:
        size: side of the crop in pixels.
        crop_min: smallest area of the crop, as a fraction of the image's.
        blur: probability of Gaussian blur; its sigma is uniform in BLUR_SIGMA.
        solarize: probability of inverting values from SOLARIZE_FROM.
        jitter: probability of colour jitter.
        grey: probability of losing colour.
        flip: probability of a horizontal flip.
    """

    size: int
    crop_min: float = 0.08
    blur: float = 0.0
    solarize: float = 0.0
    jitter: float = 0.8
    grey: float = 0.2
    flip: float = 0.5


def view_pair(kind: str, *, size: int, crop_min: float) -> tuple[View, View]:
    """The two views: "mocov3", or "small" for images of 32 px, where blur would leave nothing."""
    blur = (1.0, 0.1) if kind == "mocov3" else (0.0, 0.0)
    return (
        View(size, crop_min, blur=blur[0]),
        View(size, crop_min, blur=blur[1], solarize=0.2),
    )


def sample_seed(seed: int, epoch: int, item: int) -> int:
    """Seed of a sample's views in an epoch."""
    return text_seed(f"{seed}/{epoch}/{item}")


def text_seed(text: str) -> int:
    """A seed that is a function of a text; file names that are no UTF-8 are texts too."""
    content = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(content, digest_size=7).digest(), "big")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's CPU generator, which torchvision draws from, at `seed`; put back afterwards."""
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def draw(view: View, generator: torch.Generator | None = None) -> Tensor:
    """[NUM_FACTORS] what happens to one image, from `generator`, or from torch's own."""
    chance = torch.rand(4, generator=generator)
    brightness, contrast, saturation, hue = JITTER
    low = torch.tensor([1 - brightness, 1 - contrast, 1 - saturation, -hue])
    high = torch.tensor([1 + brightness, 1 + contrast, 1 + saturation, hue])
    factors = low + (high - low) * torch.rand(4, generator=generator)
    order = torch.randperm(4, generator=generator).float()
    spread = BLUR_SIGMA[1] - BLUR_SIGMA[0]
    sigma = BLUR_SIGMA[0] + spread * torch.rand(1, generator=generator)
    flags = chance < torch.tensor([view.jitter, view.grey, view.blur, view.solarize])
    jitter, grey, blur, solarize = flags.float().split(1)
    return torch.cat([jitter, factors, order, grey, sigma * blur, solarize])


def crop(image: Image.Image, view: View) -> Image.Image:
    """Random resized crop (bilinear) and flip, from torch's generator."""
    resized: Image.Image = v2.RandomResizedCrop(view.size, scale=(view.crop_min, 1.0))(image)
    flipped = bool(torch.rand(1) < view.flip)
    return resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else resized


def recolour(image: Image.Image, factors: Tensor) -> Image.Image:
    """Jitter, grey, blur and solarisation as drawn, on a Pillow image."""
    values = factors.tolist()
    operations = (vf.adjust_brightness, vf.adjust_contrast, vf.adjust_saturation, vf.adjust_hue)
    if values[0]:
        for which in values[5:9]:
            image = operations[int(which)](image, values[1 + int(which)])
    if values[9]:
        image = vf.rgb_to_grayscale(image, num_output_channels=3)
    if values[10]:
        image = image.filter(ImageFilter.GaussianBlur(radius=values[10]))
    return vf.solarize(image, SOLARIZE_FROM) if values[11] else image


@dataclass(frozen=True)
class TwoViews:
    """Makes both views of an image; picklable.

    Attributes:
        views: of the first and the second view.
        on_device: leave colour, blur and solarisation to `device_views`.
    """

    views: tuple[View, View]
    on_device: bool = False

    def __call__(self, image: Image.Image, seed: int) -> tuple[Tensor, Tensor]:
        """Pixels uint8 [2, 3, S, S] and what was drawn, float32 [2, NUM_FACTORS]."""
        pixels, drawn = [], []
        with seeded(seed):
            for view in self.views:
                cropped = crop(image, view)
                factors = draw(view)
                if not self.on_device:
                    cropped = recolour(cropped, factors)
                pixels.append(to_tensor(cropped))
                drawn.append(factors)
        return torch.stack(pixels), torch.stack(drawn)


def to_tensor(image: Image.Image) -> Tensor:
    """Uint8 [3, H, W]."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
