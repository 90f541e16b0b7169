"""Points in a block: the two branches are what the block adds, from the pass that gives the block."""

import gc
import weakref
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from torch import Tensor, nn

from backbones import FAMILIES, VITS, all_layers, images, make, vit
from sdssl_bench.encoders import BLOCK, POINTS
from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, cls, gem, mean
from sdssl_bench.encoders.vit import ViTEncoder
from sdssl_bench.errors import UsageError
from sdssl_bench.features.identity import structure_digest

BRANCHES = POINTS[1:]


def raw(features: LayerFeatures) -> Tensor:
    """[B, N, D] tokens before the norm, [CLS] (or what stands for it) first."""
    patches = features.raw_patches.flatten(1, 2)
    return torch.cat([features.raw_cls[:, None], patches], 1).clone()


@pytest.mark.parametrize("name", VITS)
def test_the_stream_and_two_branches_add_up_to_the_next_stream(name: str) -> None:
    encoder = make(name)
    with torch.no_grad():
        # Of models that pool without a class token [CLS] is normed already, so patches are compared.
        found = encoder.forward_points(
            images(), all_layers(encoder), POINTS, lambda one: one.raw_patches.clone()
        )
    assert set(found) == {(layer, point) for layer in all_layers(encoder) for point in POINTS}
    for layer in range(2, encoder.depth + 1):
        before, after = found[layer - 1, BLOCK], found[layer, BLOCK]
        branches = [found[layer, point] for point in BRANCHES]
        assert min(float(one.abs().max()) for one in branches) > 0
        torch.testing.assert_close(before + sum(branches), after, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_twin_by_hand_gives_the_same(scale: float | None) -> None:
    encoder = vit(init_values=scale, reg_tokens=2).eval()
    assert isinstance(encoder, ViTEncoder)
    model, x = encoder.model, images()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        found = encoder.forward_points(x, all_layers(encoder), POINTS, raw)
        stream = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
        for layer, block in enumerate(model.blocks, 1):
            inner = block.norm1(stream)
            heads, (batch, count, dim) = block.attn.num_heads, inner.shape
            q, k, v = block.attn.qkv(inner).view(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-2, -1) / (dim // heads) ** 0.5).softmax(-1)
            attention = block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
            attention = attention * (1 if scale is None else block.ls1.gamma)
            middle = stream + attention
            hidden = nn.functional.gelu(block.mlp.fc1(block.norm2(middle)))
            mlp = block.mlp.fc2(hidden) * (1 if scale is None else block.ls2.gamma)
            stream = middle + mlp
            for point, expected in zip(POINTS, (stream, attention, mlp), strict=True):
                kept = torch.cat([expected[:, :1], expected[:, 3:]], 1)  # without registers
                torch.testing.assert_close(found[layer, point], kept, atol=1e-5, rtol=1e-5)


def test_a_norm_behind_a_branch_belongs_to_it() -> None:
    encoder = vit(block_fn=ResPostBlock, init_values=0.2)
    model = encoder.eval().model
    encoder.check_points()
    with torch.no_grad():
        found = encoder.forward_points(images(), [1], POINTS, raw)
        stream = model.norm_pre(model._pos_embed(model.patch_embed(images())))
        attention = model.blocks[0].norm1(model.blocks[0].attn(stream))
    torch.testing.assert_close(found[1, "attention"], attention, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", VITS)
def test_a_view_gives_its_point_and_shares_everything_else(name: str) -> None:
    encoder, x = make(name), images()
    views = encoder.at_points(POINTS)
    assert [one.point for one in views] == list(POINTS)
    assert {one.points for one in views} == {POINTS}
    assert {structure_digest(one) for one in views} == {structure_digest(encoder)}
    with torch.no_grad():
        found = encoder.forward_points(x, all_layers(encoder), POINTS, cls)
        plain = encoder.forward_layers(x, all_layers(encoder), cls)
        for view in views:
            assert all(a is b for a, b in zip(view.parameters(), encoder.parameters(), strict=True))
            alone = view.forward_layers(x, all_layers(view), cls)
            assert list(alone) == list(all_layers(encoder))
            for layer, values in alone.items():
                assert torch.equal(values, found[layer, view.point])
    assert all(torch.equal(values, found[layer, BLOCK]) for layer, values in plain.items())
    assert encoder.point == BLOCK
    assert not any(module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize("norm", ["shared", "none", "identity"])
def test_branches_are_normed_as_their_layer_is(norm: str) -> None:
    encoder = make("dinov2")
    encoder.norm = norm
    with torch.no_grad():
        found = encoder.forward_points(images(), all_layers(encoder), POINTS)
    final = encoder.model.norm
    for (layer, _), features in found.items():
        expected = features.raw_cls
        if norm == "shared" or layer == encoder.depth:
            expected = final(expected)
        elif norm == "identity":
            expected = nn.functional.layer_norm(expected, expected.shape[-1:], eps=final.eps)
        torch.testing.assert_close(features.cls, expected)


def test_all_points_come_from_one_pass() -> None:
    encoder = make("classic")
    seen: list[nn.Module] = []
    for block in encoder.model.blocks:
        block.register_forward_hook(lambda module, *_: seen.append(module))
    with torch.no_grad():
        encoder.forward_points(images(), [1, 2], POINTS, cls)
    assert seen == list(encoder.model.blocks[:2])


@pytest.mark.parametrize(
    "pool", [cls, *(pytest.param(p, marks=pytest.mark.slow) for p in (mean, gem))]
)
def test_nothing_but_the_reduction_is_kept(pool: object) -> None:
    encoder, alive, counts = make("dinov2"), [], []

    def reduce(features: LayerFeatures) -> Tensor:
        gc.collect()
        counts.append(sum(ref() is not None for ref in alive))
        alive.append(weakref.ref(features.raw_patches.untyped_storage()))
        return pool(features)  # type: ignore[operator]

    gc.freeze()  # what was there before is not looked through again for every layer
    try:
        with torch.no_grad():
            encoder.forward_points(images(), all_layers(encoder), POINTS, reduce)
        gc.collect()
    finally:
        gc.unfreeze()
    # The stream, and the two branches that are being added to it, at whatever depth.
    assert max(counts) <= 3
    assert not any(ref() is not None for ref in alive)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in VITS])
def test_other_families_are_refused_by_name(name: str) -> None:
    encoder = make(name)
    with pytest.raises(UsageError, match=rf"{type(encoder.model).__name__} are no such blocks"):
        encoder.at_points(["attention"])
    (same,) = encoder.at_points([BLOCK])
    with torch.no_grad():
        assert torch.equal(same(images()), encoder(images()))


class Damped(ResPostBlock):
    """Adds more than its two branches."""

    def forward(self, x: Tensor, **_: object) -> Tensor:
        return 0.9 * super().forward(x)


@pytest.mark.parametrize(
    "block", [ParallelScalingBlock, partial(ParallelThingsBlock, num_parallel=2), Damped]
)
def test_blocks_whose_branches_are_not_apart_are_refused(block: object) -> None:
    encoder = vit(block_fn=block)
    name = getattr(block, "func", block).__name__
    with pytest.raises(UsageError, match=f"block 1 of this encoder, a {name}, does not"):
        encoder.at_points(["mlp"])
    assert not any(module._forward_hooks for module in encoder.modules())


def test_the_proof_leaves_the_mode_as_it_was() -> None:
    encoder = vit(drop_path_rate=0.5).train()
    encoder.model.blocks[1].eval()
    before = {module: module.training for module in encoder.modules()}
    encoder.at_points(POINTS)
    assert {module: module.training for module in encoder.modules()} == before


def test_wrong_points_and_cuts_are_refused() -> None:
    encoder: Encoder = vit()
    with pytest.raises(UsageError, match=r"atention.*attention"):
        encoder.at_points(["atention"])
    with pytest.raises(UsageError, match="block, attention, mlp"):
        encoder.at_points([])
    (view,) = encoder.at_points(["attention"])
    with pytest.raises(UsageError, match="cut after a block"):
        view.truncate(1)
