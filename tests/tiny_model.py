"""A small seeded ViT for `--ckpt custom:tests/tiny_model.py:build`."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn


def build(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0
    ).eval()
