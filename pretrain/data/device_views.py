"""The colour half of the views on the device: a whole batch at once, every sample with its own draw.

Values are floats in [0, 1]; Pillow rounds to 8 bits after every operation and approximates the Gaussian
by boxes, so results agree with `views.recolour` to a few grey levels, not bit by bit.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sdssl_bench.features import BLUR_SIGMA, SOLARIZE_FROM

GREY = (0.299, 0.587, 0.114)
"""Weights of ITU-R 601, those of Pillow and torchvision."""


Factor = Tensor
"""[n] what was drawn for each of n samples."""
Operation = Callable[[Tensor, Factor], Tensor]


def normalised(pixels: Tensor, drawn: Tensor | None, *, mean: Tensor, std: Tensor) -> Tensor:
    """Uint8 [B, 3, S, S] to normalised float32; with `drawn` [B, NUM_FACTORS], recoloured first."""
    images = pixels.float().div_(255)
    if drawn is not None:
        images = recolour_batch(images, drawn)
    return (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def recolour_batch(images: Tensor, drawn: Tensor) -> Tensor:
    """Jitter, grey, blur and solarisation as drawn: [B, 3, H, W] in [0, 1] to the same.

    Args:
        images: on the device.
        drawn: [B, NUM_FACTORS] on the CPU, as the loader has it: there it is known which samples an
            operation has, and the host need not wait for the device to tell.
    """
    steps = [(mask.nonzero()[:, 0], do, column) for mask, do, column in _operations(drawn)]
    steps = [step for step in steps if len(step[0])]
    if not steps:
        return images
    sizes = [len(rows) for rows, _, _ in steps]
    rows = _moved(torch.cat([rows for rows, _, _ in steps]), images.device)
    factors = _moved(torch.cat([drawn[rows, column] for rows, _, column in steps]), images.device)
    for chosen, factor, (_, do, _) in zip(rows.split(sizes), factors.split(sizes), steps):
        images = images.index_copy(0, chosen, do(images[chosen], factor))
    return images


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for what it does."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _operations(drawn: Tensor) -> list[tuple[Tensor, Operation, int]]:
    """Which samples, what is done to them, and the column of its factor, in order."""
    jitter: tuple[Operation, ...] = (
        lambda x, f: (x * _each(f)).clamp(0, 1),
        lambda x, f: _blend(x, _grey(x).mean((2, 3), keepdim=True), f),
        lambda x, f: _blend(x, _grey(x), f),
        _shift_hue,
    )
    jittered = drawn[:, 0] > 0
    return [
        *(
            (jittered & (drawn[:, 5 + slot] == which), operation, 1 + which)
            for slot in range(4)
            for which, operation in enumerate(jitter)
        ),
        (drawn[:, 9] > 0, lambda x, _: _grey(x).expand_as(x), 9),
        (drawn[:, 10] > 0, _blur, 10),
        (drawn[:, 11] > 0, lambda x, _: _solarize(x), 11),
    ]


def _each(factor: Factor) -> Tensor:
    """[n, 1, 1, 1]."""
    return factor.view(-1, 1, 1, 1)


def _blend(x: Tensor, other: Tensor, factor: Factor) -> Tensor:
    return (_each(factor) * x + (1 - _each(factor)) * other).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    red, green, blue = (weight * x[:, i : i + 1] for i, weight in enumerate(GREY))
    return red + green + blue


def _shift_hue(x: Tensor, shift: Factor) -> Tensor:
    """Rotates the hue of HSV by `shift` turns."""
    red, green, blue = x.unbind(1)
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    safe = torch.where(chroma > 0, chroma, 1)
    sixth = torch.where(
        value == red,
        (green - blue) / safe % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    turned = (sixth / 6 + shift.view(-1, 1, 1)) % 1.0 * 6
    # f(n) of the closed form of HSV to RGB: each channel is the value less a clipped triangle wave.
    channels = [
        value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
        for k in ((n + turned) % 6 for n in (5, 3, 1))
    ]
    return torch.stack(channels, dim=1)


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Separable Gaussian, a kernel per sample."""
    batch, channels, height, width = x.shape
    radius = min(int(3 * BLUR_SIGMA[1] + 0.5), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    kernel = kernel / kernel.sum(1, keepdim=True)
    weight = kernel.repeat_interleave(channels, 0)[:, None]
    flat = x.reshape(1, batch * channels, height, width)
    flat = F.pad(flat, (radius,) * 4, mode="replicate")
    flat = F.conv2d(flat, weight[:, :, None], groups=batch * channels)
    flat = F.conv2d(flat, weight[:, :, :, None], groups=batch * channels)
    return flat.view_as(x)


def _solarize(x: Tensor) -> Tensor:
    return torch.where(x * 255 >= SOLARIZE_FROM, 1 - x, x)
