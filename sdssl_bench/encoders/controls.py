"""Encoders that learned nothing: a score that does not beat theirs says nothing of a representation."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, check_layers, everything
from sdssl_bench.errors import UsageError, did_you_mean

SIDE = 16
"""Of the image in pixels, as `pixels` sees it, and of the patches of both."""
BINS = 8
"""Of the histogram of each channel."""


class Control(Encoder):
    """One layer without parameters; [CLS] is made of the whole image, a patch of its 16 x 16 pixels.

    Attributes:
        kind: "pixels": RGB resized to 16 x 16, centred by ImageNet's mean and std; a patch's own pixels.
            "statistics": mean and variance of each channel, and how its values lie in 8 bins of [0, 1].
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UsageError(did_you_mean("control", kind, KINDS))
        self.kind = kind
        self.depth, self.stride, self.input_size, self.norm = 1, SIDE, 224, "none"
        self.dims = (3 * (SIDE**2 if kind == "pixels" else 2 + BINS),)
        self.cls_source = "the whole image"
        if kind == "statistics":
            self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def forward_layers(
        self,
        images: Tensor,
        layers: Sequence[int],
        reduce: Callable[[LayerFeatures], Any] = everything,
    ) -> dict[int, Any]:
        """See `Encoder.forward_layers`."""
        check_layers(layers, 1)
        height, width = images.shape[-2:]
        self.check_size(height, width)
        whole, patches = images, F.unfold(images, SIDE, stride=SIDE)
        if self.kind == "pixels":
            token, cells = F.adaptive_avg_pool2d(whole, SIDE).flatten(1), patches.mT
        else:
            token = _statistics(whole.flatten(2))
            cells = _statistics(patches.mT.unflatten(-1, (3, -1)))
        cells = cells.unflatten(1, (height // SIDE, width // SIDE))
        return {1: reduce(LayerFeatures(token, cells, lambda x: x))}

    def check_size(self, height: int, width: int) -> None:
        """See `Encoder.check_size`."""
        if height % SIDE or width % SIDE or not height or not width:
            raise UsageError(f"Controls take sides that are multiples of {SIDE} pixels.")

    def truncate(self, layer: int) -> "Control":
        """See `Encoder.truncate`; there is nothing to train."""
        check_layers([layer], 1)
        return copy.deepcopy(self)


KINDS = ("pixels", "statistics")


def _statistics(values: Tensor) -> Tensor:
    """[..., 3, N] in [0, 1] -> [..., 3 (2 + BINS)]: means, variances, shares of bins."""
    bins = (values * BINS).floor().clamp(0, BINS - 1).long()
    shares = torch.stack([(bins == i).float().mean(-1) for i in range(BINS)], dim=-1)
    moments = [values.mean(-1), values.var(-1, correction=0)]
    return torch.cat([*moments, shares.flatten(-2)], dim=-1)
