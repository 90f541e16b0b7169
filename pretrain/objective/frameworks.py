"""The six methods as rows of one table, the sizes of their heads, and the terms of their loss."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Framework:
    """What tells SimCLR, BYOL and MoCo v3 apart.

    Attributes:
        teacher: the other view is embedded by an EMA of the encoder and its last projector.
        predictor: the student has a predictor per layer.
        contrastive: InfoNCE against the keys of the global batch, else the distance of Eq. 1.
        output_norm: batch-norm without affine after projectors and predictors.
    """

    teacher: bool
    predictor: bool
    contrastive: bool
    output_norm: bool


FRAMEWORKS = {
    "simclr": Framework(teacher=False, predictor=False, contrastive=True, output_norm=True),
    "byol": Framework(teacher=True, predictor=True, contrastive=False, output_norm=False),
    "mocov3": Framework(teacher=True, predictor=True, contrastive=True, output_norm=True),
}
"""A method is a row, with self-distillation ("sd_...") or without."""


@dataclass(frozen=True)
class Heads:
    """Sizes of projectors and predictors.

    Attributes:
        hidden: of the last projector and all predictors.
        inner_hidden: of the projectors of intermediate layers.
        out: width of all embeddings.
        projector_layers: depth of the last projector.
        inner_layers: depth of the intermediate projectors; 0 is none.
        predictor_layers: depth of the predictors.
        output_norm: after projectors.
        predictor_output_norm: after predictors.
        hidden_norm: batch-norm in hidden layers.
    """

    hidden: int = 4096
    inner_hidden: int = 2048
    out: int = 256
    projector_layers: int = 3
    inner_layers: int = 3
    predictor_layers: int = 2
    output_norm: bool = True
    predictor_output_norm: bool = True
    hidden_norm: bool = True


class LossTerms(NamedTuple):
    """The loss of one batch and what it is made of.

    Attributes:
        total: ssl + alpha isd + beta pred; the one term that carries gradients.
        ssl: loss of the last layer (Eq. 1 or 2, both directions).
        isd: Eq. 3, mean over the intermediate layers; 0 where there is none.
        pred: Eq. 5, sum over the layers; 0 where there is none.
        features: [N, D] the encoder's last-layer class tokens of view 1, for the collapse alarm.
    """

    total: Tensor
    ssl: Tensor
    isd: Tensor
    pred: Tensor
    features: Tensor


class Keys(NamedTuple):
    """The teacher's embeddings that a whole optimizer step is compared with, view by view: [M, D].

    Of all processes where the loss is contrastive, by rank, else of this one.
    """

    view1: Tensor
    view2: Tensor


def distilled_layers(depth: int, *, every: int) -> list[int]:
    """Intermediate layers that are distilled: those with (L - l) divisible by `every`.

    >>> distilled_layers(12, every=4)
    [4, 8]
    """
    return [layer for layer in range(1, depth) if (depth - layer) % every == 0]
