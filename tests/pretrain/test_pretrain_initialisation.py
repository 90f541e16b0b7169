"""Fresh encoders are drawn as MoCo v3 draws them."""

import itertools
import math
from math import sqrt

import pytest
import torch
from torch import nn

from pretrain_fixtures import tiny
from sdssl_bench.encoders.building import build_vit
from sdssl_bench.encoders.vit import ViTConfig
from sdssl_bench.pretrain.objective.assembly import build_encoder, build_model
from sdssl_bench.pretrain.objective.heads import GroupedLinear

DIM, PATCH = 96, 8


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    return build_encoder(tiny("mocov3", dim=DIM, depth=3, heads=3, patch_size=PATCH)).model


def assert_uniform(weight: torch.Tensor, bound: float) -> None:
    """All within the bound, close to it, and with the spread of a uniform distribution."""
    assert bound * 0.99 < float(weight.detach().abs().max()) <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / sqrt(3), rel=0.03)


def test_linears_are_xavier_and_queries_keys_values_are_matrices_of_their_own(
    vit: nn.Module,
) -> None:
    for block in vit.blocks:  # type: ignore[union-attr]
        assert_uniform(block.attn.qkv.weight, sqrt(6 / (DIM + DIM)))
        assert_uniform(block.attn.proj.weight, sqrt(6 / (DIM + DIM)))
        assert_uniform(block.mlp.fc1.weight, sqrt(6 / (DIM + 4 * DIM)))
        assert_uniform(block.mlp.fc2.weight, sqrt(6 / (DIM + 4 * DIM)))
        linears = [block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2]
        assert all(not linear.bias.any() for linear in linears)
        assert bool((block.norm1.weight == 1).all())


def test_the_patch_projection_is_random_without_bias_and_the_class_token_almost_zero(
    vit: nn.Module,
) -> None:
    projection = vit.patch_embed.proj  # type: ignore[union-attr]
    assert_uniform(projection.weight, sqrt(6 / (3 * PATCH**2 + DIM)))
    assert not projection.bias.any()
    assert 1e-7 < float(vit.cls_token.detach().std()) < 2e-6  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("dims", [(400, 400), (100, 400)], ids=["equal widths", "stages"])
def test_heads_start_as_torchs_linear_layers_do(dims: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layers = [part for weight in GroupedLinear(dims, 30).weights for part in weight]
    for weight, dim in zip(layers, dims, strict=True):
        assert weight.shape == (30, dim)
        assert_uniform(weight, 1 / sqrt(dim))
        assert_uniform(nn.Linear(dim, 30).weight, 1 / sqrt(dim))


def test_the_teacher_starts_as_the_student() -> None:
    model = build_model(tiny("sd_mocov3"))
    assert model.teacher is not None
    pairs = zip(model.teacher.parameters(), model.student.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("arch", "last"), [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_residual_branches_of_a_resnet_start_at_zero(arch: str, last: str) -> None:
    model = build_encoder(tiny("mocov3", arch=arch, dim=None, depth=None, heads=None)).model
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:  # type: ignore[union-attr]
            assert not getattr(block, last).weight.any()
            assert bool((block.bn1.weight == 1).all())


@pytest.mark.parametrize("prefix", [0, 1, 5], ids="prefix tokens {}".format)
def test_positions_are_a_fixed_row_of_sines_and_cosines_for_every_patch(prefix: int) -> None:
    """[1, prefix + patches, D]: nothing at [CLS] and registers, then sin r, cos r, sin c, cos c."""
    config = ViTConfig(
        dim=12, depth=1, heads=1, patch_size=4, img_size=12, pos="sincos-row",
        class_token=prefix > 0, reg_tokens=max(prefix - 1, 0),
    )  # fmt: skip
    table = build_vit(config).model.pos_embed
    assert table.shape == (1, prefix + 9, 12)
    assert not table.requires_grad
    assert not table[0, :prefix].any()
    waves = [10000 ** (-k / 3) for k in range(3)]
    for row, column in itertools.product(range(3), range(3)):
        expected = [f(x * w) for x in (row, column) for f in (math.sin, math.cos) for w in waves]
        assert table[0, prefix + 3 * row + column].tolist() == pytest.approx(expected, abs=1e-6)
