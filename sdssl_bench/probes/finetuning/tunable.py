"""A trainable encoder with a linear head, and the parameter groups of its optimiser."""

import re
from typing import Any, cast

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from sdssl_bench.encoders import Encoder, HookedEncoder, StagesEncoder, ViTEncoder, levels_of
from sdssl_bench.errors import UsageError
from sdssl_bench.probes.linear.heads import INIT_STD

NOT_DECAYED = ("pos_embed", "cls_token", "reg_token")


class Tunable(nn.Module):
    """The encoder up to a layer, with parameters of its own, and a new head.

    Attributes:
        backbone: images [B, 3, H, W] -> [B, D].
        head: D -> C; "normal" weights N(0, 0.01^2) and zero bias, or as torch's "linear" has them.
    """

    def __init__(
        self,
        encoder: Encoder,
        layer: int,
        *,
        num_classes: int,
        drop_path: float,
        seed: int,
        freeze_patch_embed: bool = False,
        train_positions: bool = False,
        head_init: str = "normal",
    ) -> None:
        super().__init__()
        self.backbone = cast(Encoder, encoder.truncate(layer))
        if not isinstance(
            self.backbone, StagesEncoder | HookedEncoder
        ):  # what it froze has no effect
            self.backbone.requires_grad_(True)
        if isinstance(self.backbone, ViTEncoder):
            _set_drop_path(self.backbone.model.blocks, drop_path)
            if self.backbone.pos.startswith("sincos"):
                # Fixed positions stay fixed, as in MoCo v3, unless they are to be trained.
                self.backbone.model.pos_embed.requires_grad_(train_positions)
                _check_grid(self.backbone, train_positions)
            if freeze_patch_embed:
                self.backbone.model.patch_embed.requires_grad_(False)
        self.head = nn.Linear(encoder.dims[layer - 1], num_classes)
        _initialise(self.head, head_init, seed)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        out: Tensor = self.head(self.backbone(images))
        return out


def _initialise(head: nn.Linear, kind: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    if kind == "normal":
        nn.init.normal_(head.weight, std=INIT_STD, generator=generator)
        nn.init.zeros_(head.bias)
    else:
        bound = head.in_features**-0.5
        for parameter in (head.weight, head.bias):
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


def _check_grid(backbone: ViTEncoder, train_positions: bool) -> None:
    side = backbone.input_size // backbone.stride
    if train_positions and backbone.grid != (side, side):
        raise UsageError(
            f"train_positions needs images of the size that the positions are for: {backbone.grid} "
            f"patches, found ({side}, {side}). Leave --img-size out."
        )


def _set_drop_path(blocks: Any, rate: float) -> None:
    """Stochastic depth that grows linearly from 0 at the first block to `rate` at the last."""
    rates = torch.linspace(0, rate, len(blocks)).tolist()
    for block, one in zip(blocks, rates, strict=True):
        for name in ("drop_path1", "drop_path2"):
            setattr(block, name, DropPath(one) if one > 0 else nn.Identity())


def takes_drop_path(encoder: Encoder) -> bool:
    """Whether stochastic depth applies; models with stages are fine-tuned without."""
    return isinstance(encoder, ViTEncoder)


def parameter_groups(
    model: Tunable,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float,
    decay_tokens: bool = False,
) -> list[dict[str, Any]]:
    """AdamW groups: no decay of vectors, nor of positions and tokens; rates fall towards the input.

    Args:
        model: to be tuned.
        lr: of the head.
        weight_decay: of matrices and kernels.
        layer_decay: factor of the rate per block below the head; 1 is the same rate everywhere.
        decay_tokens: decay positions, [CLS] and registers too.

    Returns:
        Groups with "params", "weight_decay" and "scale", the factor of the rate.
    """
    depth = model.backbone.depth
    by_use = isinstance(model.backbone, StagesEncoder | HookedEncoder)
    known = levels_of(model.backbone) if by_use else {}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        token = any(token in name for token in NOT_DECAYED)
        plain = parameter.ndim <= 1 or (token and not decay_tokens)
        decay = 0.0 if plain else weight_decay
        level = known.get(name.removeprefix("backbone."))
        scale = layer_decay ** (depth + 1 - (level_of(name, depth) if level is None else level))
        group = groups.setdefault(
            (decay, scale),
            {"params": [], "weight_decay": decay, "scale": scale, "lr": lr * scale},
        )
        group["params"].append(parameter)
    return list(groups.values())


def level_of(name: str, depth: int) -> int:
    """0 for what comes before the first block, l for block or stage l, depth + 1 for norm and head.

    >>> [level_of(n, 12) for n in ("backbone.model.cls_token", "backbone.model.blocks.0.norm1.bias")]
    [0, 1]
    """
    block = re.search(r"model\.blocks\.(\d+)\.", name)
    stage = re.search(r"model\.layer(\d)\.", name)
    if block:
        return int(block[1]) + 1
    if stage:
        return int(stage[1])
    if name.startswith("head.") or re.search(r"model\.(fc_)?norm\.", name):
        return depth + 1
    return 0
