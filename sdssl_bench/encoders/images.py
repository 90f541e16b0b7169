"""How pixels become what an encoder takes: its channels, its mean and standard deviation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sdssl_bench.errors import UsageError

LUMA = (19595, 38470, 7471)
"""Pillow's weights of red, green and blue in grey, in 65,536ths (ITU-R 601-2)."""
CHANNELS = (1, 3)
"""Grey or RGB: what the images of all datasets can be made into."""


class Colours(NamedTuple):
    """Normalisation of values in [0, 1], a number per channel; RGB, or grey."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
COLOURS = {
    "imagenet": Colours(IMAGENET_MEAN, IMAGENET_STD),
    "clip": Colours((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": Colours((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10": Colours((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
"""By name, as --mean and --std take them."""


def channels_of(model: nn.Module) -> int:
    """Channels of the images a network takes: those of its first convolution, 3 without one."""
    found = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    cells = found // 3  # of a stem that folds squares of pixels into channels (TResNet)
    folded = found % 3 == 0 and math.isqrt(cells) ** 2 == cells
    return 3 if folded else found


def colours_for(channels: int, colours: Colours) -> Colours:
    """Colours with a number per channel; for grey, three become their average.

    Raises:
        UsageError: for images that are neither grey nor RGB.
    """
    if channels not in CHANNELS:
        raise UsageError(
            f"This encoder takes images of {channels} channels; the datasets have RGB images, which can "
            "be given as 3 channels or as 1 (grey). Evaluate it behind an adapter: "
            "--ckpt custom:FILE.py:FUNCTION."
        )
    if len(colours.mean) == channels:
        return colours
    return Colours(*((sum(part) / len(part),) * channels for part in colours))


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 RGB [B, 3, H, W] -> float32 [B, C, H, W]; grey, to Pillow's digit, where mean is one number."""
    if len(mean) == 1:
        weights = torch.tensor(LUMA, device=pixels.device, dtype=torch.int32).view(1, 3, 1, 1)
        grey = (pixels.to(torch.int32) * weights).sum(1, keepdim=True) + 2**15
        pixels = grey.bitwise_right_shift(16)
    x = pixels.float().div_(255.0)
    shape = (1, len(mean), 1, 1)
    centre = torch.tensor(mean, device=x.device).view(shape)
    return x.sub_(centre).div_(torch.tensor(std, device=x.device).view(shape))
