"""Builds the encoder of a checkpoint, fills it strictly, and states its facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sdssl_bench import encoders as backbones
from sdssl_bench.checkpoints.options import Options
from sdssl_bench.checkpoints.strict import check_keys
from sdssl_bench.encoders import Encoder, Pretrained, ViTConfig, ViTEncoder, build_vit
from sdssl_bench.errors import UsageError


@dataclass(frozen=True, eq=False)
class Loaded:
    """An encoder with its weights and what is known about it.

    Attributes:
        encoder: the encoder, filled.
        format: adapter that read it.
        network: the network that was chosen.
        arch: canonical architecture.
        details: recorded facts, JSON values.
        pretrained: False for an untrained encoder that was asked for; see `ModelInfo`.
        name: what to call it; None = after the file.
    """

    encoder: Encoder
    format: str
    network: str
    arch: str
    details: dict[str, Any] = field(default_factory=dict)
    pretrained: Pretrained = True
    name: str | None = None


def vit_encoder(config: ViTConfig, *, norm: str | None, input_size: int) -> Encoder:
    """An empty ViT encoder; norm None is the format's own: per layer where the file has such norms.

    Raises:
        UsageError: if the image side is no multiple of the patch, or per-layer norms are asked of a
            checkpoint that has none.
    """
    if input_size % config.patch_size:
        raise UsageError(
            f"--img-size {input_size} is no multiple of the patch size {config.patch_size}."
        )
    if norm == "per-layer" and not config.per_layer_norm:
        raise UsageError("--norm per-layer: this checkpoint has one final norm, not one per layer.")
    norm = norm or ("per-layer" if config.per_layer_norm else "shared")
    return build_vit(config, norm=norm, input_size=input_size)


def fill(encoder: Encoder, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads the tensors into the backbone, all of them or none.

    Raises:
        DataError: if a key is missing, unexpected or of another shape.
    """
    check_keys(encoder.backbone_state(), state, source=source)
    encoder.load_backbone(dict(state))


def heads_of(encoder: Encoder) -> int | None:
    """Attention heads of a ViT, None for an architecture without."""
    blocks = getattr(getattr(encoder, "model", encoder), "blocks", None)
    attention = getattr(blocks[0], "attn", None) if blocks is not None and len(blocks) else None
    heads = getattr(attention, "num_heads", None)
    return int(heads) if heads is not None else None


def arch_of(encoder: Encoder) -> str:
    """Canonical name, with the head count where heads are not 64 wide.

    Two readings of one file with 6 and with 12 heads have the same weights; their records differ
    by this name.
    """
    name, heads = backbones.arch_name(encoder), heads_of(encoder)
    usual = heads is None or heads * 64 == encoder.dims[0]
    return name if usual else f"{name}_heads{heads}"


def check_facts(encoder: Encoder, options: Options, *, what: str) -> None:
    """--heads and --patch-size must agree with an architecture that is fixed otherwise.

    Raises:
        UsageError: if they contradict it or it has no such thing.
    """
    heads = heads_of(encoder)
    if heads is None:
        options.refuse("heads", "patch_size", because=f"{what} is no ViT")
        return
    options.agree("heads", heads, what=what)
    options.agree("patch_size", encoder.stride, what=what)


def facts(encoder: Encoder) -> dict[str, Any]:
    """What every record says of an encoder, however it came to be; JSON values."""
    found: dict[str, Any] = {
        "depth": encoder.depth,
        "dims": list(encoder.dims),
        "input_size": encoder.input_size,
        "norm": encoder.norm,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "cls_source": getattr(encoder, "cls_source", "as the encoder defines it"),
    }
    if isinstance(encoder, ViTEncoder):
        found |= {
            "heads": heads_of(encoder),
            "patch_size": encoder.stride,
            "pos": encoder.pos,
            "img_size": encoder.grid[0] * encoder.stride,
            "reg_tokens": int(getattr(encoder.model, "num_reg_tokens", 0)),
        }
    return found
