"""Soft targets: label smoothing, mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), batch-wise.

One coefficient per batch, each image mixed with its mirror position in the batch, as DeiT's trainer.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SWITCH = 0.5
"""Probability of CutMix where mixup is on too; DeiT."""


@dataclass(frozen=True)
class Mixing:
    """What happens to a training batch.

    Attributes:
        mixup, cutmix: parameters of the Beta distributions; 0 switches one off. With both, each batch
            draws which.
        smoothing: share of a target's mass spread over all classes.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.1

    def __call__(
        self, pixels: Tensor, targets: Tensor, *, num_classes: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mixed images [B, 3, H, W] and their targets [B, C], rows summing to 1."""
        soft = smoothed(targets, num_classes, self.smoothing)
        if not (self.mixup or self.cutmix):
            return pixels, soft
        cut = self.cutmix > 0 and (self.mixup == 0 or rng.random() < SWITCH)
        alpha = self.cutmix if cut else self.mixup
        share = float(rng.beta(alpha, alpha))
        if cut:
            pixels, share = cut_and_paste(pixels, share, rng)
        else:
            pixels = pixels * share + pixels.flip(0) * (1.0 - share)
        return pixels, soft * share + soft.flip(0) * (1.0 - share)


def smoothed(targets: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """[B] classes -> [B, C]: smoothing / C everywhere, the rest on the true class."""
    soft = torch.full((len(targets), num_classes), smoothing / num_classes, device=targets.device)
    return soft.scatter_add_(
        1, targets[:, None], torch.full_like(targets[:, None], 1.0 - smoothing, dtype=soft.dtype)
    )


def cut_and_paste(pixels: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Replace a box by the mirror image's; returns the images and the share that is their own.

    The box has 1 - share of the area before it is clipped at the border, and the returned share is
    that of what was clipped.
    """
    height, width = pixels.shape[-2:]
    side = math.sqrt(1.0 - share)
    h, w = int(height * side), int(width * side)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(y - h // 2, 0), min(y + h // 2, height)
    left, right = max(x - w // 2, 0), min(x + w // 2, width)
    mixed = pixels.clone()
    mixed[..., top:bottom, left:right] = pixels.flip(0)[..., top:bottom, left:right]
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width)
