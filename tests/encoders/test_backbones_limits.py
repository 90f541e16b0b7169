"""What backbones do at the edge of what they support: exact, or refused."""

from functools import partial

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sdssl_bench.encoders.building import build, build_vit, wrap
from sdssl_bench.encoders.encoder import Encoder, cls, parse_layers
from sdssl_bench.encoders.position_embeddings import interpolate_learned, sincos_2d
from sdssl_bench.encoders.vit import ViTConfig, ViTEncoder
from sdssl_bench.errors import UsageError

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}


def vit(*, norm: str | None = None, **changes: object) -> ViTEncoder:
    torch.manual_seed(0)
    model = VisionTransformer(**{**TINY, "num_classes": 0, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    encoder = wrap(model, norm=norm).eval()
    assert isinstance(encoder, ViTEncoder)
    return encoder


def images(height: int = 32, width: int = 32) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, height, width)


@pytest.mark.parametrize("make", [vit, lambda: build("resnet18").eval()])
def test_a_frozen_encoder_has_trainable_truncations(make: type[Encoder]) -> None:
    encoder = make().requires_grad_(False)
    short = encoder.truncate(2)
    assert all(p.requires_grad for p in short.parameters())
    assert not any(p.requires_grad for p in encoder.parameters())


def test_a_fixed_position_table_stays_fixed_when_truncated() -> None:
    encoder = build_vit(ViTConfig(48, 3, 3, 8, 32, pos="sincos-row"))
    fixed = [n for n, p in encoder.truncate(2).named_parameters() if not p.requires_grad]
    assert fixed == ["model.pos_embed"]


def test_a_truncation_has_no_parameter_without_gradient() -> None:
    short = vit(global_pool="map", num_classes=10).truncate(2)
    short(images()).square().sum().backward()
    assert [n for n, p in short.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("norm", ["shared", "none", "identity"])
def test_a_truncation_norms_with_the_models_own_epsilon(norm: str) -> None:
    encoder = vit(norm=norm, norm_layer=partial(nn.LayerNorm, eps=1e-2))
    with torch.no_grad():
        for layer, found in encoder.forward_layers(images(), [1, 2, 3], cls).items():
            torch.testing.assert_close(encoder.truncate(layer)(images()), found)


def test_activation_checkpointing_changes_neither_features_nor_gradients() -> None:
    encoder = vit().train()
    results = []
    for checkpointing in (False, True):
        encoder.model.set_grad_checkpointing(checkpointing)
        encoder.zero_grad()
        found = encoder.forward_layers(images(), [1, 3], cls)
        sum(f.square().sum() for f in found.values()).backward()
        results.append((found[1].detach(), encoder.model.blocks[0].attn.qkv.weight.grad.clone()))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_a_convolutional_stem_counts_towards_the_stride() -> None:
    model = timm.create_model("vit_tiny_r_s16_p8_224", num_classes=0, depth=1, img_size=64).eval()
    encoder = wrap(model).eval()
    x = images(64, 64)
    with torch.no_grad():
        assert encoder.stride == 32
        torch.testing.assert_close(encoder(x), model.forward_features(x)[:, 0])


def test_a_table_loaded_after_wrapping_is_recognised() -> None:
    encoder, fixed = vit(), build_vit(ViTConfig(48, 3, 3, 8, 32, pos="sincos-column")).eval()
    assert encoder.pos == "learned"
    encoder.load_backbone(fixed.model.state_dict())
    assert encoder.pos == "sincos-column"
    with torch.no_grad():
        assert torch.equal(encoder(images(48, 32)), fixed(images(48, 32)))


def test_a_table_changed_in_place_is_used_at_once() -> None:
    encoder, x = vit(), images(48, 32)
    with torch.no_grad():
        before = encoder(x)
        encoder.model.pos_embed.data.mul_(3)  # as an EMA update does, unseen by version counters
        after = encoder(x)
    assert not torch.allclose(before, after)


def test_a_failed_pass_off_the_grid_leaves_the_model_whole() -> None:
    encoder = vit()
    table, embed = encoder.model.pos_embed, encoder.model.patch_embed
    with pytest.raises(ZeroDivisionError):
        encoder.forward_layers(images(48, 32), [1], lambda _: 1 / 0)
    assert encoder.model.pos_embed is table
    assert (embed.grid_size, embed.img_size) == ((4, 4), (32, 32))


def test_shapes_without_a_meaning_are_refused() -> None:
    with pytest.raises(UsageError, match="square patches"):
        vit(patch_size=(8, 4))
    with pytest.raises(UsageError, match="give img_size"):
        vit(img_size=(64, 32))
    with pytest.raises(UsageError, match="contradicts"):
        wrap(vit(), img_size=64)


def test_only_dinov2s_own_size_is_replaced_by_its_protocols() -> None:
    settings = {"depth": 1, "embed_dim": 48, "num_heads": 3}
    assert wrap(timm.create_model("vit_small_patch14_dinov2", **settings)).input_size == 224
    small = timm.create_model("vit_small_patch14_dinov2", img_size=98, **settings)
    assert wrap(small).input_size == 98


def test_the_stride_of_a_resnet_is_that_of_its_last_stage() -> None:
    dilated = wrap(timm.create_model("resnet26", num_classes=0, output_stride=8))
    assert (dilated.stride, dilated.truncate(1).stride) == (8, 4)
    assert (build("resnet18").stride, build("resnet18").truncate(2).stride) == (32, 8)


@pytest.mark.parametrize("rows", [3048, 5632, 8192])
def test_mlp_rows_survive_the_ratio(rows: int) -> None:
    encoder = build_vit(ViTConfig(1408, 1, 16, 8, 16, mlp_ratio=rows / 1408))
    assert len(encoder.model.blocks[0].mlp.fc1.weight) == rows


@pytest.mark.parametrize("grid", [(4, 4), (4, 8), (6, 10)])
def test_positions_learned_on_a_grid_that_is_no_square_serve_any_other(
    grid: tuple[int, int],
) -> None:
    model = VisionTransformer(**{**TINY, "img_size": (32, 64)}, num_classes=0).eval()
    with torch.no_grad():
        model.pos_embed.normal_(generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="4 x 8 patches"):
        wrap(model)
    encoder = wrap(model, img_size=32)
    x = torch.randn(2, 3, 8 * grid[0], 8 * grid[1])
    # A model made for that grid, with the table brought to it by DINO's rule.
    other = VisionTransformer(
        **{**TINY, "img_size": (8 * grid[0], 8 * grid[1])}, num_classes=0
    ).eval()
    state = dict(model.state_dict())
    patches = interpolate_learned(state["pos_embed"][0, 1:], (4, 8), grid)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], patches[None]], dim=1)
    other.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), other(x))


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (96, 32)])
def test_dinov3_of_one_size_sees_any_grid_like_its_dynamic_twin(size: tuple[int, int]) -> None:
    tiny = {"depth": 3, "embed_dim": 96, "num_heads": 3, "num_classes": 0}
    torch.manual_seed(0)
    dynamic = timm.create_model("vit_small_patch16_dinov3", dynamic_img_size=True, **tiny).eval()
    static = timm.create_model(
        "vit_small_patch16_dinov3", dynamic_img_size=False, img_size=64, **tiny
    ).eval()
    static.load_state_dict(dynamic.state_dict())
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = dynamic.forward_intermediates(x, norm=True, intermediates_only=True)
        found = wrap(static, img_size=32).forward_layers(x, [1, 2, 3])
        for layer, theirs in enumerate(expected, start=1):
            ours = found[layer].patches.permute(0, 3, 1, 2)
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[3].cls, dynamic.forward_features(x)[:, 0])


@pytest.mark.parametrize("grid", [(2, 5), (5, 2), (3, 3), None])
def test_fixed_positions_are_those_of_the_grid(grid: tuple[int, int] | None) -> None:
    config = ViTConfig(16, 1, 2, 8, 32, pos="sincos-row", grid=grid)
    table = build_vit(config, input_size=32).model.pos_embed[0]
    rows, columns = grid or (4, 4)
    assert table.shape == (1 + rows * columns, 16)
    assert not table[0].any()
    torch.testing.assert_close(table[1:], sincos_2d((rows, columns), 16), rtol=0, atol=0)


def test_layers_run_from_the_first_to_the_last_and_no_further() -> None:
    assert parse_layers("1,12", 12) == [1, 12]
    assert parse_layers("11-12", 12) == [11, 12]
    for text in ("0", "13", "0-3", "11-13", "1000000000-1000000001"):
        with pytest.raises(UsageError, match=r"numbered 1\.\.12"):
            parse_layers(text, 12)
