"""The plain ViT of the field by its configuration, freshly initialised."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sdssl_bench.encoders.position_embeddings import Positions, sincos_2d
from sdssl_bench.encoders.vit import ViTEncoder


@dataclass(frozen=True)
class ViTConfig:
    """A plain ViT of the field; everything that its weights' shapes and meaning depend on.

    Attributes:
        img_size: side in pixels of the images whose grid the position table was made for.
        no_embed_class: positions are added to patches only, prefix tokens come without.
        pos: learned table, or a fixed one that is recomputed for other grids.
        per_layer_norm: every layer has a final norm of its own (some SDSSL checkpoints).
        swiglu: gated MLP (DINOv2 giant); mlp_ratio counts both halves of its first projection.
    """

    dim: int
    depth: int
    heads: int
    patch_size: int
    img_size: int
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    layer_scale: bool = False
    reg_tokens: int = 0
    class_token: bool = True
    no_embed_class: bool = False
    pos: Positions = "learned"
    per_layer_norm: bool = False
    swiglu: bool = False
    norm_eps: float = 1e-6


def build_vit(
    config: ViTConfig, *, norm: str | None = None, input_size: int | None = None
) -> ViTEncoder:
    """A freshly initialised ViT; `encoder.model` has timm's key names.

    Args:
        config: the architecture.
        norm: of layers before the last; None is "per-layer" if the configuration has such norms,
            else "shared".
        input_size: side of evaluated images in pixels; None is config.img_size.
    """
    extra: dict[str, Any] = {}
    if config.swiglu:
        from timm.layers.mlp import SwiGLUPacked

        extra = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    model = VisionTransformer(
        img_size=config.img_size,
        patch_size=config.patch_size,
        num_classes=0,
        global_pool="token" if config.class_token else "avg",
        fc_norm=False,
        embed_dim=config.dim,
        depth=config.depth,
        num_heads=config.heads,
        # timm truncates dim * ratio to an integer; half a row guards against rounding below it.
        mlp_ratio=(round(config.dim * config.mlp_ratio) + 0.5) / config.dim,
        qkv_bias=config.qkv_bias,
        init_values=1e-5 if config.layer_scale else None,
        class_token=config.class_token,
        no_embed_class=config.no_embed_class,
        reg_tokens=config.reg_tokens,
        norm_layer=partial(nn.LayerNorm, eps=config.norm_eps),
        **extra,
    )
    if config.pos != "learned":
        _fix_positions(model, config)
    norms = None
    if config.per_layer_norm:
        norms = nn.ModuleList(
            nn.LayerNorm(config.dim, eps=config.norm_eps) for _ in range(config.depth)
        )
        # One module for both: the last layer's norm is the final norm, and is stored once as norms.L-1.
        model.norm = nn.Identity()
    encoder = ViTEncoder(model, norm=norm, input_size=input_size or config.img_size, norms=norms)
    encoder.config = config
    return encoder


def _fix_positions(model: VisionTransformer, config: ViTConfig) -> None:
    side = config.img_size // config.patch_size
    patches = sincos_2d((side, side), config.dim, order=config.pos)
    assert model.pos_embed is not None
    table = torch.zeros_like(model.pos_embed)
    table[0, table.shape[1] - len(patches) :] = patches
    model.pos_embed = nn.Parameter(table, requires_grad=False)
