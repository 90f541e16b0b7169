"""The contract of every backbone family: all layers from one pass, exactly, and nothing else kept."""

import gc
import weakref

import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones import FAMILIES, FIXED, STAGES, TINY, VITS, all_layers, eva, images, make, vit
from sdssl_bench.encoders.building import arch_name, build, build_vit, wrap
from sdssl_bench.encoders.encoder import Encoder, LayerFeatures, cls, gem, mean, parse_layers
from sdssl_bench.encoders.stages import StagesEncoder
from sdssl_bench.encoders.vit import ViTConfig
from sdssl_bench.errors import UsageError


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return make(request.param)


def plain_forward(encoder: Encoder, x: Tensor) -> Tensor:
    """[B, D] of the model's own forward pass, without our code."""
    model = encoder.model
    if isinstance(encoder, StagesEncoder):
        return model(x)
    if isinstance(model, torchvision.models.ResNet):
        stages = [model.conv1, model.bn1, model.relu, model.maxpool]
        out = nn.Sequential(*stages, model.layer1, model.layer2, model.layer3, model.layer4)(x)
        return out.mean((2, 3))
    out = model.forward_features(x)
    if getattr(model, "cls_token", 0) is None:
        return model.forward_head(out, pre_logits=True)
    if out.ndim == 4:
        return out.mean((2, 3))
    if getattr(encoder, "norms", None) is not None:
        out = encoder.norms[-1](out)
    elif not isinstance(getattr(model, "fc_norm", None), nn.Identity | None):
        out = model.fc_norm(out)
    return out[:, 0]


def test_the_last_layer_is_the_plain_forward_pass(encoder: Encoder) -> None:
    with torch.no_grad():
        expected = plain_forward(encoder, images())
        torch.testing.assert_close(encoder(images()), expected)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in FIXED])
def test_shapes_are_as_declared(name: str) -> None:
    encoder = make(name)
    encoder.check_size(64, 32)
    with torch.no_grad():
        features = encoder.forward_layers(images(2, 64, 32), all_layers(encoder))
    assert list(features) == list(all_layers(encoder))
    for layer, found in features.items():
        assert found.cls.shape == (2, encoder.dims[layer - 1])
        batch, rows, columns, dim = found.patches.shape
        assert (batch, dim) == (2, encoder.dims[layer - 1])
        assert rows == 2 * columns


def test_a_subset_is_a_slice_of_all(encoder: Encoder) -> None:
    x = images()
    with torch.no_grad():
        everything = encoder.forward_layers(x, all_layers(encoder))
        for subset in ([1], [1, encoder.depth], [encoder.depth, 2]):
            some = encoder.forward_layers(x, subset)
            assert list(some) == sorted(subset)
            for layer, features in some.items():
                assert torch.equal(features.cls, everything[layer].cls)
                assert torch.equal(features.patches, everything[layer].patches)


def test_a_batch_is_its_images(encoder: Encoder) -> None:
    x = images(3)
    with torch.no_grad():
        together = encoder.forward_layers(x, all_layers(encoder), cls)
        for i in range(3):
            alone = encoder.forward_layers(x[i : i + 1], all_layers(encoder), cls)
            for layer in all_layers(encoder):
                scale = float(together[layer].abs().max())
                torch.testing.assert_close(
                    alone[layer][0], together[layer][i], atol=1e-5 * scale, rtol=1e-4
                )


def test_truncating_gives_that_layer(encoder: Encoder) -> None:
    x = images()
    with torch.no_grad():
        expected = encoder.forward_layers(x, all_layers(encoder), cls)
        for layer in all_layers(encoder):
            short = encoder.truncate(layer)
            torch.testing.assert_close(short(x), expected[layer], atol=1e-5, rtol=1e-5)


def test_a_truncated_encoder_trains_without_touching_the_whole(encoder: Encoder) -> None:
    short = encoder.truncate(1).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    short(images()).square().sum().backward()
    trainable = [p for p in short.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trainable), "an unused parameter would break DDP"
    with torch.no_grad():
        for parameter in trainable:
            parameter.add_(1.0)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_gradients_reach_the_first_block_from_every_layer(encoder: Encoder) -> None:
    x = images().requires_grad_()
    for layer in all_layers(encoder):
        (gradient,) = torch.autograd.grad(
            encoder.forward_layers(x, [layer], cls)[layer].square().sum(), x
        )
        assert gradient.abs().sum() > 0


def test_the_model_is_left_as_it_was(encoder: Encoder) -> None:
    before = encoder.model.__dict__.keys() - {"_forward_hooks"}
    with pytest.raises(RuntimeError, match="stop here"):
        encoder.forward_layers(images(), [1], _refuse)
    assert encoder.model.__dict__.keys() - {"_forward_hooks"} == before
    assert not any(module._forward_hooks for module in encoder.modules())


def _refuse(features: LayerFeatures) -> None:
    raise RuntimeError("stop here")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in STAGES])
def test_a_layer_is_freed_before_the_next_one_is_computed(name: str) -> None:
    encoder = make(name)
    alive: list[weakref.ref[Tensor]] = []
    seen = []

    def reduce(features: LayerFeatures) -> Tensor:
        gc.collect()
        # At most the tokens of the block before, which a residual stream may still refer to.
        seen.append(sum(ref() is not None for ref in alive[:-1]))
        alive.append(weakref.ref(features.raw_patches.untyped_storage()))
        return features.cls

    gc.freeze()  # what was there before is not looked through again for every layer
    try:
        with torch.no_grad():
            out = encoder.forward_layers(images(), all_layers(encoder), reduce)
        gc.collect()
    finally:
        gc.unfreeze()
    assert seen == [0] * encoder.depth
    assert not any(ref() is not None for ref in alive)
    for tensor in out.values():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 4, (
            "keeps its layer's tokens alive"
        )


@pytest.mark.parametrize("name", VITS)
def test_norm_settings_differ_as_defined_and_agree_at_the_last_layer(name: str) -> None:
    encoder = make(name)
    x = images()
    per_norm = {}
    for norm in ("shared", "none", "identity"):
        encoder.norm = norm
        with torch.no_grad():
            per_norm[norm] = encoder.forward_layers(x, all_layers(encoder))
    last = encoder.depth
    final = encoder._final_norm()
    for norm in ("shared", "none", "identity"):
        assert torch.equal(per_norm[norm][last].patches, per_norm["shared"][last].patches)
    raw = per_norm["none"][1].patches
    with torch.no_grad():
        torch.testing.assert_close(per_norm["shared"][1].patches, final(raw))
        plain = nn.functional.layer_norm(raw, raw.shape[-1:], eps=final.eps)
        torch.testing.assert_close(per_norm["identity"][1].patches, plain)
    if encoder.cls_source == "class token":
        raw_cls = per_norm["none"][1].cls
        torch.testing.assert_close(per_norm["shared"][1].cls, final(raw_cls))
    else:
        # The model's own order: an fc_norm is applied to the mean, a norm to the tokens.
        pools_first = final is encoder.model.fc_norm
        expected = final(raw.mean((1, 2))) if pools_first else final(raw).mean((1, 2))
        torch.testing.assert_close(per_norm["shared"][1].cls, expected)


def test_per_layer_norms_are_each_layers_own() -> None:
    encoder = make("per-layer norms")
    assert encoder.norm == "per-layer"
    x = images()
    with torch.no_grad():
        own = encoder.forward_layers(x, [1, 2, 3])
        encoder.norm = "none"
        raw = encoder.forward_layers(x, [1, 2])
        for layer in (1, 2):
            torch.testing.assert_close(own[layer].cls, encoder.norms[layer - 1](raw[layer].cls))
    state = encoder.backbone_state()
    assert {"norms.0.weight", "norms.2.bias"} <= state.keys()
    assert "norm.weight" not in state
    other = build_vit(encoder.config)
    other.load_backbone(state)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), own[3].cls)
    with pytest.raises(RuntimeError, match="Missing"):
        other.load_backbone({k: v for k, v in state.items() if k != "norms.1.bias"})
    with pytest.raises(RuntimeError, match="Unexpected"):
        build_vit(ViTConfig(48, 3, 3, 8, 32)).load_backbone(
            {
                **build_vit(ViTConfig(48, 3, 3, 8, 32)).backbone_state(),
                "norms.0.bias": torch.zeros(48),
            }
        )


@pytest.mark.parametrize("name", VITS)
def test_images_that_do_not_divide_into_patches_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="multiples of"):
        make(name).forward_layers(images(1, 32, 37), [1])


def test_eva_built_for_one_size_sees_others_like_its_dynamic_twin() -> None:
    static = make("static eva")
    dynamic = eva(dynamic_img_size=True, ref_feat_shape=4).eval()
    dynamic.load_backbone(static.model.state_dict())
    for x in (images(2, 48, 32), images(2, 64, 64), images()):
        with torch.no_grad():
            torch.testing.assert_close(static(x), dynamic(x))


@pytest.mark.parametrize("layers", [[], [0], [-1], [4], [1, 99]])
def test_layers_outside_are_refused(layers: list[int]) -> None:
    with pytest.raises(UsageError, match=r"1\.\.3"):
        vit().forward_layers(images(), layers)


def test_parse_layers() -> None:
    assert parse_layers("12,1-3, 2", 12) == [1, 2, 3, 12]
    for text in ("", "0", "13", "a", "-1", "1-", "3-2", "1.5"):
        with pytest.raises(UsageError):
            parse_layers(text, 12)


def test_poolings() -> None:
    tokens = torch.tensor([[[[-1.0, 2.0], [1.0, 2.0]]]])
    features = LayerFeatures(torch.tensor([[5.0, 6.0]]), tokens, lambda x: x)
    assert cls(features).tolist() == [[5.0, 6.0]]
    assert mean(features).tolist() == [[0.0, 2.0]]
    torch.testing.assert_close(gem(features), torch.tensor([[0.5**0.25, 2.0]]))


def test_wrap_follows_timm_on_size_and_colours() -> None:
    model = timm.create_model("vit_small_patch14_dinov2", depth=1, embed_dim=48, num_heads=3)
    encoder = wrap(model)
    assert encoder.input_size == 224, "DINOv2 evaluates its 518-px models at 224"
    assert wrap(model, img_size=518).input_size == 518
    half = timm.create_model("vit_tiny_patch16_224.augreg_in21k", depth=1)
    assert wrap(half).mean == (0.5, 0.5, 0.5)
    assert wrap(encoder) is encoder


def test_wrap_names_what_it_supports() -> None:
    with pytest.raises(UsageError, match=r'layers = \["stage1".*subclass of sdssl_bench\.encoders'):
        wrap(nn.Linear(3, 3))
    with pytest.raises(UsageError, match="does not apply"):
        wrap(torchvision.models.resnet18(weights=None), norm="identity")
    with pytest.raises(UsageError, match="Did you mean 'identity'"):
        wrap(VisionTransformer(**TINY), norm="identiti")
    with pytest.raises(UsageError, match="per-layer needs"):
        wrap(VisionTransformer(**TINY), norm="per-layer")
    with pytest.raises(UsageError, match="vit_small_p16"):
        build("vit_smal_p16")


def test_names() -> None:
    assert arch_name(vit()) == "vit_d48x3_patch8"
    assert arch_name(build("resnet18")) == "resnet_basic_2-2-2-2"
    assert arch_name(build("vit_tiny_p8_32")) == "vit_tiny_patch8"
    assert build("vit_tiny_p4_32").input_size == 32
