"""Options override what cannot be inferred; one that contradicts or does nothing is an error."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.checkpoints.heads import resolve_heads
from sdssl_bench.encoders.encoder import cls
from sdssl_bench.errors import DataError, UsageError


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return fake.plain(tmp_path / "plain.pth", fake.vit())


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnet") / "resnet.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("form", "dim", "heads"),
    [
        *((form, dim, dim // 64) for form in ("timm", "dino", "ibot") for dim in (192, 384, 768)),
        ("dinov2", 1024, 16),
        ("dinov2", 1536, 24),
        ("mae", 768, 12),
        ("mae", 1024, 16),
        ("mae", 1280, 16),
        ("mocov3", 384, 12),
        ("mocov3", 768, 12),
        ("sdssl", 768, 12),
    ],
)
def test_heads_of_every_release(form: str, dim: int, heads: int) -> None:
    pos = "sincos-row" if form in ("mocov3", "sdssl") else "learned"
    assert resolve_heads(form, dim, pos=pos)[0] == heads


@pytest.mark.parametrize(
    ("form", "dim", "pos"),
    [
        ("timm", 48, "learned"),
        ("timm", 100, "learned"),
        ("dino", 1152, "learned"),
        ("timm", 384, "sincos-row"),
        ("mocov3", 192, "sincos-row"),
        ("sdssl", 384, "sincos-row"),
        ("sdssl", 192, "sincos-row"),
    ],
)
def test_heads_that_nothing_tells_are_asked_for(form: str, dim: int, pos: str) -> None:
    with pytest.raises(DataError, match=r"number of heads is not stored(.|\n)*--heads"):
        resolve_heads(form, dim, pos=pos)
    assert resolve_heads(form, dim, pos=pos, given=4) == (4, "--heads")


def test_heads_given_must_divide_and_must_not_contradict_the_file() -> None:
    with pytest.raises(UsageError, match="does not divide the width 384"):
        resolve_heads("timm", 384, pos="learned", given=7)
    with pytest.raises(UsageError, match="states 6 heads"):
        resolve_heads("sdssl", 384, pos="sincos-row", given=12, hints={"heads": 6})
    with pytest.raises(DataError, match="do not divide"):
        resolve_heads("sdssl", 384, pos="sincos-row", hints={"heads": 7})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "teacher"}, r"--network teacher: plain\.pth has model"),
        ({"patch_size": 16}, r"--patch-size 16 contradicts plain\.pth, which has 8"),
        ({"img_size": 33}, r"--img-size 33 is no multiple of the patch size 8"),
        ({"heads": 0}, "--heads takes a positive number"),
        ({"heads": 5}, "does not divide the width 64"),
        ({"norm": "layer"}, "Unknown norm 'layer'"),
        ({"norm": "per-layer"}, "one final norm, not one per layer"),
        ({"arch": "vit_small_p16"}, r"--arch vit_small_p16 contradicts plain\.pth: width 384"),
        ({"arch": "resnet18"}, "is a ResNet"),
        ({"arch": "vit_smal_patch16_224"}, "Unknown architecture.*Did you mean"),
    ],
)
def test_wrong_options_are_usage_errors(plain: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        checkpoints.load(str(plain), **options)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "options", [{"network": "model"}, {"patch_size": 8}, {"heads": 1}, {"norm": "shared"}]
)
def test_an_option_that_confirms_a_fact_changes_nothing(
    plain: Path, options: dict[str, Any]
) -> None:
    images = torch.randn(2, 3, 32, 32)
    expected = checkpoints.load(str(plain)).forward_layers(images, [1, 2], cls)
    got = checkpoints.load(str(plain), **options).forward_layers(images, [1, 2], cls)
    assert all(torch.equal(expected[layer], got[layer]) for layer in (1, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 6}, "--heads would have no effect: this checkpoint is a ResNet"),
        ({"patch_size": 16}, "--patch-size would have no effect"),
        ({"norm": "shared"}, "--norm would have no effect"),
        ({"norm": "identity"}, "--norm would have no effect"),
        ({"arch": "resnet50"}, "--arch resnet50 contradicts resnet.pth, which has resnet18"),
    ],
)
def test_options_of_a_vit_are_refused_for_a_resnet(
    resnet: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        checkpoints.load(str(resnet), **options)


def test_img_size_sets_the_evaluated_size_and_not_the_table(plain: Path, resnet: Path) -> None:
    encoder = checkpoints.load(str(plain), img_size=64)
    assert encoder.info is not None
    assert encoder.input_size == encoder.info.details["input_size"] == 64
    assert encoder.info.details["img_size"] == 32
    assert checkpoints.load(str(plain)).input_size == 32
    assert checkpoints.load(str(resnet), img_size=96).input_size == 96
    assert checkpoints.load(str(resnet)).input_size == 224


def test_the_digest_does_not_depend_on_options_that_leave_the_weights_alone(plain: Path) -> None:
    digests = {
        checkpoints.digest_of_module(checkpoints.load(str(plain), **options))
        for options in ({}, {"img_size": 64}, {"norm": "none"}, {"norm": "identity"})
    }
    assert len(digests) == 1


@pytest.mark.parametrize("norm", ["shared", "none", "identity"])
def test_norm_is_recorded_and_reaches_the_encoder(plain: Path, norm: str) -> None:
    encoder = checkpoints.load(str(plain), norm=norm)
    assert encoder.info is not None
    assert encoder.norm == encoder.info.details["norm"] == norm


def test_arch_by_timm_name_must_fit_and_is_recorded(tmp_path: Path) -> None:
    import timm

    name = "vit_tiny_patch16_224"
    model = fake.randomise(timm.create_model(name, pretrained=False, num_classes=0), 3)
    path = fake.plain(tmp_path / "x.pth", model, classifier=True)
    encoder = checkpoints.load(str(path), arch=name)
    assert encoder.info is not None
    assert encoder.info.arch == name
    assert encoder.info.details["heads"] == 3
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="of another shape"):
        checkpoints.load(str(path), arch="vit_small_patch16_224")
    with pytest.raises(UsageError, match=f"--heads 6 contradicts --arch {name}, which has 3"):
        checkpoints.load(str(path), arch=name, heads=6)


def test_arch_with_another_head_count_than_the_release_needs_confirmation(tmp_path: Path) -> None:
    import timm

    name = "vit_small_patch16_224"
    model = timm.create_model(name, pretrained=False, num_classes=0)
    model.pos_embed.data.copy_(fake.sincos(384, 14, "row"))
    path = fake.mocov3(tmp_path / "x.pth", model, model)
    with pytest.raises(UsageError, match=r"has 6 heads, but x\.pth is of a release with 12"):
        checkpoints.load(str(path), arch=name)
    encoder = checkpoints.load(str(path), arch="vit_small_p16")
    assert encoder.info is not None
    assert encoder.info.details["heads"] == 12
    encoder = checkpoints.load(str(path), arch=name, heads=6)
    assert encoder.info is not None
    assert (encoder.info.details["heads"], encoder.info.details["pos"]) == (6, "sincos-row")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("dino_vits16.pth", "dino_vits16"),
        ("vit-s-300ep.pth.tar", "vit-s-300ep"),
        ("byol/checkpoint.pth", "byol/checkpoint"),
        ("epoch=299-step=1.ckpt", "epoch=299-step=1"),
    ],
)
def test_a_checkpoint_is_named_after_its_file(tmp_path: Path, path: str, name: str) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    encoder = checkpoints.load(str(fake.plain(tmp_path / path, fake.vit())))
    assert encoder.info is not None
    assert encoder.info.name == name


def test_details_are_json_and_complete(plain: Path) -> None:
    import json

    encoder = checkpoints.load(str(plain))
    assert encoder.info is not None
    details = encoder.info.details
    assert json.loads(json.dumps(details)) == details
    expected = {"heads", "heads_source", "patch_size", "img_size", "input_size", "norm", "pos"}
    expected |= {"depth", "dims", "epoch", "keys", "networks", "mean", "std", "cls_source"}
    assert expected <= details.keys()
