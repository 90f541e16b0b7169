"""Every release's key layout gives the right network, heads and features, or an error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import fake_checkpoints as fake
from sdssl_bench import checkpoints
from sdssl_bench.encoders.encoder import Encoder, cls
from sdssl_bench.errors import DataError


def reference(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    """[CLS] of every layer with the final norm, by timm's own parts in a plain loop."""
    with torch.no_grad():
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        out = []
        for block in model.blocks:
            x = block(x)
            out.append(model.norm(x)[:, 0])
    return out


def assert_same(encoder: Encoder, model: VisionTransformer, img: int = 32) -> None:
    images = torch.randn(2, 3, img, img, generator=torch.Generator().manual_seed(1))
    got = encoder.forward_layers(images, range(1, encoder.depth + 1), cls)
    for layer, expected in enumerate(reference(model, images), start=1):
        torch.testing.assert_close(got[layer], expected, rtol=1e-4, atol=1e-4)


def load(path: Path, **options: Any) -> tuple[Encoder, dict[str, Any]]:
    encoder = checkpoints.load(str(path), **options)
    assert encoder.info is not None
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    assert encoder.info.file_sha256 == checkpoints.file_sha256(path)
    assert encoder.info.weights_sha256 == checkpoints.digest_of_module(encoder)
    return encoder, encoder.info.details


# --- one model per file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "form", "dropped"),
    [
        (fake.plain, "timm", {}),
        (fake.deit, "timm", {"head.": 2}),
        (fake.ibot_backbone, "ibot", {"masked_embed": 1}),
    ],
)
def test_plain_state_dicts(
    tmp_path: Path, write: Callable[..., Path], form: str, dropped: dict[str, int]
) -> None:
    model = fake.vit(dim=128, heads=2)
    encoder, details = load(write(tmp_path / "x.pth", model))
    assert encoder.info is not None
    assert (encoder.info.format, encoder.info.network) == (form, "model")
    assert details["heads"] == 2
    assert details["pos"] == "learned"
    assert details["keys"] == {"loaded": len(model.state_dict()), "dropped": dropped}
    assert_same(encoder, model)


def test_a_safetensors_file_without_our_header_is_read_as_plain(tmp_path: Path) -> None:
    model = fake.vit()
    save_file(dict(model.state_dict()), tmp_path / "x.safetensors")
    encoder, _ = load(tmp_path / "x.safetensors")
    assert_same(encoder, model)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "backbone."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_wrappers_and_prefixes(tmp_path: Path, prefix: str, wrapper: str | None) -> None:
    model = fake.vit()
    state = fake.prefixed(model.state_dict(), prefix)
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 7}, tmp_path / "x.pth")
    encoder, details = load(tmp_path / "x.pth")
    assert details["epoch"] == (None if wrapper is None else 7)
    assert_same(encoder, model)


@pytest.mark.parametrize(
    ("model_key", "ema_key"), [("state_dict", "state_dict_ema"), ("model", "model_ema")]
)
def test_an_average_model_is_offered_but_not_taken(
    tmp_path: Path, model_key: str, ema_key: str
) -> None:
    model, average = fake.vit(1), fake.vit(2)
    content = {model_key: model.state_dict(), ema_key: average.state_dict()}
    torch.save(content, tmp_path / "x.pth")
    encoder, details = load(tmp_path / "x.pth")
    assert details["networks"] == ["model", "ema"]
    assert_same(encoder, model)
    assert_same(load(tmp_path / "x.pth", network="ema")[0], average)


def test_mae_drops_the_decoder_and_knows_its_positions(tmp_path: Path) -> None:
    model = fake.vit(pos="column")
    encoder, details = load(fake.mae(tmp_path / "x.pth", model))
    assert encoder.info is not None
    assert (encoder.info.format, details["pos"], details["epoch"]) == ("mae", "sincos-column", 799)
    assert details["keys"]["dropped"] == {
        "mask_token": 1,
        "decoder_pos_embed": 1,
        "decoder_blocks.": 2,
        "decoder_embed.": 2,
        "decoder_norm.": 1,
    }
    assert details["input_size"] == 224
    assert "never sees it" in details["cls_why"]
    assert_same(load(tmp_path / "x.pth", cls="token")[0], model)


def test_an_mae_encoder_saved_alone_is_known_by_its_positions(tmp_path: Path) -> None:
    encoder, details = load(fake.deit(tmp_path / "x.pth", fake.vit(pos="column")))
    assert encoder.info is not None
    assert (encoder.info.format, details["pos"]) == ("mae", "sincos-column")


# --- student and teacher --------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "form"), [(fake.dino, "dino"), (fake.ibot, "ibot")])
def test_dino_and_ibot_evaluate_the_teacher(
    tmp_path: Path, write: Callable[..., Path], form: str
) -> None:
    student, teacher = fake.vit(1), fake.vit(2)
    path = write(tmp_path / "x.pth", student, teacher)
    encoder, details = load(path)
    assert encoder.info is not None
    assert (encoder.info.format, encoder.info.network) == (form, "teacher")
    assert details["networks"] == ["teacher", "student"]
    assert (details["heads"], details["epoch"], details["input_size"]) == (1, 100, 224)
    assert_same(encoder, teacher)


@pytest.mark.parametrize(
    ("write", "dropped"),
    [(fake.dino, {"head.": 5}), (fake.ibot, {"head.": 6, "backbone.masked_embed": 1})],
)
def test_the_student_on_request(
    tmp_path: Path, write: Callable[..., Path], dropped: dict[str, int]
) -> None:
    student, teacher = fake.vit(1), fake.vit(2)
    encoder, details = load(write(tmp_path / "x.pth", student, teacher), network="student")
    assert details["keys"] == {"loaded": len(student.state_dict()), "dropped": dropped}
    assert_same(encoder, student)


# --- MoCo v3 --------------------------------------------------------------------------------------


def test_mocov3_evaluates_the_base_encoder_with_12_heads(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dim": 384, "depth": 1, "heads": 12, "patch": 16, "pos": "row"}
    base, momentum = fake.vit(1, **settings), fake.vit(2, **settings)
    path = fake.mocov3(tmp_path / "x.pth", base, momentum)
    encoder, details = load(path)
    assert encoder.info is not None
    assert (encoder.info.format, encoder.info.network) == ("mocov3", "base")
    assert (details["heads"], details["pos"], details["epoch"]) == (12, "sincos-row", 300)
    assert "MoCo v3" in details["heads_source"]
    n = len(base.state_dict())
    assert details["keys"] == {
        "loaded": n,
        "dropped": {
            "base_encoder.head.": 4,
            "momentum_encoder.": n,
            "momentum_encoder.head.": 4,
            "predictor.": 4,
        },
    }
    assert_same(encoder, base)
    assert_same(load(path, network="momentum")[0], momentum)


def test_mocov3_resnet_drops_its_projector(tmp_path: Path) -> None:
    base, momentum = (resnet(torchvision.models.resnet18, s) for s in (1, 2))
    path = fake.mocov3(tmp_path / "x.pth", base, momentum, head="fc.")
    encoder, details = load(path)
    assert encoder.info is not None
    assert (encoder.info.arch, encoder.info.network) == ("resnet18", "base")
    assert details["keys"]["dropped"]["base_encoder.fc."] == 4
    assert_same_resnet(encoder, base)


def test_a_bare_mocov3_encoder_asks_for_heads(tmp_path: Path) -> None:
    model = fake.vit(dim=384, depth=1, heads=12, patch=16, pos="row")
    path = fake.plain(tmp_path / "x.pth", model, classifier=True)
    with pytest.raises(DataError, match=r"row-first sin-cos(.|\n)*--heads"):
        checkpoints.load(str(path))
    encoder, details = load(path, heads=12)
    assert details["heads_source"] == "--heads"
    assert_same(encoder, model)


# --- SDSSL ----------------------------------------------------------------------------------------


def sdssl_pair(heads: int = 12, **settings: Any) -> tuple[VisionTransformer, VisionTransformer]:
    settings = {
        **{"dim": 768, "depth": 2, "patch": 16, "mlp_ratio": 0.5, "heads": heads, "pos": "row"},
        **settings,
    }
    return fake.vit(1, **settings), fake.vit(2, **settings)


def test_sdssl_evaluates_the_teacher(tmp_path: Path) -> None:
    student, teacher = sdssl_pair()
    state = fake.sdssl_state(student.state_dict(), teacher.state_dict())
    path = fake.sdssl(tmp_path / "x.ckpt", state)
    encoder, details = load(path)
    assert encoder.info is not None
    assert (encoder.info.format, encoder.info.network) == ("sdssl", "teacher")
    assert (details["heads"], details["norm"], details["epoch"]) == (12, "shared", 299)
    dropped = details["keys"]["dropped"]
    assert details["keys"]["loaded"] + sum(dropped.values()) == len(state)
    assert dropped["student.projector."] == 8
    assert dropped["teacher.projector."] == 4
    assert_same(encoder, teacher)
    assert_same(load(path, network="student")[0], student)


def test_sdssl_simclr_has_no_teacher(tmp_path: Path) -> None:
    student, _ = sdssl_pair()
    path = fake.sdssl(tmp_path / "x.ckpt", fake.sdssl_state(student.state_dict(), None))
    encoder, details = load(path)
    assert encoder.info is not None
    assert (encoder.info.network, details["networks"]) == ("student", ["student"])
    assert_same(encoder, student)


@pytest.mark.parametrize("keep_norm", [False, True])
def test_sdssl_norms_per_layer(tmp_path: Path, keep_norm: bool) -> None:
    _, teacher = sdssl_pair()
    state = fake.with_norms(teacher.state_dict(), 2, 5, keep_norm=keep_norm)
    path = fake.sdssl(tmp_path / "x.ckpt", fake.sdssl_state(state, state))
    encoder, details = load(path)
    assert details["norm"] == "per-layer"
    assert details["keys"]["dropped"].get("teacher.net.norm.") == (2 if keep_norm else None)
    images = torch.randn(2, 3, 32, 32)
    raw = reference_without_norm(teacher, images)
    got = encoder.forward_layers(images, [1, 2], cls)
    for layer in (1, 2):
        weight, bias = (state[f"norms.{layer - 1}.{part}"] for part in ("weight", "bias"))
        expected = nn.functional.layer_norm(raw[layer - 1], (768,), weight, bias, eps=1e-6)
        torch.testing.assert_close(got[layer], expected, rtol=1e-4, atol=1e-4)


def reference_without_norm(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    norm, model.norm = model.norm, nn.Identity()
    try:
        return reference(model, images)
    finally:
        model.norm = norm


def test_sdssl_with_both_norms_trained_is_refused_and_the_used_one_is_taken(tmp_path: Path) -> None:
    _, teacher = sdssl_pair()
    both = fake.with_norms(teacher.state_dict(), 2, 5, keep_norm=False)
    both |= {"norm.weight": torch.full((768,), 2.0), "norm.bias": torch.full((768,), 0.5)}
    path = fake.sdssl(tmp_path / "x.ckpt", fake.sdssl_state(both, both))
    with pytest.raises(DataError, match="both trained"):
        checkpoints.load(str(path))
    both |= {"norms.1.weight": torch.ones(768), "norms.1.bias": torch.zeros(768)}
    path = fake.sdssl(tmp_path / "y.ckpt", fake.sdssl_state(both, both))
    encoder, details = load(path)
    assert details["keys"]["dropped"]["teacher.net.norms.1."] == 2
    raw = reference_without_norm(teacher, torch.ones(1, 3, 32, 32))[1]
    expected = nn.functional.layer_norm(raw, (768,), both["norm.weight"], both["norm.bias"], 1e-6)
    got = encoder.forward_layers(torch.ones(1, 3, 32, 32), [2], cls)[2]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_sdssl_without_a_table_recomputes_it(tmp_path: Path) -> None:
    _, teacher = sdssl_pair()
    state = {k: v for k, v in teacher.state_dict().items() if k != "pos_embed"}
    path = fake.sdssl(tmp_path / "x.ckpt", fake.sdssl_state(state, state))
    encoder, details = load(path)
    assert (details["pos_embed"], details["img_size"]) == ("recomputed", 224)
    assert_same(encoder, teacher)


def test_heads_stated_by_hyper_parameters_are_taken(tmp_path: Path) -> None:
    _, teacher = sdssl_pair(dim=384, heads=6)
    state = fake.sdssl_state(teacher.state_dict(), teacher.state_dict())
    path = fake.sdssl(tmp_path / "x.ckpt", state, hyper_parameters={"num_heads": 6})
    encoder, details = load(path)
    assert (details["heads"], details["heads_source"]) == (6, "stated by the file")
    assert_same(encoder, teacher)


# --- DINOv2 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_dinov2_names(tmp_path: Path, chunked: bool) -> None:
    model = fake.vit(init_values=1.0)
    torch.save(fake.dinov2_state(model, chunked=chunked), tmp_path / "x.pth")
    encoder, details = load(tmp_path / "x.pth")
    assert encoder.info is not None
    assert (encoder.info.format, details["reg_tokens"]) == ("dinov2", 0)
    assert details["keys"]["dropped"] == {"mask_token": 1}
    assert_same(encoder, model)


@pytest.mark.parametrize("swiglu", [False, True])
def test_dinov2_registers_come_after_the_positions(tmp_path: Path, swiglu: bool) -> None:
    make = fake.giant if swiglu else fake.vit
    more = {} if swiglu else {"init_values": 1.0}
    model = make(reg_tokens=4, no_embed_class=True, **more)
    torch.save(fake.dinov2_state(model), tmp_path / "x.pth")
    encoder, details = load(tmp_path / "x.pth")
    assert details["reg_tokens"] == 4
    assert_same(encoder, model)


def test_a_dinov2_training_file_gives_the_teacher(tmp_path: Path) -> None:
    model = fake.vit(init_values=1.0)
    state = fake.prefixed(fake.dinov2_state(model), "backbone.")
    state |= fake.mlp_head("dino_head.mlp.") | fake.mlp_head("ibot_head.mlp.")
    torch.save({"teacher": state}, tmp_path / "x.pth")
    encoder, details = load(tmp_path / "x.pth")
    assert encoder.info is not None
    assert (encoder.info.format, encoder.info.network) == ("dinov2", "teacher")
    assert details["keys"]["dropped"] == {
        "dino_head.": 4,
        "ibot_head.": 4,
        "backbone.mask_token": 1,
    }
    assert_same(encoder, model)


# --- ResNets --------------------------------------------------------------------------------------


def resnet(make: Callable[..., nn.Module], seed: int) -> nn.Module:
    model = fake.randomise(make(), seed)
    model.fc = nn.Identity()
    return model


def assert_same_resnet(encoder: Encoder, model: nn.Module) -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = encoder(images)
        torch.testing.assert_close(got, model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_resnets_of_both_libraries(tmp_path: Path, source: str) -> None:
    make = {
        "timm": lambda: timm.create_model("resnet18", pretrained=False),
        "torchvision": torchvision.models.resnet18,
    }[source]
    model = fake.randomise(make(), 3)
    torch.save(model.state_dict(), tmp_path / "x.pth")
    encoder, details = load(tmp_path / "x.pth")
    assert encoder.info is not None
    assert (encoder.info.format, encoder.info.arch) == ("resnet", "resnet18")
    assert (details["norm"], details["keys"]["dropped"]) == ("none", {"fc.": 2})
    model.fc = nn.Identity()
    assert_same_resnet(encoder, model)


# --- strictness -----------------------------------------------------------------------------------


def break_missing(state: fake.State) -> str:
    del state["blocks.1.attn.proj.bias"]
    return r"29 of 30(.|\n)*1 missing: blocks\.1\.attn\.proj\.bias"


def break_extra(state: fake.State) -> str:
    state["blocks.1.attn.extra"] = torch.zeros(3)
    return r"1 unexpected: blocks\.1\.attn\.extra"


def break_shape(state: fake.State) -> str:
    state["norm.weight"] = torch.ones(65)
    return r"1 of another shape: norm\.weight \(expected \(64,\), found \(65,\)\)"


def break_head_elsewhere(state: fake.State) -> str:
    state["blocks.0.head.weight"] = torch.zeros(3)
    return r"1 unexpected: blocks\.0\.head\.weight"


def break_type(state: fake.State) -> str:
    state["norm.weight"] = torch.ones(64, dtype=torch.int64)
    return r"norm\.weight \(int64\)"


def break_value(state: fake.State) -> str:
    state["norm.weight"][3] = float("nan")
    return "NaN or infinite values in norm.weight"


BREAKS = [break_missing, break_extra, break_shape, break_head_elsewhere, break_type, break_value]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda d: d.__name__)
@pytest.mark.parametrize("release", ["timm", "dino", "sdssl"])
def test_one_wrong_tensor_is_refused(
    tmp_path: Path, release: str, damage: Callable[[fake.State], str]
) -> None:
    model = fake.vit()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    message = damage(state)
    path = tmp_path / "x.pth"
    options = {}
    if release == "timm":
        torch.save(state, path)
    elif release == "dino":
        torch.save({"teacher": fake.prefixed(state, "backbone.")}, path)
    else:
        fake.sdssl(path, fake.sdssl_state(model.state_dict(), state))
        options = {"heads": 1}
    with pytest.raises(DataError, match=message) as error:
        checkpoints.load(str(path), **options)
    assert error.value.exit_code == 3


def test_long_lists_of_keys_are_cut_and_counted(tmp_path: Path) -> None:
    state = {k: v for k, v in fake.vit(depth=3).state_dict().items() if "blocks.1." not in k}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"12 missing: .* and 2 more"):
        checkpoints.load(str(tmp_path / "x.pth"))


def test_an_unknown_tensor_beside_a_backbone_is_listed_and_one_inside_is_refused(
    tmp_path: Path,
) -> None:
    content = fake.dino_content(fake.vit(1), fake.vit(2))
    content["teacher"]["adapter.weight"] = torch.zeros(2)
    torch.save(content, tmp_path / "x.pth")
    assert load(tmp_path / "x.pth")[1]["keys"]["dropped"]["adapter."] == 1
    content["teacher"]["backbone.adapter.weight"] = torch.zeros(2)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"1 unexpected: adapter\.weight"):
        checkpoints.load(str(tmp_path / "x.pth"))


def test_a_vit_with_a_convolutional_stem_is_refused_with_advice(tmp_path: Path) -> None:
    state = dict(fake.vit().state_dict())
    state["patch_embed.proj.0.weight"] = state.pop("patch_embed.proj.weight")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"under no prefix(.|\n)*--arch"):
        checkpoints.load(str(tmp_path / "x.pth"))
