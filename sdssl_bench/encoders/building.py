"""Encoders by name, and encoders around models that exist already."""

from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sdssl_bench.encoders.controls import Control
from sdssl_bench.encoders.encoder import Encoder
from sdssl_bench.encoders.hooked import HookedEncoder, Parts
from sdssl_bench.encoders.images import COLOURS, Colours, channels_of, colours_for
from sdssl_bench.encoders.position_embeddings import sincos_2d
from sdssl_bench.encoders.resnet import RESNETS, ResNetEncoder
from sdssl_bench.encoders.stages import StagesEncoder
from sdssl_bench.encoders.vit import ViTConfig, ViTEncoder
from sdssl_bench.errors import UsageError

VITS = {
    # MoCo v3's: 12 heads at every width, fixed positions. The SDSSL paper names no head count and cites
    # DeiT, whose ViT-S has 6; its authors' code has 6, then 12. Which one its tables had is undecidable.
    "vit_small_p16": ViTConfig(384, 12, 12, 16, 224, pos="sincos-row"),
    "vit_small_p32": ViTConfig(384, 12, 12, 32, 224, pos="sincos-row"),
    "vit_base_p16": ViTConfig(768, 12, 12, 16, 224, pos="sincos-row"),
    # Ours, for small images.
    "vit_tiny_p4_32": ViTConfig(192, 12, 3, 4, 32, pos="sincos-row"),
    "vit_tiny_p8_32": ViTConfig(192, 12, 3, 8, 32, pos="sincos-row"),
}
NAMES = (*VITS, *RESNETS.values())
"""Architectures of the suite itself, which pretraining takes; `build` knows timm's too."""

HOOKED_SIZE = 224
"""Of images for a network that does not say its own."""
DINOV2_TABLE, DINOV2_SIZE = 518, 224
"""DINOv2's tables are made for 518 px, its own k-NN protocol evaluates at 224."""


def build(
    architecture: str | ViTConfig | nn.Module,
    *,
    norm: str | None = None,
    img_size: int | None = None,
) -> Encoder:
    """The one door to encoders: by name, by configuration, or around a model in memory.

    Args:
        architecture: a name (one of NAMES, or of timm's, also as timm:NAME) or a configuration, freshly
            initialised; or a model, see `wrap`.
        norm: of layers before the last, see `encoder.NORMS`; a ResNet has none.
        img_size: side of evaluated images in pixels; None is the backbone's own.

    Raises:
        UsageError: for an unknown name or model, or a norm a ResNet does not have.
    """
    if isinstance(architecture, str):
        architecture = VITS.get(architecture) or _library_model(architecture)
    if isinstance(architecture, ViTConfig):
        return build_vit(architecture, norm=norm, input_size=img_size)
    return wrap(architecture, norm=norm, img_size=img_size)


def _library_model(name: str) -> nn.Module:
    """A fresh ResNet of torchvision's or model of timm's, without classifier."""
    import timm
    import torchvision

    name = name.removeprefix("timm:")
    if name in RESNETS.values():
        model: nn.Module = getattr(torchvision.models, name)(weights=None)
        model.fc = nn.Identity()
        return model
    if not timm.is_model(name):
        close = get_close_matches(name, [*NAMES, *timm.list_models()], n=3)
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(
            f"Unknown architecture '{name}'.{guess} Known: {', '.join(NAMES)}, and timm's names."
        )
    found: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return found


def wrap(model: nn.Module, *, norm: str | None = None, img_size: int | None = None) -> Encoder:
    """An encoder around a model in memory; the model itself is not changed.

    Args:
        model: an Encoder (returned as it is), a network with the names of its layers, a model of timm's
            with `forward_intermediates`, or a torchvision ResNet.
        norm: of layers before the last, see `encoder.NORMS`; None is "shared" ("none" for stages).
        img_size: side of evaluated images in pixels; None is what the model was made for (224 for
            DINOv2, as its own protocol).

    Raises:
        UsageError: for another kind of model, or images that are neither RGB nor grey.
    """
    import timm.models.resnet
    import torchvision.models.resnet
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(model, Encoder):
        if img_size not in (None, model.input_size):
            raise UsageError(
                f"img_size {img_size} contradicts this encoder's input_size {model.input_size}."
            )
        return model
    facts = _pretrained_cfg(model.model if isinstance(model, Parts) else model)
    encoder: Encoder
    if isinstance(model, Parts):
        if norm not in (None, "none"):
            raise UsageError(
                f"--norm {norm} does not apply: layers are the parts' outputs as they are."
            )
        encoder = HookedEncoder(model, input_size=img_size or HOOKED_SIZE)
    elif isinstance(model, VisionTransformer | Eva):
        size = img_size
        if size is None and tuple(model.patch_embed.img_size) == (DINOV2_TABLE,) * 2:
            size = DINOV2_SIZE
        encoder = ViTEncoder(model, norm=norm, input_size=size)
    elif isinstance(model, timm.models.resnet.ResNet | torchvision.models.resnet.ResNet):
        if norm not in (None, "none", "shared"):
            raise UsageError(
                f"A ResNet has no norm after its stages; --norm {norm} does not apply."
            )
        size = img_size or (facts.get("input_size") or (3, 224, 224))[-1]
        encoder = ResNetEncoder(model, input_size=size)
    elif hasattr(model, "forward_intermediates"):
        size = img_size or (facts.get("input_size") or (3, 224, 224))[-1]
        encoder = StagesEncoder(model, norm=norm, input_size=size)
    else:
        raise UsageError(
            f"Expected a model of timm's with forward_intermediates, or a torchvision ResNet; found "
            f"{type(model).__module__}.{type(model).__name__}. For any other network write a function that "
            'builds it and one line, layers = ["stage1", "stage2"], the names of its parts that are layers, '
            "and give --ckpt custom:FILE.py:FUNCTION; or return a subclass of sdssl_bench.encoders.Encoder."
        )
    mean, std = facts.get("mean"), facts.get("std")
    colours = Colours(tuple(mean), tuple(std)) if mean and std else COLOURS["imagenet"]
    encoder.mean, encoder.std = colours_for(channels_of(model), colours)
    return encoder.train(model.training)


def _pretrained_cfg(model: nn.Module) -> dict[str, Any]:
    """The record timm keeps of how a model was trained; empty for a model that has none."""
    return dict(getattr(model, "pretrained_cfg", None) or {})


WIDTHS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1536: "giant"}


def arch_name(encoder: Encoder) -> str:
    """A canonical name: family, size or width, patch, registers, e.g. "vit_small_patch16"."""
    if isinstance(encoder, ViTEncoder):
        model, dim = encoder.model, encoder.dims[0]
        usual = encoder.depth == {1024: 24, 1536: 40}.get(dim, 12)
        size = WIDTHS[dim] if dim in WIDTHS and usual else f"d{dim}x{encoder.depth}"
        registers = int(getattr(model, "num_reg_tokens", 0))
        family = "vit" if encoder.pos != "timm" else "eva"
        return f"{family}_{size}_patch{encoder.stride}" + (f"_reg{registers}" if registers else "")
    if isinstance(encoder, ResNetEncoder):
        counts = [len(list(getattr(encoder.model, stage).children())) for stage in encoder.stages]
        block = next(getattr(encoder.model, encoder.stages[0]).children())
        kind = "bottleneck" if hasattr(block, "conv3") else "basic"
        return f"resnet_{kind}_{'-'.join(map(str, counts))}"
    if isinstance(encoder, Control):
        return f"control_{encoder.kind}"
    if isinstance(encoder, HookedEncoder):
        return f"{type(encoder.model).__name__}:{','.join(encoder.stages)}"
    if isinstance(encoder, StagesEncoder):
        return f"{encoder.family.lower()}_{'-'.join(map(str, encoder.dims))}"
    return type(encoder).__name__


def by_stages(encoder: Encoder) -> bool:
    """Whether layers are raw outputs of stages or parts, treated as those of a ResNet."""
    if isinstance(encoder, StagesEncoder):
        return encoder.norm == "none"
    return isinstance(encoder, ResNetEncoder | HookedEncoder | Control)


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
    if config.quick_gelu:
        extra["act_layer"] = "quick_gelu"
    side = config.img_size // config.patch_size
    rows, columns = config.grid or (side, side)
    model = VisionTransformer(
        img_size=(rows * config.patch_size, columns * config.patch_size),
        patch_size=config.patch_size,
        in_chans=config.channels,
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
        pre_norm=config.pre_norm,
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
    encoder.mean, encoder.std = colours_for(config.channels, COLOURS["imagenet"])
    return encoder


def _fix_positions(model: VisionTransformer, config: ViTConfig) -> None:
    side = config.img_size // config.patch_size
    patches = sincos_2d(config.grid or (side, side), config.dim, order=config.pos)
    assert model.pos_embed is not None
    table = torch.zeros_like(model.pos_embed)
    table[0, table.shape[1] - len(patches) :] = patches
    model.pos_embed = nn.Parameter(table, requires_grad=False)
