"""Styles of names: under which names the tensors of a backbone are saved, and what timm calls them.

A style is recognised by the names alone, under whatever prefix. Its tensors are put under timm's names
(torchvision's for a ResNet); what it does not know keeps its name, so that `verify` refuses it. Sources: the
libraries' own code, read for facts (timm 1.0, torchvision, transformers 5, mmpretrain, CLIP, open_clip,
DINOv2 b8931f7, big_vision's and vision_transformer's npz files).

Another package adds a style by an entry point of the group `sdssl_bench.checkpoints` whose name is the
style's and whose object is a `Style`; one with `build` brings its own architecture.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sdssl_bench.checkpoints.family_names import (
    convnext,
    hf_convnext,
    hf_dinov3_convnext,
    hf_resnet,
    hf_swin,
    numbered_resnet,
    swin,
)
from sdssl_bench.checkpoints.keys import State, has_any
from sdssl_bench.checkpoints.renaming import Translated, renaming, without
from sdssl_bench.checkpoints.vit_names import clip, hf_beit, hf_dinov3, hf_vit, npz, vit
from sdssl_bench.system import load_plugin, plugins


@dataclass(frozen=True)
class Style:
    """How a library names the tensors of a family.

    Attributes:
        name: what messages call it.
        needs: names (a trailing dot: beginnings) that are there under a prefix if it is this style; the
            first, whole, is what is looked for.
        parts: pattern of the first part of names that belong to the backbone.
        translate: to timm's names; to those of `build`, if that is given.
        build: the model that takes the translated tensors, or an `Encoder`; None: told by the tensors.
    """

    name: str
    needs: tuple[str, ...]
    parts: str
    translate: Callable[[State], Translated]
    build: Callable[[Translated], nn.Module] | None = None

    def owns(self, name: str) -> bool:
        """Whether a name, without prefix, belongs to a backbone of this style, by its first part."""
        return re.fullmatch(self.parts, name.split(".")[0]) is not None

    def prefixes(self, names: Mapping[str, Any]) -> list[str]:
        """Every prefix under which the needed names are, in the order of the file."""
        anchor = self.needs[0]
        found = [n[: -len(anchor)] for n in names if n == anchor or n.endswith("." + anchor)]
        return [
            prefix
            for prefix in found
            if all(
                has_any(names, prefix + need) if need.endswith(".") else prefix + need in names
                for need in self.needs[1:]
            )
        ]


def _timm_convnext(state: State) -> Translated:
    kept, unused = without(state, r"head\.(fc|pre_logits)\..*")
    return Translated(kept, unused)


GROUP = "sdssl_bench.checkpoints"
_VIT = (
    r"cls_token|dist_token|reg_token|register_tokens|pos_embed|patch_embed|blocks|norms?|norm_pre|fc_norm|rel_pos_bias"
    r"|storage_tokens|rope_embed|local_cls_norm|cls_norm"
)
STYLES = (
    Style("timm", ("patch_embed.proj.weight", "blocks."), _VIT, vit),
    Style(
        "resnet",
        ("layer1.0.conv1.weight", "bn1.weight"),
        r"conv1|bn1|layer\d",
        renaming(),
    ),
    Style(
        "resnet, numbered",
        ("4.0.conv1.weight", "0.weight", "1.weight"),
        "[014567]",
        numbered_resnet,
    ),
    Style(
        "mmpretrain",
        ("patch_embed.projection.weight", "layers.0.ln1.weight"),
        r"cls_token|pos_embed|patch_embed|layers|ln1|pre_norm",
        renaming(
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^layers\.", "blocks."),
            (r"\.ln(\d)\.", r".norm\1."),
            (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
            (r"^ln1\.", "norm."),
        ),
    ),
    Style(
        "clip",
        ("class_embedding", "conv1.weight", "transformer.resblocks."),
        r"class_embedding|conv1|positional_embedding|ln_pre|ln_post|transformer|proj",
        clip,
    ),
    Style(
        "jax",
        ("embedding/kernel", "Transformer/encoder_norm/scale"),
        r"embedding/.*|cls|Transformer/.*",
        npz,
    ),
    Style(
        "huggingface beit",
        ("embeddings.patch_embeddings.projection.weight", "encoder.layer.0.lambda_1"),
        "embeddings|encoder|layernorm|pooler",
        hf_beit,
    ),
    Style(
        "huggingface",
        (
            "embeddings.patch_embeddings.projection.weight",
            "layernorm.weight",
            "embeddings.position_embeddings",
        ),
        r"embeddings|encoder|layers?|layernorm",
        hf_vit,
    ),
    Style(
        "huggingface dinov3",
        ("embeddings.patch_embeddings.weight", "norm.weight", "layer."),
        r"embeddings|layer|norm|model",
        hf_dinov3,
    ),
    Style(
        "convnext",
        ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"),
        "downsample_layers|stages|norms?",
        convnext,
    ),
    Style(
        "convnext, timm",
        ("stages.0.blocks.0.conv_dw.weight", "stem.0.weight", "stem.1.weight"),
        "stem|stages|head",
        _timm_convnext,
    ),
    Style(
        "swin",
        ("patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table"),
        "patch_embed|layers|norm",
        swin,
    ),
    Style(
        "huggingface convnext",
        ("embeddings.patch_embeddings.weight", "encoder.stages.0.layers.0.dwconv.weight"),
        "embeddings|encoder|layernorm",
        hf_convnext,
    ),
    Style(
        "huggingface dinov3 convnext",
        ("stages.0.layers.0.depthwise_conv.weight", "stages.0.downsample_layers.0.weight"),
        "stages|layer_norm",
        hf_dinov3_convnext,
    ),
    Style(
        "huggingface swin",
        ("embeddings.patch_embeddings.projection.weight", "encoder.layers.0.blocks."),
        "embeddings|encoder|layernorm",
        hf_swin,
    ),
    Style(
        "huggingface resnet",
        ("embedder.embedder.convolution.weight",),
        "embedder|encoder",
        hf_resnet,
    ),
)
"""In the order in which they are tried; a prefix belongs to the first that fits."""


def styles() -> tuple[Style, ...]:
    """Built-in styles, then those of other packages.

    Raises:
        UsageError: if a package adds one under a name that is taken, or one that is none.
    """
    known = tuple(style.name for style in STYLES)
    added = plugins(GROUP, known, "checkpoint style")
    return (*STYLES, *(load_plugin(point, Style) for point in added.values()))
