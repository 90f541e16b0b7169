"""The number of attention heads, which no weight tells: by release, else it must be given.

qkv is one matrix of 3 D rows however many heads share it, so a file loads without complaint into a
model with another head count and computes something else. MoCo v3's ViT-S has 12 heads where DINO's
has 6 (its issue 7); DINO's k-NN script on it, with 6, gave 32.5 % on ImageNet (issue 5).
"""

from collections.abc import Mapping
from typing import Any

from sdssl_bench.errors import DataError, UsageError

TIMM_HEADS = {1280: 16, 1408: 16, 1536: 24, 1664: 16}
"""Widths above 1024 in timm, MAE (H: 1280) and DINOv2 (g: 1536); up to 1024 a head is 64 wide."""

MOCO_HEADS = {384: 12, 768: 12}
"""chenxinlei's vit_small and vit_base, in his moco-v3."""

SDSSL_HEADS = {768: 12}
"""ViT-B has 12 in every version of the authors' repository; ViT-S 6 or 12, ViT-Ti 3 or 6."""

_WHY = (
    "The number of heads is not stored in the weights, and with a wrong one the features are wrong"
)


def resolve_heads(
    form: str,
    dim: int,
    *,
    pos: str,
    given: int | None = None,
    hints: Mapping[str, Any] | None = None,
    per_layer_norm: bool = False,
) -> tuple[int, str]:
    """Head count and how it is known.

    Args:
        form: format of the checkpoint.
        dim: width D.
        pos: kind of position table, see `ViTConfig.pos`.
        given: the user's --heads.
        hints: what the file itself states ("heads").
        per_layer_norm: the checkpoint has one norm per layer (names the branch of SDSSL).

    Raises:
        UsageError: if the given count does not divide D, or is not what the file states.
        DataError: if the count is not known and was not given.
    """
    found = said_heads(dim, given, (hints or {}).get("heads"))
    if found is not None:
        return found
    known, source = heads_by_release(form, dim, pos)
    if known is None:
        raise DataError(_question(form, dim, pos, per_layer_norm))
    return known, source


def said_heads(dim: int, given: int | None, stated: int | None) -> tuple[int, str] | None:
    """The head count that the user or the file says, and who; None if nobody does.

    Raises:
        UsageError: if the given count does not divide D, or is not what the file states.
        DataError: if the stated count does not divide D.
    """
    if given is not None:
        if given < 1 or dim % given:
            raise UsageError(f"--heads {given} does not divide the width {dim} of this checkpoint.")
        if stated is not None and stated != given:
            raise UsageError(
                f"--heads {given} contradicts the checkpoint, which states {stated} heads."
            )
        return given, "--heads"
    if stated is not None:
        if stated < 1 or dim % stated:
            raise DataError(f"The checkpoint states {stated} heads, which do not divide {dim}.")
        return int(stated), "stated by the file"
    return None


def heads_by_release(form: str, dim: int, pos: str) -> tuple[int | None, str]:
    """Head count of a release at a width and why, None if it has no convention for it."""
    if form == "mocov3":
        return MOCO_HEADS.get(dim), "MoCo v3: 12 heads for ViT-S and ViT-B"
    if form == "sdssl":
        return SDSSL_HEADS.get(dim), "SDSSL: 12 heads for ViT-B"
    if form == "timm" and pos == "sincos-row":
        return None, ""
    if dim in TIMM_HEADS:
        return TIMM_HEADS[dim], f"width {dim} in timm, MAE and DINOv2"
    if dim % 64 == 0 and dim <= 1024:
        return dim // 64, "heads of width 64, as in timm, DeiT, MAE, DINO, iBOT and DINOv2"
    return None, ""


def _question(form: str, dim: int, pos: str, per_layer_norm: bool) -> str:
    if form == "sdssl" and dim in (192, 384):
        few, many = dim // 64, {192: 6, 384: 12}[dim]
        branch = (
            f"This file has one norm per layer: branches `byol_abl` and `evaluation` ({few} heads), "
            f"`dino` and `new_sdssl` ({few} or {many})."
            if per_layer_norm
            else f"This file has one shared norm: `moco_abl`, `simclr_abl` and `resnet` of 2021 "
            f"({few} heads) or `master` of Nov 2022 ({many})."
        )
        return (
            f"{_WHY}: SDSSL's code builds this width ({dim}) with {few} or {many} heads, depending "
            f"on its version. {branch} Give --heads {few} or --heads {many}."
        )
    if form == "timm" and pos == "sincos-row":
        return (
            f"{_WHY}: this bare state dict has the fixed row-first sin-cos positions of MoCo v3 and "
            f"SDSSL, whose ViT-S has 12 heads in some versions and 6 in others. Expected --heads "
            f"(12 for MoCo v3 ViT-S and ViT-B), found none; width {dim}."
        )
    return (
        f"{_WHY}: no convention is known for format '{form}' at width {dim}. Give it with --heads."
    )
