"""Third step, for ViTs of other kinds than the plain one: their numbers from names and shapes of tensors."""

import math
import re

from torch import Tensor

from sdssl_bench.checkpoints.config import Config
from sdssl_bench.checkpoints.heads import said_heads
from sdssl_bench.checkpoints.keys import State, depth_of
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.recognise import Release
from sdssl_bench.checkpoints.vit_names import ROPE_BASE
from sdssl_bench.encoders import (
    RESNETS,
    ViTConfig,
    build_beit,
    build_convnext,
    build_distilled_vit,
    build_resnet,
    build_rope_vit,
    build_swin,
)
from sdssl_bench.errors import DataError

_PATCH, _TABLE = "patch_embed.proj.weight", "attn.relative_position_bias_table"
NAME_IT = "If it is of another architecture, name that with --arch (a timm name)."
_BEIT = ("beit", "data2vec-vision")
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
    if "stages.0.blocks.0.conv_dw.weight" in state:
        return _convnext(state, release, options)
    if f"layers.0.blocks.0.{_TABLE}" in state:
        return _swin(state, release, options)
    if "dist_token" in state:
        return _distilled(state, release, options)
    beit = any("relative_position_bias" in key for key in state)
    scaled = "blocks.0.gamma_1" in state
    split = {"blocks.0.attn.q_bias", "blocks.0.attn.q_proj.weight"} & state.keys()
    if split and not beit and not scaled:
        raise DataError(
            f"{release.source} has EVA-02's names, and the grid of its rotary positions is not stored in the "
            "weights: name it with --arch, e.g. --arch eva02_base_patch14_224."
        )
    if "blocks.0.attn.qkv.weight" not in state:
        return None
    if beit or (scaled and ("pos_embed" in state or release.stated.get("model_type") in _BEIT)):
        return _beit(state, release, options)
    return _rope_vit(state, release, options) if scaled else None


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
        UsageError, DataError: as `said_heads`; DataError if the family's does not divide the width.
    """
    said = said_heads(dim, options.heads, release.stated.get("heads"))
    if said is None and (usual < 1 or dim % usual):
        raise DataError(
            f"{release.source} has width {dim}, which {why} does not tell: give --heads."
        )
    return said or (usual, why)


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
        raise DataError(
            f"Expected a ResNet with tensor {error}, which is missing. {NAME_IT}"
        ) from None
    name = RESNETS.get(("bottleneck" if bottleneck else "basic", counts, inner))
    if name is not None and (stem, channels[0]) == (64, 256 if bottleneck else 64):
        return Config(name, None, options.img_size, options, name)
    base_width = inner * 64 * 4 // channels[0] if bottleneck else 64
    model = build_resnet(
        bottleneck=bottleneck, counts=counts, channels=channels, stem=stem, base_width=base_width
    )
    return Config(model, None, options.img_size, options)


def _convnext(state: State, release: Release, options: Options) -> Config:
    counts = _counts(state, r"stages\.(\d+)\.blocks\.(\d+)\.")
    first = [f"stages.{stage}.blocks.0." for stage in range(len(counts))]
    fc1 = _needed(state, f"{first[0]}mlp.fc1.weight")
    model = build_convnext(
        counts=counts,
        dims=tuple(_needed(state, f"{stage}conv_dw.weight").shape[0] for stage in first),
        patch_size=_needed(state, "stem.0.weight").shape[-1],
        layer_scale=f"{first[0]}gamma" in state,
        response_norm=f"{first[0]}mlp.grn.weight" in state,
        conv_mlp=fc1.ndim == 4,
        norm_eps=ViTConfig.norm_eps,
        last_eps=release.stated.get("norm_eps", ViTConfig.norm_eps),
    )
    return Config(model, options.norm, options.img_size, options)


def _swin(state: State, release: Release, options: Options) -> Config:
    """Windows and heads by the tables of relative positions: (2 w - 1)^2 rows, a column a head."""
    counts = _counts(state, r"layers\.(\d+)\.blocks\.(\d+)\.")
    tables = [_needed(state, f"layers.{i}.blocks.0.{_TABLE}") for i in range(len(counts))]
    dim, _, patch, _ = _needed(state, _PATCH).shape
    window = (math.isqrt(tables[0].shape[0]) + 1) // 2
    # A whole number of windows in every stage; 224 and 384 px for the released windows of 7 and 12.
    cells = window * 2 ** (len(counts) - 1)
    size = options.img_size or release.stated.get("img_size") or patch * cells
    model = build_swin(
        dim=dim,
        counts=counts,
        heads=tuple(table.shape[1] for table in tables),
        window=window,
        patch_size=patch,
        img_size=size,
        mlp_ratio=_needed(state, "layers.0.blocks.0.mlp.fc1.weight").shape[0] / dim,
        norm_eps=release.stated.get("norm_eps", 1e-5),
    )
    return Config(model, options.norm, size, options)


def _counts(state: State, pattern: str) -> tuple[int, ...]:
    """Blocks of each stage; a gap is found by `verify`."""
    found = {(int(m[1]), int(m[2])) for key in state if (m := re.match(pattern, key))}
    stages = sorted({stage for stage, _ in found})
    if stages != list(range(len(stages))) or max(block for _, block in found) > len(state):
        raise DataError(
            f"The checkpoint has stages {stages[:10]}, expected them from 0 without gap."
        )
    return tuple(sum(stage == one for one, _ in found) for stage in stages)


def _needed(state: State, key: str) -> Tensor:
    if key not in state:
        raise DataError(f"Expected tensor '{key}', which is missing. {NAME_IT}")
    return state[key]


def _beit(state: State, release: Release, options: Options) -> Config:
    """Grid and heads by the tables of relative positions: (2 h - 1)^2 + 3 rows, a column a head."""
    dim, _, patch, _ = _needed(state, _PATCH).shape
    each, shared = f"blocks.0.{_TABLE}", "rel_pos_bias.relative_position_bias_table"
    biases = "each" if each in state else "shared" if shared in state else "none"
    if biases == "none":
        side = math.isqrt(_needed(state, "pos_embed").shape[1] - 1) if "pos_embed" in state else 0
        heads, why = _heads(options, release, dim, dim // 64, "heads of width 64, as in BEiT")
    else:
        rows, columns = state[each if biases == "each" else shared].shape
        side = (math.isqrt(rows - 3) + 1) // 2
        heads, why = _heads(options, release, dim, columns, "columns of the table of biases")
    norm = "tokens" if "norm.weight" in state else "pooled" if "fc_norm.weight" in state else "none"
    size = side * patch or release.stated.get("img_size", ROPE_SIZE)
    model = build_beit(
        dim=dim,
        depth=depth_of(state),
        heads=heads,
        patch_size=patch,
        img_size=size,
        hidden=_needed(state, "blocks.0.mlp.fc1.weight").shape[0],
        positions="pos_embed" in state,
        biases=biases,
        layer_scale="blocks.0.gamma_1" in state,
        qkv_bias="blocks.0.attn.q_bias" in state,
        norm=norm,
        norm_eps=release.stated.get("norm_eps", ViTConfig.norm_eps),
    )
    return Config(
        model, options.norm, options.img_size or size, options, details={"heads_source": why}
    )
