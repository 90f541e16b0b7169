"""An MLP is as wide as its weights are, though timm takes a quotient, truncates and may round up."""

import pytest
import torch
from torch import nn

from sdssl_bench.encoders import (
    ViTConfig,
    build_beit,
    build_distilled_vit,
    build_rope_vit,
    build_vit,
)

DIM = 84
HIDDEN = (51, 59, 123, 96, 85)
"""Of the first three the product of quotient and width falls below; the last no alignment keeps."""


def widths(model: nn.Module) -> list[tuple[int, int]]:
    """(in, out) of the linear maps of the first MLP, in order of their names."""
    mlp = model.get_submodule("blocks.0.mlp")
    linear = [m for _, m in sorted(mlp.named_modules()) if isinstance(m, nn.Linear)]
    return [(m.in_features, m.out_features) for m in linear]


def test_some_quotients_are_truncated() -> None:
    assert [int(DIM * (hidden / DIM)) for hidden in HIDDEN] == [50, 58, 122, 96, 85]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_family_has_the_width_that_was_asked_for(hidden: int) -> None:
    sizes = {"dim": DIM, "depth": 1, "heads": 3, "patch_size": 8, "img_size": 16, "hidden": hidden}
    plain = [(DIM, hidden), (hidden, DIM)]
    eps = {"norm_eps": 1e-6}
    rope = {"registers": 0, "qkv_bias": True, "temperature": 100.0, **eps}
    table = {"positions": True, "biases": "none", "layer_scale": False, "qkv_bias": True}
    with torch.device("meta"):
        assert widths(build_rope_vit(**sizes, gated=False, **rope)) == plain  # type: ignore[arg-type]
        gated = build_rope_vit(**sizes, gated=True, **rope)  # type: ignore[arg-type]
        assert widths(gated) == [(DIM, hidden), (DIM, hidden), (hidden, DIM)]
        assert widths(build_distilled_vit(**sizes, **eps)) == plain  # type: ignore[arg-type]
        assert widths(build_beit(**sizes, **table, norm="tokens", **eps)) == plain  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_gated_vit_counts_both_halves(hidden: int) -> None:
    """DINOv2's giant: the first map makes gate and value, the second reads their product."""
    plain = ViTConfig(DIM, 1, 3, 8, 16, mlp_ratio=hidden / DIM)
    assert widths(build_vit(plain).model) == [(DIM, hidden), (hidden, DIM)]
    gated = ViTConfig(DIM, 1, 3, 8, 16, swiglu=True, mlp_ratio=2 * hidden / DIM)
    assert widths(build_vit(gated).model) == [(DIM, 2 * hidden), (hidden, DIM)]
