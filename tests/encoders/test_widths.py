"""A backbone built by its numbers is as wide as they say.

MLPs too, though timm takes a quotient, truncates it and may round up.
"""

import pytest
import timm
import torch
from torch import nn

from sdssl_bench.encoders import (
    ViTConfig,
    build_beit,
    build_distilled_vit,
    build_resnet,
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


@pytest.mark.parametrize(
    ("norm", "holds"),
    [("tokens", {"norm.weight"}), ("pooled", {"fc_norm.weight"}), ("none", set())],
)
def test_a_beit_has_its_norm_where_it_was_told(norm: str, holds: set[str]) -> None:
    model = build_beit(
        dim=DIM, depth=1, heads=3, patch_size=8, img_size=16, hidden=85, positions=True, biases="each",
        layer_scale=True, qkv_bias=True, norm=norm, norm_eps=1e-6,
    ).eval()  # fmt: skip
    assert model.state_dict().keys() & {"norm.weight", "fc_norm.weight"} == holds
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        mean = model.forward_features(images)[:, 1:].mean(1)  # type: ignore[operator]
        expected = model.fc_norm(mean)
        torch.testing.assert_close(model(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_gated_vit_counts_both_halves(hidden: int) -> None:
    """DINOv2's giant: the first map makes gate and value, the second reads their product."""
    plain = ViTConfig(DIM, 1, 3, 8, 16, mlp_ratio=hidden / DIM)
    assert widths(build_vit(plain).model) == [(DIM, hidden), (hidden, DIM)]
    gated = ViTConfig(DIM, 1, 3, 8, 16, swiglu=True, mlp_ratio=2 * hidden / DIM)
    assert widths(build_vit(gated).model) == [(DIM, 2 * hidden), (hidden, DIM)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet18", (False, (2, 2, 2, 2), (64, 128, 256, 512), 64)),
        ("resnet34", (False, (3, 4, 6, 3), (64, 128, 256, 512), 64)),
        ("resnet50", (True, (3, 4, 6, 3), (256, 512, 1024, 2048), 64)),
        ("wide_resnet50_2", (True, (3, 4, 6, 3), (256, 512, 1024, 2048), 128)),
    ],
)
def test_a_resnet_by_its_numbers_is_timms_by_name(
    name: str, settings: tuple[bool, tuple[int, ...], tuple[int, ...], int]
) -> None:
    bottleneck, counts, channels, base_width = settings
    ours = build_resnet(
        bottleneck=bottleneck, counts=counts, channels=channels, stem=64, base_width=base_width
    ).eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize(("bottleneck", "wider"), [(False, 2), (True, 2), (True, 4)])
def test_a_wider_resnet_has_all_its_channels_times_that(bottleneck: bool, wider: int) -> None:
    """SimCLR's and BYOL's: the stem too, and the first block adapts it as that of width 1 does."""
    one = timm.create_model("resnet50" if bottleneck else "resnet18", num_classes=0).state_dict()
    with torch.device("meta"):
        ours = build_resnet(
            bottleneck=bottleneck,
            counts=(3, 4, 6, 3) if bottleneck else (2, 2, 2, 2),
            channels=tuple(wider * (256 if bottleneck else 64) * 2**stage for stage in range(4)),
            stem=64 * wider,
            base_width=64,
        ).state_dict()
    colours = {"conv1.weight"}
    assert {name: tuple(it.shape) for name, it in ours.items()} == {
        name: tuple(
            size * wider if at == 0 or (at == 1 and name not in colours) else size
            for at, size in enumerate(it.shape)
        )
        for name, it in one.items()
    }
