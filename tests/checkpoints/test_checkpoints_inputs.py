"""What an encoder sees images with, what stands for [CLS], and files of backbones by stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.checkpoints import render
from sdssl_bench.checkpoints.colours import read_colours
from sdssl_bench.checkpoints.doctor import diagnose
from sdssl_bench.encoders.encoder import cls, mean, move
from sdssl_bench.encoders.images import COLOURS, normalised
from sdssl_bench.errors import DataError, UsageError
from sdssl_bench.features.identity import structure_digest
from sdssl_bench.records.identity import BESIDE


@pytest.fixture
def plain(tmp_path: Path) -> str:
    return str(fake.plain(tmp_path / "plain.pth", fake.vit()))


def source(encoder: Any) -> str:
    return str(encoder.info.details["colours_source"])


@pytest.mark.parametrize("name", COLOURS)
def test_a_name_says_both(plain: str, name: str) -> None:
    for options in ({"mean": name}, {"std": name}, {"mean": name, "std": name}):
        encoder = checkpoints.load(plain, **options)
        assert (encoder.mean, encoder.std) == COLOURS[name]
        assert encoder.info is not None
        assert encoder.info.details["mean"] == list(COLOURS[name].mean)
        assert source(encoder) == "given"


def test_numbers_names_and_models_mix(plain: str) -> None:
    encoder = checkpoints.load(plain, mean="0.1,0.2,0.3", std="half")
    assert (encoder.mean, encoder.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    of_model = checkpoints.load(plain, mean="timm:vit_base_patch16_clip_224.openai")
    assert (of_model.mean, of_model.std) == COLOURS["clip"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": "0.5,0.5,0.5"}, "--std is missing"),
        ({"std": "0.5,0.5,0.5"}, "--mean is missing"),
        ({"mean": "0.5", "std": "0.5"}, "--mean takes 3 numbers"),
        ({"mean": "half", "std": "1,0,1"}, "--std takes positive numbers"),
        ({"mean": "imagnet"}, "Did you mean 'imagenet'"),
        ({"mean": "nan,1,1", "std": "half"}, "nan,1,1"),
        ({"mean": "timm:no_such_model"}, "timm has no model"),
        ({"cls": "tokn"}, "Did you mean 'token'"),
    ],
)
def test_what_cannot_be_meant_is_refused(plain: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        checkpoints.load(plain, **options)


def test_an_assumption_is_called_one_and_a_release_is_known(plain: str, tmp_path: Path) -> None:
    assert source(checkpoints.load(plain)) == "assumed: ImageNet's"
    timms = checkpoints.load("timm:test_convnext?pretrained=false")
    assert (source(timms), timms.mean) == ("read from timm's configuration", (0.5, 0.5, 0.5))
    assert "colours_source" in BESIDE, "how a number is known changes no record's key"


def test_a_file_that_states_its_colours_is_believed(tmp_path: Path) -> None:
    state = fake.vit().state_dict()
    config = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 32, 32]}
    torch.save({"state_dict": state, "pretrained_cfg": config}, tmp_path / "a.pth")
    save_file(
        {k: v.contiguous() for k, v in state.items()}, tmp_path / "b.safetensors",
        metadata={"pretrained_cfg": json.dumps(config)},
    )  # fmt: skip
    for path in (tmp_path / "a.pth", tmp_path / "b.safetensors"):
        encoder = checkpoints.load(str(path))
        assert (encoder.mean, encoder.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert source(encoder) == "read from pretrained_cfg"
        assert checkpoints.load(str(path), mean="half").mean == (0.5, 0.5, 0.5), "given wins"


@pytest.mark.parametrize(
    ("facts", "mean_", "std"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 0.5, 0.25),
        (
            {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5},
            0.25,
            0.25,
        ),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": False}, 0.0, 1.0),
        ({"image_mean": [127.5] * 3, "image_std": [51.0] * 3, "do_rescale": False}, 0.5, 0.2),
    ],
)
def test_processors_mean_what_they_compute(facts: dict[str, Any], mean_: float, std: float) -> None:
    found = read_colours({"config.json": "{}", "preprocessor_config.json": json.dumps(facts)})
    assert found is not None
    assert found[1] == "preprocessor_config.json"
    assert found[0] == (pytest.approx((mean_,) * 3), pytest.approx((std,) * 3))
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    x = pixels.double()  # as a processor computes
    if facts.get("do_rescale", True):
        x = x * facts.get("rescale_factor", 1 / 255)
    if facts.get("do_normalize", True):
        x = (x - facts["image_mean"][0]) / facts["image_std"][0]
    torch.testing.assert_close(normalised(pixels, *found[0]), x.float())


@pytest.mark.parametrize("broken", [[0.5, 0.5], ["a", 0, 0], [1.0, 0.0, 1.0], None])
def test_colours_that_cannot_be_are_an_error(broken: Any) -> None:
    with pytest.raises(DataError, match="--mean and --std"):
        read_colours({"x": {"mean": [0.5, 0.5, 0.5], "std": broken}})


def test_what_stands_for_cls_is_a_choice_and_is_recorded(plain: str) -> None:
    token, patches = checkpoints.load(plain), checkpoints.load(plain, cls="mean")
    assert token.info is not None
    assert patches.info is not None
    assert token.info.details["cls_source"] == "class token"
    assert patches.info.details["cls_source"] == "mean of patch tokens"
    x = torch.randn(2, 3, token.input_size, token.input_size)
    with torch.no_grad():
        for layer in range(1, token.depth + 1):
            expected = token.forward_layers(x, [layer], mean)[layer]
            found = patches.forward_layers(x, [layer], cls)[layer]
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(patches.truncate(layer)(x), expected)
    assert structure_digest(token) != structure_digest(patches), "features must not be mixed up"
    with pytest.raises(UsageError, match="--cls has no effect"):
        checkpoints.load("timm:test_convnext?pretrained=false", cls="token")


def test_a_class_token_that_was_never_trained_is_not_scored(tmp_path: Path) -> None:
    path = str(fake.mae(tmp_path / "mae.pth", fake.vit(pos="sincos-column")))
    encoder = checkpoints.load(path)
    assert encoder.info is not None
    assert encoder.info.format == "mae"
    assert encoder.info.details["cls_source"] == "mean of patch tokens"
    assert "MAE" in encoder.info.details["cls_why"]
    asked = checkpoints.load(path, cls="token")
    assert asked.cls_source == "class token"
    timms = checkpoints.load("timm:vit_base_patch16_224.mae?pretrained=false")
    assert timms.cls_source == "mean of patch tokens"


def test_doctor_says_given_read_or_assumed(plain: str) -> None:
    console = Console(width=200)
    for options, words in (({}, "assumed: ImageNet's"), ({"mean": "clip"}, "given")):
        with console.capture() as captured:
            console.print(render(diagnose(plain, **options)))
        assert f"({words})" in " ".join(captured.get().split())


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "regnetx_002", "pvt_v2_b0"])
def test_files_of_any_timm_family_load_strictly(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    for state, form in (
        (model.state_dict(), "bare"),
        ({"model": {f"backbone.{k}": v for k, v in model.state_dict().items()}}, "deep"),
    ):
        path = tmp_path / f"{form}.pth"
        torch.save(state, path)
        encoder = checkpoints.load(str(path), arch=f"timm:{name}", img_size=64)
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            expected = model.forward_head(model.forward_features(x), pre_logits=True)
            torch.testing.assert_close(encoder(x), expected)
        assert encoder.info is not None
        assert sum(encoder.info.details["keys"]["dropped"].values()) == 2
    head = model.pretrained_cfg["classifier"]
    key = next(k for k in reversed(model.state_dict()) if not k.startswith(head))
    broken = {k: v for k, v in model.state_dict().items() if k != key}
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(DataError, match=rf"(?s)(does not fit|holds no whole).*1 missing: {key}"):
        checkpoints.load(str(tmp_path / "broken.pth"), arch=f"timm:{name}")
    torch.save({**model.state_dict(), "stranger.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(DataError, match=r"unexpected: stranger\.weight"):
        checkpoints.load(str(tmp_path / "more.pth"), arch=f"timm:{name}")


def test_an_encoder_of_one_channel_sees_grey(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
    model = VisionTransformer(**tiny, in_chans=1, num_classes=0).eval()
    torch.save(model.state_dict(), tmp_path / "grey.pth")
    encoder = checkpoints.load(str(tmp_path / "grey.pth"), mean="0.4", std="0.2")
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    grey = torch.stack(
        [
            torch.from_numpy(np.array(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L")))
            for p in pixels
        ]
    )
    with torch.no_grad():
        expected = model.forward_features((grey[:, None] / 255 - 0.4) / 0.2)[:, 0]
        torch.testing.assert_close(encoder(move(pixels, encoder)), expected)
    plain = checkpoints.load(str(tmp_path / "grey.pth"))
    assert plain.mean == pytest.approx((0.449,))
    saved = checkpoints.save(encoder, tmp_path / "own.safetensors", config={})
    again = checkpoints.load(str(saved))
    assert (again.mean, again.std) == ((0.4,), (0.2,))
    other = VisionTransformer(**tiny, in_chans=5, num_classes=0)
    torch.save(other.state_dict(), tmp_path / "five.pth")
    with pytest.raises(UsageError, match="images of 5 channels"):
        checkpoints.load(str(tmp_path / "five.pth"))
