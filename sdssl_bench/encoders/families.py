"""Backbones of timm's classes with every number given, for weights that no name of timm's stands for."""

from functools import partial
from typing import Any, cast

from timm.models.beit import Beit
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.resnet import BasicBlock, Bottleneck, ResNet, downsample_conv
from timm.models.swin_transformer import SwinTransformer
from torch import nn


def build_rope_vit(
    *,
    dim: int,
    depth: int,
    heads: int,
    patch_size: int,
    img_size: int,
    hidden: int,
    gated: bool,
    registers: int,
    qkv_bias: bool,
    norm_eps: float,
    temperature: float,
) -> Eva:
    """DINOv3's ViT: rotary positions at any grid, register tokens, layer scale, no table.

    Args:
        dim: width D.
        depth: number of blocks.
        heads: attention heads.
        patch_size: in pixels.
        img_size: side in pixels of the images it is made for; others work as well.
        hidden: width of the MLP.
        gated: SwiGLU in place of GELU.
        registers: register tokens.
        qkv_bias: a bias of queries and values (keys have none).
        norm_eps: of every layer norm.
        temperature: base of the rotary periods.
    """
    return Eva(
        img_size=img_size,
        patch_size=patch_size,
        num_classes=0,
        global_pool="token",
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=(hidden + 0.5) / dim,  # timm truncates the product
        swiglu_mlp=gated,
        swiglu_align_to=1 if gated else 0,
        qkv_bias=qkv_bias,
        init_values=1.0,
        rope_type="dinov3",
        rope_temperature=temperature,
        rope_rotate_half=True,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        num_reg_tokens=registers,
        use_fc_norm=False,
        norm_layer=partial(nn.LayerNorm, eps=norm_eps),
        dynamic_img_size=True,
    )


def build_distilled_vit(
    *,
    dim: int,
    depth: int,
    heads: int,
    patch_size: int,
    img_size: int,
    hidden: int,
    norm_eps: float,
) -> VisionTransformerDistilled:
    """DeiT's ViT with a class and a distillation token, both with positions of their own.

    Args: as in `build_rope_vit`.
    """
    model = VisionTransformerDistilled(
        img_size=img_size,
        patch_size=patch_size,
        num_classes=0,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=(hidden + 0.5) / dim,
        norm_layer=partial(nn.LayerNorm, eps=norm_eps),
    )
    return model


def build_resnet(
    *,
    bottleneck: bool,
    counts: tuple[int, ...],
    channels: tuple[int, ...],
    stem: int,
    base_width: int,
) -> ResNet:
    """A ResNet of any width, as SimCLR's and BYOL's twice and four times as wide.

    Args:
        bottleneck: three convolutions a block, not two.
        counts: blocks of each stage.
        channels: that leave each stage.
        stem: channels of the first convolution.
        base_width: inner width of a bottleneck that leaves 256 channels; 64 but for wide ResNets.
    """
    planes = tuple(width // 4 for width in channels) if bottleneck else channels
    block_class: Any = Bottleneck if bottleneck else BasicBlock
    model: Any = ResNet(
        block_class,
        layers=counts,
        num_classes=0,
        channels=planes,
        base_width=base_width,
    )
    # timm's stem has 64 channels whatever comes after it.
    model.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(stem)
    block = model.layer1[0]
    inner = block.conv1
    block.conv1 = nn.Conv2d(
        stem, inner.out_channels, inner.kernel_size, padding=inner.padding, bias=False
    )
    block.downsample = None if stem == channels[0] else downsample_conv(stem, channels[0], 1)
    return cast(ResNet, model)


def build_convnext(
    *,
    counts: tuple[int, ...],
    dims: tuple[int, ...],
    patch_size: int,
    layer_scale: bool,
    response_norm: bool,
    conv_mlp: bool,
    norm_eps: float,
    last_eps: float,
) -> ConvNeXt:
    """A ConvNeXt of any size.

    Args:
        counts: blocks of each stage.
        dims: width of each stage.
        patch_size: of the stem, in pixels.
        layer_scale: of every block (V1).
        response_norm: global response normalisation in every block (V2).
        conv_mlp: MLPs as 1 x 1 convolutions, which is how timm stores its smallest ones.
        norm_eps: of every layer norm but the last.
        last_eps: of the last, of the pooled feature; transformers has another one there.
    """
    model = ConvNeXt(
        num_classes=0,
        depths=counts,
        dims=dims,
        patch_size=patch_size,
        ls_init_value=1e-6 if layer_scale else None,
        use_grn=response_norm,
        conv_mlp=conv_mlp,
        norm_eps=norm_eps,
    )
    last: Any = model.head.norm
    last.eps = last_eps
    return model


def build_swin(
    *,
    dim: int,
    counts: tuple[int, ...],
    heads: tuple[int, ...],
    window: int,
    patch_size: int,
    img_size: int,
    mlp_ratio: float,
    norm_eps: float,
) -> SwinTransformer:
    """A Swin of any size.

    Args:
        dim: width of the first stage; each further one is twice as wide.
        counts: blocks of each stage.
        heads: attention heads of each stage.
        window: side of a window, in cells.
        patch_size: of the stem, in pixels.
        img_size: side of the images it was trained on, in pixels.
        mlp_ratio: width of the MLPs over that of their stage.
        norm_eps: of every layer norm.
    """
    norm_layer: Any = partial(nn.LayerNorm, eps=norm_eps)
    return SwinTransformer(
        img_size=img_size,
        patch_size=patch_size,
        num_classes=0,
        embed_dim=dim,
        depths=counts,
        num_heads=heads,
        window_size=window,
        mlp_ratio=mlp_ratio,
        norm_layer=norm_layer,
    )


def build_beit(
    *,
    dim: int,
    depth: int,
    heads: int,
    patch_size: int,
    img_size: int,
    hidden: int,
    positions: bool,
    biases: str,
    layer_scale: bool,
    qkv_bias: bool,
    norm: str,
    norm_eps: float,
) -> Beit:
    """BEiT's ViT, which data2vec shares: relative position biases at the grid it was trained on.

    Args: as in `build_rope_vit`, and
        positions: a learned table is added to the tokens.
        biases: "each" block has a table of relative position biases, they have one "shared", or "none".
        layer_scale: of every block.
        norm: "tokens" (a final norm), "pooled" (a norm of the mean of patches), or "none".
    """
    norm_layer: Any = partial(nn.LayerNorm, eps=norm_eps)
    model = Beit(
        img_size=img_size,
        patch_size=patch_size,
        num_classes=0,
        # timm 1.0.30 has no use_fc_norm: there "avg" alone puts the norm after the pooling.
        global_pool="token" if norm == "tokens" else "avg",
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=(hidden + 0.5) / dim,
        qkv_bias=qkv_bias,
        init_values=0.1 if layer_scale else None,
        use_abs_pos_emb=positions,
        use_rel_pos_bias=biases == "each",
        use_shared_rel_pos_bias=biases == "shared",
        norm_layer=norm_layer,
    )
    model.global_pool = "avg"
    if norm == "none":
        model.fc_norm = nn.Identity()
    return model
