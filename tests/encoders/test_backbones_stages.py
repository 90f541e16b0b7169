"""Stages of any timm family are what timm's own `forward_intermediates` gives, at any grid they take."""

import numpy as np
import pytest
import timm
import torch

from backbones import FIXED, STAGES, all_layers, images, make
from sdssl_bench.encoders.building import build, wrap
from sdssl_bench.encoders.encoder import cls
from sdssl_bench.encoders.images import normalised
from sdssl_bench.encoders.taking_part import levels_of
from sdssl_bench.errors import UsageError


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_timms_own_intermediate(name: str) -> None:
    encoder, x = make(name), images()
    shared = encoder.norm == "shared"
    with torch.no_grad():
        found = encoder.forward_layers(x, all_layers(encoder))
        expected = encoder.model.forward_intermediates(
            x, norm=shared, intermediates_only=True, output_fmt="NCHW"
        )
    assert len(expected) in (encoder.depth, encoder.depth - 1)
    for layer, theirs in enumerate(expected, start=1):
        if layer == encoder.depth:
            continue  # the model's own feature, see below
        ours = found[layer]
        torch.testing.assert_close(ours.patches.permute(0, 3, 1, 2), theirs, atol=1e-6, rtol=0)
        if encoder.cls_source != "class token":
            torch.testing.assert_close(ours.cls, theirs.mean((2, 3)), atol=1e-6, rtol=1e-5)
    for layer, one in found.items():
        assert 32 / one.patches.shape[1] == encoder.strides[layer - 1]


@pytest.mark.parametrize("name", ["convnext", "swin", "regnet", "efficientnet", "mambaout"])
def test_stages_leave_the_modules_they_are_named_after(name: str) -> None:
    """An independent way: what the named modules give in the model's own forward pass."""
    encoder, x = make(name), images()
    model = encoder.model
    seen: dict[int, torch.Tensor] = {}
    handles = [
        model.get_submodule(stage).register_forward_hook(
            lambda _, __, out, layer=layer: seen.__setitem__(layer, out)
        )
        for layer, stage in enumerate(encoder.stages, start=1)
        if stage != "head"
    ]
    with torch.no_grad():
        found = encoder.forward_layers(x, all_layers(encoder))
        seen.clear()
        model(x)
    for handle in handles:
        handle.remove()
    assert len(seen) >= 3
    for layer, theirs in seen.items():
        if layer < encoder.depth:
            ours = found[layer].patches
            channels_last = name in ("swin", "mambaout")
            same = theirs if channels_last else theirs.permute(0, 2, 3, 1)
            torch.testing.assert_close(ours, same, atol=1e-6, rtol=0)


def test_the_last_map_is_finished_token_by_token() -> None:
    """ConvNeXt's head norms the pooled map; MobileNetV3's convolves it; either applies to a token."""
    for name in ("convnext", "mobilenetv3"):
        encoder = make(name)
        with torch.no_grad():
            last = encoder.forward_layers(images(1), [encoder.depth])[encoder.depth]
        # At 32 px the last map is one token, so its feature is the image's.
        assert last.patches.shape[1:3] == (1, 1)
        torch.testing.assert_close(last.patches[:, 0, 0], last.cls)


@pytest.mark.parametrize("name", ["swin", "swinv2"])
def test_windowed_attention_sees_other_sizes_as_a_model_made_for_any(name: str) -> None:
    encoder = make(name)
    free = STAGES[name]().model
    free = type(free)(
        img_size=32, patch_size=2, window_size=4, embed_dim=12, depths=(1, 2, 1), num_heads=(1, 2, 3),
        num_classes=0, strict_img_size=False,
    ).eval()  # fmt: skip
    free.load_state_dict(encoder.model.state_dict())
    x = images(2, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), free(x))
    assert encoder.model.patch_embed.strict_img_size, "lent, not given"


@pytest.mark.parametrize("name", FIXED)
def test_a_size_that_cannot_be_is_refused_before_anything_runs(name: str) -> None:
    encoder = make(name)
    with pytest.raises(UsageError, match=r"48 x 64 pixels \(its own size is 32 x 32\)"):
        encoder.check_size(48, 64)
    encoder.check_size(32, 32)


def test_a_check_of_size_computes_and_changes_nothing() -> None:
    encoder = make("regnet").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.check_size(640, 480)
    assert encoder.model.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_norms_of_stages() -> None:
    with pytest.raises(UsageError, match="--norm shared does not apply: ConvNeXt takes none"):
        wrap(timm.create_model("test_convnext"), norm="shared")
    xcit = make("xcit")
    assert xcit.norm == "shared"
    with torch.no_grad():
        shared = xcit.forward_layers(images(), [1])[1].patches
        xcit.norm = "none"
        raw = xcit.forward_layers(images(), [1, 2])
        torch.testing.assert_close(shared, xcit.model.norm(raw[1].patches))


def test_a_model_with_classifier_has_the_same_features() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_convnext", num_classes=7).eval()
    encoder = wrap(model, img_size=32)
    with torch.no_grad():
        feature = encoder(images())
        torch.testing.assert_close(model.head.fc(feature), model(images()))
    short = encoder.truncate(encoder.depth)
    frozen = [name for name, p in short.named_parameters() if not p.requires_grad]
    assert frozen == ["model.head.fc.weight", "model.head.fc.bias"]


def test_levels_follow_the_network() -> None:
    levels = levels_of(make("convnext"))
    assert levels["model.stem.0.weight"] == levels["model.stages.0.blocks.0.conv_dw.weight"] == 1
    assert {levels[n] for n in levels if n.startswith("model.stages.2.")} == {3}
    assert levels["model.head.norm.weight"] == 4


def test_channels_and_colours_follow_the_model() -> None:
    assert build("timm:regnetx_002").mean == (0.485, 0.456, 0.406)
    assert build("timm:test_convnext").mean == (0.5, 0.5, 0.5), "as timm's own configuration says"
    model = timm.create_model("test_convnext", in_chans=1, num_classes=0)
    one = wrap(model, img_size=32).eval()
    assert (one.mean, one.std) == ((0.5,), (0.5,))
    assert cls(one.forward_layers(torch.zeros(1, 1, 32, 32), [1])[1]).shape == (1, one.dims[0])
    with pytest.raises(UsageError, match="images of 4 channels"):
        wrap(timm.create_model("test_convnext", in_chans=4))


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_grey_is_pillows_to_the_digit(value: int) -> None:
    from PIL import Image

    torch.manual_seed(value)
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    pixels[..., 0, :] = value
    image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).convert("L")
    ours = normalised(pixels, (0.0,), (1.0,))[0, 0] * 255
    assert ours.round().int().tolist() == np.asarray(image).tolist()
    assert set(ours[0].round().tolist()) == {value}, "a grey image keeps its values"
