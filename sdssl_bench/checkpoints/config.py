"""What `infer` finds out and `encoders.build` is asked for."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sdssl_bench.checkpoints.options import Options
from sdssl_bench.encoders import ViTConfig

Colours = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class Config:
    """What `encoders.build` is asked for, and what remains to be proven of the result.

    Attributes:
        architecture: name, configuration, or the module itself.
        norm: see `encoders.build`.
        img_size: likewise.
        options: the user's, as far as only the built encoder can confirm them.
        arch: canonical name, where it is known already.
        colours: mean and std that the checkpoint states; None = the architecture's.
        recomputed: tensors that the file does not hold and the architecture alone determines.
        details: recorded facts about how all this is known; JSON values.
    """

    architecture: str | ViTConfig | nn.Module
    norm: str | None
    img_size: int | None
    options: Options
    arch: str | None = None
    colours: Colours | None = None
    recomputed: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
