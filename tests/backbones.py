"""Tiny backbones of every family, for contract tests."""

from collections.abc import Callable

import timm
import torch
import torchvision
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from sdssl_bench.encoders.building import build, build_vit, wrap
from sdssl_bench.encoders.encoder import Encoder
from sdssl_bench.encoders.vit import ViTConfig

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}


def vit(**changes: object) -> Encoder:
    return wrap(VisionTransformer(**{**TINY, "num_classes": 0, **changes}))


def eva(**changes: object) -> Encoder:
    settings = {
        **TINY,
        "num_classes": 0,
        "dynamic_img_size": True,
        "use_rot_pos_emb": True,
        **changes,
    }
    return wrap(Eva(**settings))


def dinov3() -> Encoder:
    model = timm.create_model(
        "vit_small_patch16_dinov3", depth=3, embed_dim=96, num_heads=3, dynamic_img_size=True
    )
    return wrap(model, img_size=32)


def distilled() -> Encoder:
    settings = {**TINY, "num_classes": 0}
    return wrap(timm.create_model("deit_tiny_distilled_patch16_224", **settings))


FAMILIES: dict[str, Callable[[], Encoder]] = {
    "classic": vit,
    "dynamic": lambda: vit(dynamic_img_size=True),
    "dinov2": lambda: vit(init_values=1e-2, patch_size=16),
    "registers": lambda: vit(reg_tokens=4, no_embed_class=True, init_values=1e-2),
    "registers with positions": lambda: vit(reg_tokens=4),
    "no class token": lambda: vit(class_token=False, global_pool="avg"),
    "fc_norm": lambda: vit(global_pool="avg"),
    "pre norm": lambda: vit(pre_norm=True),
    "mocov3": lambda: build_vit(ViTConfig(48, 3, 12, 8, 32, pos="sincos-row")),
    "swiglu": lambda: build_vit(ViTConfig(48, 3, 3, 8, 32, swiglu=True, layer_scale=True)),
    "per-layer norms": lambda: build_vit(ViTConfig(48, 3, 3, 8, 32, per_layer_norm=True)),
    "eva": eva,
    "static eva": lambda: eva(dynamic_img_size=False, ref_feat_shape=4),
    "dinov3": dinov3,
    "distilled": distilled,
    "map pooled": lambda: vit(global_pool="map"),
    "no class token, norm before pooling": lambda: vit(
        class_token=False, global_pool="avg", fc_norm=False
    ),
    "timm resnet": lambda: wrap(timm.create_model("resnet10t", num_classes=0)),
    "timm resnet50": lambda: wrap(timm.create_model("resnet26", num_classes=0)),
    "torchvision resnet": lambda: wrap(torchvision.models.resnet18(weights=None)),
    "named": lambda: build("resnet18"),
}
VITS = [name for name in FAMILIES if "resnet" not in name and name != "named"]


def stages(name: str, **changes: object) -> Callable[[], Encoder]:
    return lambda: wrap(timm.create_model(name, num_classes=0, **changes), img_size=32)


SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 12, "depths": (1, 2, 1)}
STAGES: dict[str, Callable[[], Encoder]] = {
    "convnext": stages("test_convnext"),
    "convnextv2": stages("test_convnext2"),
    "swin": stages("swin_tiny_patch4_window7_224", num_heads=(1, 2, 3), **SWIN),
    "swinv2": stages("swinv2_tiny_window8_256", num_heads=(1, 2, 3), **SWIN),
    "efficientnet": stages("test_efficientnet"),
    "regnet": stages("regnetx_002"),
    "mobilenetv3": stages("mobilenetv3_small_050"),
    "mobilenetv4": stages("mobilenetv4_conv_small_035"),
    "pvt": stages("pvt_v2_b0", depths=(1, 1, 1, 1)),
    "mambaout": stages("test_mambaout"),
    "resnetv2": stages("resnetv2_18"),
    "xcit": stages("xcit_nano_12_p16_224", img_size=32, patch_size=8, depth=3),
    "relative positions": stages(
        "vit_relpos_small_patch16_224",
        **{"img_size": 32, "patch_size": 8, "class_token": True, "global_pool": "token"},
        **{"depth": 3, "embed_dim": 64, "num_heads": 2},
    ),
    "beit": stages("beit_base_patch16_224", embed_dim=48, depth=3, num_heads=3, img_size=32),
}
FIXED = ["relative positions", "beit"]
"""Their positions are made for one grid."""
FAMILIES |= STAGES


def make(name: str) -> Encoder:
    """A family's encoder with every parameter away from its initial value (norms are not the identity)."""
    torch.manual_seed(0)
    encoder = FAMILIES[name]().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


def images(batch: int = 2, height: int = 32, width: int = 32) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 3, height, width)


def all_layers(encoder: Encoder) -> range:
    return range(1, encoder.depth + 1)
