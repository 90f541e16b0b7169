"""The architecture of a state dict, from the names and shapes of its tensors."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdssl_bench.checkpoints.heads import resolve_heads
from sdssl_bench.checkpoints.keys import has_any
from sdssl_bench.encoders import RESNETS, ViTConfig, classify_pos_embed
from sdssl_bench.errors import DataError, UsageError

DEFAULT_IMG_SIZE = 224


@dataclass(frozen=True)
class Inferred:
    """A ViT's configuration and how the parts that weights do not tell were found.

    Attributes:
        config: the architecture.
        heads_source: how the head count is known.
        table_stored: False if the file has no position table (it is recomputed).
    """

    config: ViTConfig
    heads_source: str
    table_stored: bool


def infer_vit(
    state: Mapping[str, Tensor],
    form: str,
    *,
    heads: int | None,
    img_size: int | None,
    hints: Mapping[str, Any],
) -> Inferred:
    """Configuration of a ViT state dict with timm's names.

    Args:
        state: backbone tensors.
        form: format name, which decides the head count and the positions of a file without table.
        heads: the user's --heads.
        img_size: the user's --img-size, used for the position table only where none is stored.
        hints: facts the file states.

    Raises:
        DataError: if a needed tensor is missing or of an impossible shape, or heads are unknown.
        UsageError: if --heads contradicts the file.
    """
    projection = _need(state, "patch_embed.proj.weight", 4)
    dim, channels, patch, patch_width = projection.shape
    if channels != 3 or patch != patch_width:
        raise DataError(
            f"patch_embed.proj.weight has shape {tuple(projection.shape)}; expected RGB and square "
            "patches (D, 3, p, p)."
        )
    fc1, fc2 = (_need(state, f"blocks.0.mlp.{name}.weight", 2) for name in ("fc1", "fc2"))
    class_token = "cls_token" in state
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    pos, size, without_prefix = _positions(
        state, form, dim=dim, patch=patch, prefix=int(class_token) + registers, img_size=img_size
    )
    per_layer = has_any(state, "norms.")
    count, source = resolve_heads(
        form, dim, pos=pos, given=heads, hints=hints, per_layer_norm=per_layer
    )
    config = ViTConfig(
        dim=dim,
        depth=_depth(state),
        heads=count,
        patch_size=patch,
        img_size=size,
        mlp_ratio=_ratio(fc1.shape[0], dim),
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        layer_scale="blocks.0.ls1.gamma" in state,
        reg_tokens=registers,
        class_token=class_token,
        no_embed_class=without_prefix,
        pos=pos,
        per_layer_norm=per_layer,
        swiglu=fc1.shape[0] == 2 * fc2.shape[1],
    )
    return Inferred(config, source, "pos_embed" in state)


def _ratio(hidden: int, dim: int) -> float:
    """The quotient hidden / dim, such that int(dim * ratio) is hidden in spite of rounding."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else (hidden + 0.5) / dim


def _need(state: Mapping[str, Tensor], key: str, ndim: int) -> Tensor:
    if key not in state:
        raise DataError(f"Expected a ViT with tensor '{key}', which is missing.")
    if state[key].ndim != ndim:
        raise DataError(
            f"'{key}' has {state[key].ndim} dimensions, expected {ndim}: not a plain ViT "
            "(a convolutional stem?). Name the architecture with --arch."
        )
    return state[key]


def _depth(state: Mapping[str, Tensor]) -> int:
    indices = {int(m[1]) for key in state if (m := re.match(r"blocks\.(\d+)\.", key))}
    return max(indices) + 1


def _positions(
    state: Mapping[str, Tensor],
    form: str,
    *,
    dim: int,
    patch: int,
    prefix: int,
    img_size: int | None,
) -> tuple[Any, int, bool]:
    """Kind of position table, image side it was made for, and whether it skips the prefix tokens."""
    table = state.get("pos_embed")
    if table is None:
        if form not in ("sdssl", "mocov3"):
            raise DataError(
                "The checkpoint has no 'pos_embed', and only MoCo v3 and SDSSL have positions that "
                "can be recomputed. If its architecture has none, name it with --arch."
            )
        return "sincos-row", _multiple(img_size or DEFAULT_IMG_SIZE, patch), False
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[2] != dim:
        raise DataError(f"'pos_embed' has shape {tuple(table.shape)}, expected (1, N, {dim}).")
    count = table.shape[1]
    # timm's register models add no position to prefix tokens, so that reading comes first for them.
    order = (0, prefix) if prefix > 1 else (prefix, 0)
    sides = {skip: math.isqrt(count - skip) for skip in order if count > skip}
    fitting = [skip for skip, side in sides.items() if side * side == count - skip]
    if not fitting:
        raise DataError(
            f"'pos_embed' has {count} positions, expected a square grid of patches "
            f"with or without {prefix} prefix tokens."
        )
    skip = fitting[0]
    return classify_pos_embed(table), sides[skip] * patch, prefix > 0 and skip == 0


def _multiple(size: int, patch: int) -> int:
    if size < patch or size % patch:
        raise UsageError(f"--img-size {size} is no multiple of the patch size {patch}.")
    return size


def infer_resnet(state: Mapping[str, Tensor]) -> str:
    """Name, in timm and torchvision, of a ResNet state dict.

    Raises:
        DataError: if its blocks are those of no known ResNet.
    """
    block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    counts = tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    width = state["layer1.0.conv1.weight"].shape[0] if "layer1.0.conv1.weight" in state else 0
    name = RESNETS.get((block, counts, width))
    if name is None:
        raise DataError(
            f"A ResNet with {block} blocks {counts} of width {width} is none of "
            f"{', '.join(RESNETS.values())}; name it with --arch (a timm name)."
        )
    return name


def drop_unused_norm(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """For SDSSL files with both `norm.*` and `norms.i.*`: leaves the one the last layer used.

    Some versions of the authors' code build both and apply `norms[-1]` to the last layer, two apply
    `norm`; the unused one gets no gradient and is still exactly weight 1, bias 0.

    Returns:
        the state with `norms.i.*` only, and how many tensors were left out under which prefix.

    Raises:
        DataError: if both were trained, so that the last layer's norm is unknown.
    """
    if "norm.weight" not in state or not has_any(state, "norms."):
        return dict(state), {}
    last = f"norms.{_depth(state) - 1}."
    out = {key: value for key, value in state.items() if not key.startswith("norm.")}
    if _untouched(state, "norm."):
        return out, {"norm.": len(state) - len(out)}
    if not _untouched(state, last):
        raise DataError(
            f"The checkpoint has both 'norm.*' and '{last}*', both trained: which of them normalised "
            "the last layer is unknown."
        )
    out |= {last + part: state["norm." + part] for part in ("weight", "bias")}
    return out, {last: 2}


def _untouched(state: Mapping[str, Tensor], prefix: str) -> bool:
    weight, bias = state.get(prefix + "weight"), state.get(prefix + "bias")
    return (
        weight is not None and bias is not None and bool((weight == 1).all() and (bias == 0).all())
    )
