"""What a release is known by, and what only its authors tell: which network they evaluate, at which size.

Backbones are found without any of this (`networks`). Sources: the releases' own code and papers, read for
facts (dino 7c446df, ibot da316d8, dinov2 b8931f7, deit 7e160fe; hagiss/SDSSL, all branches; MoCo v3 as told
in its issues 5, 7 and 30; the papers of MoCo, BYOL, I-JEPA and MSN).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sdssl_bench.checkpoints.keys import State, has_any
from sdssl_bench.checkpoints.networks import Network
from sdssl_bench.encoders import classify_pos_embed

EVALUATED = (
    ("teacher", "student"),  # DINO, iBOT, DINOv2, SDSSL
    ("base", "momentum"),  # MoCo v3: the query encoder
    ("encoder_q", "encoder_k"),  # MoCo v1, v2: the query encoder
    ("target_encoder", "encoder"),  # I-JEPA (appendix A.2), MSN
    (
        r"online.*",
        r"target.*",
    ),  # BYOL (section 3.1: everything but the online encoder is thrown away)
    ("backbone", "momentum_backbone"),  # solo-learn: `backbone` is what its trainers evaluate
    ("model", "ema"),  # timm, DeiT: without --use-ema the model
)
"""Pairs of networks: the one that its authors evaluate, and the other."""


def evaluated(names: Iterable[str]) -> str | None:
    """The network that a convention names, the only one if there is one; None if nobody says which."""
    known = list(names)
    if len(known) == 1:
        return known[0]
    for wanted, other in EVALUATED:
        chosen = [name for name in known if re.fullmatch(wanted, name)]
        if len(chosen) == 1 and all(re.fullmatch(other, n) for n in known if n not in chosen):
            return chosen[0]
    return None


@dataclass(frozen=True)
class Release:
    """A release's marks.

    Attributes:
        format: its name; several rows may share one.
        prefix: pattern of what stands before its backbone's names.
        marks: whether tensors are its own, given those of the home, relative to it, and the backbone's.
        input_size: side it is evaluated on; None = that of its position table.
    """

    format: str
    prefix: str = ".*"
    marks: Callable[[State, State], bool] = lambda beside, backbone: True
    input_size: int | None = 224


def _any_of(*beginnings: str) -> Callable[[State, State], bool]:
    return lambda beside, backbone: any(
        has_any(beside, one) or has_any(backbone, one) for one in beginnings
    )


def _is_dinov2(beside: State, backbone: State) -> bool:
    """Layer scale, with a mask or register token or the 37 x 37 position table."""
    table = backbone.get("pos_embed")
    scaled = any(re.fullmatch(r"blocks\.0\.(0\.)?ls1\.gamma", key) for key in backbone)
    tokens = any(key.endswith(("mask_token", "register_tokens")) for key in beside)
    return scaled and (
        tokens or (table is not None and table.ndim == 3 and table.shape[1] in (1369, 1370))
    )


def _is_dinov3(beside: State, backbone: State) -> bool:
    """Meta's table of rotary periods, or in timm's names layer scale and registers without a table."""
    timm = {"blocks.0.gamma_1", "reg_token"} <= backbone.keys() and "pos_embed" not in backbone
    return timm or "rope_embed.periods" in backbone


def _is_mae_alone(beside: State, backbone: State) -> bool:
    """An encoder of MAE's without its decoder: a plain ViT with MAE's order of fixed positions."""
    table = backbone.get("pos_embed")
    return table is not None and table.ndim == 3 and classify_pos_embed(table) == "sincos-column"


_PAIR = r"(.*\.)?(teacher|student)\.(backbone\.)?"
RELEASES = (
    Release("sdssl", r"(.*\.)?(teacher|student)\.net\."),
    Release("mocov3", r"(.*\.)?(base|momentum)_encoder\."),
    Release("dinov3", marks=_is_dinov3),
    Release("dinov2", _PAIR, _any_of("dino_head.", "ibot_head.")),
    Release(
        "ibot",
        _PAIR,
        _any_of("head.last_layer2.", "head.mlp2.", "masked_embed", "backbone.masked_embed"),
    ),
    Release("dino", _PAIR),
    Release("dinov2", marks=_is_dinov2),
    Release("ibot", marks=lambda beside, backbone: any(k.endswith("masked_embed") for k in beside)),
    Release("mae", marks=_any_of("decoder_embed.", "decoder_blocks.")),
    Release("mae", marks=_is_mae_alone, input_size=None),
)
"""In the order in which they are asked; the first that fits counts. Of timm's names only."""


def release_of(network: Network, *, beside: State, translated: State) -> tuple[str, int | None]:
    """Format and input size of a network, by its release; its style's own name if nobody claims it.

    Args:
        network: of the file.
        beside: all tensors of its home, relative to it.
        translated: its own under timm's names.
    """
    if network.style.name in ("timm", "resnet"):
        for one in RELEASES:
            if re.fullmatch(one.prefix, network.prefix) and one.marks(beside, network.state):
                return one.format, one.input_size
    # DINOv2 is evaluated at 224 px under whatever names it is saved.
    size = Release.input_size if _is_dinov2({}, translated) else None
    return network.style.name.split()[0].rstrip(","), size
