"""Position embeddings on and off the grid they were made for."""

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from sdssl_bench.encoders.building import build_vit, wrap
from sdssl_bench.encoders.position_embeddings import (
    classify_pos_embed,
    interpolate_learned,
    sincos_2d,
)
from sdssl_bench.encoders.vit import ViTConfig, ViTEncoder

# Reference values for a 3 x 3 grid and 8 channels: MoCo v3 by its formula, MAE by its public code.
ROW_ZERO_COLUMN_ONE = [0.0, 0.0, 1.0, 1.0, 0.841471, 0.01, 0.540302, 0.99995]
ROW_ONE_COLUMN_ZERO = [0.841471, 0.01, 0.540302, 0.99995, 0.0, 0.0, 1.0, 1.0]


def test_the_fixed_tables_match_the_reference_values() -> None:
    row_first = sincos_2d((3, 3), 8)
    column_first = sincos_2d((3, 3), 8, order="sincos-column")
    for table, at_1, at_3 in (
        (row_first, ROW_ZERO_COLUMN_ONE, ROW_ONE_COLUMN_ZERO),
        (column_first, ROW_ONE_COLUMN_ZERO, ROW_ZERO_COLUMN_ONE),
    ):
        torch.testing.assert_close(table[1], torch.tensor(at_1), atol=1e-5, rtol=0)
        torch.testing.assert_close(table[3], torch.tensor(at_3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", ["sincos-row", "sincos-column"])
def test_a_position_has_the_same_code_on_every_grid(order: str) -> None:
    wide = sincos_2d((3, 7), 16, order=order).reshape(3, 7, 16)
    tall = sincos_2d((5, 4), 16, order=order).reshape(5, 4, 16)
    assert torch.equal(wide[:3, :4], tall[:3, :4])
    assert len({tuple(code.tolist()) for code in wide.reshape(-1, 16)}) == 21


def test_channels_must_divide_by_four() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_2d((2, 2), 6)


@pytest.mark.parametrize(
    "grid", [(14, 14), (20, 20), (30, 52), (52, 30), (7, 28), (1, 1), (13, 15)]
)
def test_learned_tables_follow_dinos_rule(grid: tuple[int, int]) -> None:
    table = torch.randn(14 * 14, 8)
    found = interpolate_learned(table, (14, 14), grid)
    if grid == (14, 14):
        assert found is table
        return
    maps = table.reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    factors = ((grid[0] + 0.1) / 14, (grid[1] + 0.1) / 14)
    expected = F.interpolate(maps, scale_factor=factors, mode="bicubic")
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1).reshape(-1, 8))
    assert len(found) == grid[0] * grid[1]


def test_tables_of_models_with_registers_follow_dinov2s_rule() -> None:
    table = torch.randn(37 * 37, 8)
    found = interpolate_learned(table, (37, 37), (16, 20), antialias=True)
    maps = table.reshape(1, 37, 37, 8).permute(0, 3, 1, 2)
    expected = F.interpolate(maps, size=(16, 20), mode="bicubic", antialias=True)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1).reshape(-1, 8))
    assert wrap(
        VisionTransformer(img_size=32, depth=1, embed_dim=12, num_heads=1, reg_tokens=2)
    ).antialias
    assert not wrap(VisionTransformer(img_size=32, depth=1, embed_dim=12, num_heads=1)).antialias


@pytest.mark.parametrize("order", ["sincos-row", "sincos-column"])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_stored_tables_are_recognised(order: str, prefix: int) -> None:
    table = torch.cat([torch.zeros(prefix, 16), sincos_2d((6, 6), 16, order=order)])
    assert classify_pos_embed(table[None]) == order
    table[prefix + 7, 3] += 0.01
    assert classify_pos_embed(table[None]) == "learned"


def test_a_fixed_table_is_recomputed_off_its_grid_and_a_learned_one_interpolated() -> None:
    torch.manual_seed(0)
    fixed = build_vit(ViTConfig(48, 1, 3, 8, 32, pos="sincos-row")).eval()
    embedded = _embedded(fixed)
    assert torch.equal(embedded[1:], sincos_2d((3, 5), 48))
    assert torch.equal(embedded[0], fixed.model.cls_token[0, 0])
    learned = build_vit(ViTConfig(48, 1, 3, 8, 32)).eval()
    table = learned.model.pos_embed[0]
    expected = interpolate_learned(table[1:], (4, 4), (3, 5))
    embedded = _embedded(learned)
    torch.testing.assert_close(embedded[1:], expected)
    torch.testing.assert_close(embedded[0], learned.model.cls_token[0, 0] + table[0])


def _embedded(encoder: ViTEncoder) -> Tensor:
    """[1 + 15, D] what the first block sees of a 3 x 5 grid when patches project to zero."""
    found = []
    encoder.model.patch_embed.proj.weight.data.zero_()
    encoder.model.patch_embed.proj.bias.data.zero_()
    hook = encoder.model.blocks[0].register_forward_pre_hook(lambda _, x: found.append(x[0]))
    with torch.no_grad():
        encoder.forward_layers(torch.randn(1, 3, 24, 40), [1])
    hook.remove()
    return found[0][0]


def test_a_transposed_image_has_transposed_tokens() -> None:
    # With symmetric patches and a swap of the row and column channels, rows and columns are alike.
    torch.manual_seed(0)
    rows = build_vit(ViTConfig(48, 2, 3, 8, 32, pos="sincos-row")).eval()
    columns = build_vit(ViTConfig(48, 2, 3, 8, 32, pos="sincos-column")).eval()
    with torch.no_grad():
        weight = rows.model.patch_embed.proj.weight
        weight.copy_((weight + weight.transpose(2, 3)) / 2)
        state = rows.backbone_state()
        state["pos_embed"] = columns.model.pos_embed.clone()
        columns.load_backbone(state)
        image = torch.randn(1, 3, 24, 40)
        one = rows.forward_layers(image, [2])[2].patches
        two = columns.forward_layers(image.transpose(2, 3), [2])[2].patches
    torch.testing.assert_close(one, two.transpose(1, 2), atol=1e-5, rtol=1e-4)
