"""Third step, for ViTs of other kinds than the plain one: their numbers from names and shapes of tensors."""

import math

from sdssl_bench.checkpoints.config import Config
from sdssl_bench.checkpoints.keys import State, depth_of
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.recognise import Release
from sdssl_bench.checkpoints.vit_names import ROPE_BASE
from sdssl_bench.encoders import (
    RESNETS,
    ViTConfig,
    build_distilled_vit,
    build_resnet,
    build_rope_vit,
)
from sdssl_bench.errors import DataError, UsageError

_PATCH = "patch_embed.proj.weight"
ROPE_EPS, ROPE_SIZE = 1e-5, 224
"""Of DINOv3, where the checkpoint does not say."""


def of_family(release: Release, options: Options) -> Config | None:
    """The configuration of a network that is no plain ViT; None if it looks like one.

    Raises:
        DataError: if its numbers cannot be known.
        UsageError: if an option contradicts it.
    """
    state = release.state or {}
    if "layer1.0.conv1.weight" in state:
        return _resnet(state, options)
    if "dist_token" in state:
        return _distilled(state, release, options)
    if "blocks.0.gamma_1" in state and "blocks.0.attn.qkv.weight" in state:
        if any("relative_position_bias" in key for key in state):
            return None
        if "pos_embed" not in state:
            return _rope_vit(state, release, options)
    return None


def _rope_vit(state: State, release: Release, options: Options) -> Config:
    stated = release.stated
    dim, _, patch, _ = state[_PATCH].shape
    heads, why = _heads(options, release, dim, dim // (64 if dim < 4096 else 128), "DINOv3")
    gated = "blocks.0.mlp.fc1_g.weight" in state
    fc1 = state[f"blocks.0.mlp.{'fc1_g' if gated else 'fc1'}.weight"]
    model = build_rope_vit(
        dim=dim,
        depth=depth_of(state),
        heads=heads,
        patch_size=patch,
        img_size=_multiple(options.img_size or ROPE_SIZE, patch),
        hidden=fc1.shape[0],
        gated=gated,
        registers=state["reg_token"].shape[1] if "reg_token" in state else 0,
        qkv_bias="blocks.0.attn.q_bias" in state,
        norm_eps=stated.get("norm_eps", ROPE_EPS),
        temperature=stated.get("rope_temperature", ROPE_BASE),
    )
    return Config(model, options.norm, options.img_size, options, details={"heads_source": why})


def _multiple(size: int, patch: int) -> int:
    return max(patch, size - size % patch)


def _distilled(state: State, release: Release, options: Options) -> Config:
    dim, _, patch, _ = state[_PATCH].shape
    heads, why = _heads(options, release, dim, dim // 64, "heads of width 64, as in DeiT")
    side = math.isqrt(state["pos_embed"].shape[1] - 2)
    model = build_distilled_vit(
        dim=dim,
        depth=depth_of(state),
        heads=heads,
        patch_size=patch,
        img_size=side * patch,
        hidden=state["blocks.0.mlp.fc1.weight"].shape[0],
        norm_eps=release.stated.get("norm_eps", ViTConfig.norm_eps),
    )
    return Config(model, options.norm, options.img_size, options, details={"heads_source": why})


def _heads(options: Options, release: Release, dim: int, usual: int, why: str) -> tuple[int, str]:
    """Head count: the user's, the file's, or the family's.

    Raises:
        UsageError: if it does not divide the width, or contradicts the file.
    """
    stated = release.stated.get("heads")
    if options.heads is not None and stated not in (None, options.heads):
        raise UsageError(
            f"--heads {options.heads} contradicts the checkpoint, which states {stated} heads."
        )
    heads = options.heads or stated or usual
    if heads < 1 or dim % heads:
        raise UsageError(f"{heads} heads do not divide the width {dim} of {release.source}.")
    return heads, "--heads" if options.heads else "stated by the file" if stated else why


def _resnet(state: State, options: Options) -> Config:
    """By name where timm and torchvision have one, else by its numbers."""
    bottleneck = "layer1.0.conv3.weight" in state
    stages = range(1, 5)
    counts = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")})
        for stage in stages
    )
    last = "conv3" if bottleneck else "conv2"
    try:
        channels = tuple(state[f"layer{stage}.0.{last}.weight"].shape[0] for stage in stages)
        inner = state["layer1.0.conv1.weight"].shape[0]
        stem = state["conv1.weight"].shape[0]
    except KeyError as error:
        raise DataError(f"Expected a ResNet with tensor {error}, which is missing.") from None
    name = RESNETS.get(("bottleneck" if bottleneck else "basic", counts, inner))
    if name is not None and (stem, channels[0]) == (64, 256 if bottleneck else 64):
        return Config(name, None, options.img_size, options, name)
    base_width = inner * 64 * 4 // channels[0] if bottleneck else 64
    model = build_resnet(
        bottleneck=bottleneck, counts=counts, channels=channels, stem=stem, base_width=base_width
    )
    return Config(model, None, options.img_size, options)
