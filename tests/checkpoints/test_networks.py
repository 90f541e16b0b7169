"""A backbone is found under any prefix and in the names of any library, whole, and nothing beside it."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import fake_checkpoints as fake
from sdssl_bench import checkpoints, encoders
from sdssl_bench.encoders.encoder import cls
from sdssl_bench.errors import DataError, UsageError

State = dict[str, Tensor]


def resnet(seed: int) -> State:
    model = fake.randomise(torchvision.models.resnet18(), seed)
    return {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}


def vit(seed: int) -> State:
    return dict(fake.vit(seed).state_dict())


def nested(state: State) -> dict[str, Any]:
    """Every part of a name a dictionary of its own."""
    out: dict[str, Any] = {}
    for name, tensor in state.items():
        *path, last = name.split(".")
        inner = out
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = tensor
    return out


def under(prefix: str, state: State) -> State:
    return fake.prefixed(state, prefix)


HEAD = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2)}
Make = Callable[[State, State], dict[str, Any]]
FILES: dict[str, tuple[Make, str, list[str]]] = {
    "MoCo v2": (
        lambda a, b: {"state_dict": {
            **under("module.encoder_q.", a), **under("module.encoder_k.", b),
            **under("module.encoder_q.fc.", HEAD), "module.queue": torch.ones(2, 3)}},
        "encoder_q", ["encoder_q", "encoder_k"],
    ),
    "backbone beside projector": (
        lambda a, b: {"model": {**under("backbone.", a), **under("projector.", HEAD)}}, "model", ["model"],
    ),
    "solo-learn": (
        lambda a, b: {"state_dict": {
            **under("backbone.", a), **under("momentum_backbone.", b), **under("classifier.", HEAD)}},
        "backbone", ["backbone", "momentum_backbone"],
    ),
    "BYOL": (
        lambda a, b: {"online_encoder": under("net.", a), "target_encoder": under("net.", b)},
        "online_encoder", ["online_encoder", "target_encoder"],
    ),
    "I-JEPA": (
        lambda a, b: {"encoder": under("module.", b), "target_encoder": under("module.", a), "epoch": 3},
        "target_encoder", ["target_encoder", "encoder"],
    ),
    "net": (lambda a, b: under("net.", a), "model", ["model"]),
    "three dictionaries deep": (
        lambda a, b: {"checkpoint": {"model": {"trunk": a}, "step": 3}}, "checkpoint", ["checkpoint"],
    ),
    "a dictionary for every part": (lambda a, b: {"model": nested(a)}, "model", ["model"]),
    "FSDP inside": (
        lambda a, b: {"model": {k.replace(".0.", ".0._fsdp_wrapped_module.", 1): v for k, v in a.items()}},
        "model", ["model"],
    ),
    "compiled under DDP": (lambda a, b: under("module._orig_mod.backbone.", a), "model", ["model"]),
    "DeepSpeed": (lambda a, b: {"module": a, "global_steps": 5}, "model", ["model"]),
    "an optimizer with the weights' names": (
        lambda a, b: {"model": a, "optimizer": {"exp_avg": b}}, "model", ["model"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", [resnet, vit], ids=["resnet", "vit"])
@pytest.mark.parametrize("kind", FILES)
def test_a_backbone_is_found_under_any_prefix(
    tmp_path: Path, family: Callable[[int], State], kind: str
) -> None:
    make, network, networks = FILES[kind]
    evaluated, other = family(1), family(2)
    torch.save(evaluated, tmp_path / "bare.pth")
    torch.save(make(evaluated, other), tmp_path / "x.pth")
    bare = checkpoints.load(str(tmp_path / "bare.pth")).info
    found = checkpoints.load(str(tmp_path / "x.pth")).info
    assert bare is not None
    assert found is not None
    assert (found.network, found.details["networks"]) == (network, networks)
    assert (found.weights_sha256, found.arch) == (bare.weights_sha256, bare.arch)


def test_every_tensor_of_the_dictionary_is_loaded_or_counted(tmp_path: Path) -> None:
    make, _, _ = FILES["MoCo v2"]
    content = make(resnet(1), resnet(2))
    torch.save(content, tmp_path / "x.pth")
    info = checkpoints.load(str(tmp_path / "x.pth")).info
    assert info is not None
    keys = info.details["keys"]
    assert keys["dropped"] == {"encoder_k.": len(resnet(2)), "encoder_q.fc.": 2, "queue": 1}
    assert keys["loaded"] + sum(keys["dropped"].values()) == len(content["state_dict"])


def test_without_a_convention_the_networks_are_listed_and_each_can_be_chosen(
    tmp_path: Path,
) -> None:
    one, two, three = vit(1), vit(2), vit(3)
    torch.save({"left": one, "middle": two, "right": three}, tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"3 backbones(.|\n)*left(.|\n)*middle(.|\n)*--network"):
        checkpoints.load(str(tmp_path / "x.pth"))
    encoder = checkpoints.load(str(tmp_path / "x.pth"), network="middle")
    assert torch.equal(encoder.backbone_state()["cls_token"], two["cls_token"])
    with pytest.raises(UsageError, match="has left, middle, right"):
        checkpoints.load(str(tmp_path / "x.pth"), network="centre")


def test_a_part_of_a_backbone_is_no_rival_and_no_substitute(tmp_path: Path) -> None:
    part = {key: tensor for key, tensor in vit(2).items() if "blocks.0.norm1" not in key}
    torch.save({"left": part, "right": vit(1)}, tmp_path / "x.pth")
    encoder = checkpoints.load(str(tmp_path / "x.pth"))
    assert torch.equal(encoder.backbone_state()["cls_token"], vit(1)["cls_token"])
    torch.save({"teacher": part, "student": vit(1)}, tmp_path / "x.pth")
    with pytest.raises(
        DataError, match=r"missing: blocks\.0\.norm1"
    ):  # the student does not take its place
        checkpoints.load(str(tmp_path / "x.pth"))


def test_a_block_number_that_cannot_be_is_an_error_at_once(tmp_path: Path) -> None:
    state = vit(1)
    state["blocks.99999999999.norm1.weight"] = state["blocks.0.norm1.weight"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(DataError, match="numbers a block 99999999999"):
        checkpoints.load(str(tmp_path / "x.pth"))


# --- the names of other libraries -----------------------------------------------------------------


def names_of_transformers_5(state: State) -> State:
    """The same in memory since version 5."""
    out = {}
    for key, tensor in fake.names_of_huggingface(state).items():
        key = key.replace("encoder.layer.", "layers.").replace(
            "attention.output.dense", "attention.o_proj"
        )
        for old, new in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            key = key.replace(f"attention.attention.{old}", f"attention.{new}")
        out[key.replace("intermediate.dense", "mlp.fc1").replace(".output.dense", ".mlp.fc2")] = (
            tensor
        )
    return out


def names_of_mmpretrain(state: State) -> State:
    rules = [
        (r"^patch_embed\.proj\.", "patch_embed.projection."), (r"^norm\.", "ln1."),
        (r"^blocks\.", "layers."), (r"\.norm(\d)\.", r".ln\1."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."), (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    ]  # fmt: skip
    for pattern, name in rules:
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    return under("backbone.", state) | under("head.layers.head.", {"weight": torch.zeros(3, 4)})


def names_of_jax(state: State, heads: int = 2) -> State:
    out: State = {}
    for key, tensor in state.items():
        key = re.sub(r"^blocks\.(\d+)\.", r"Transformer.encoderblock_\1.", key)
        for old, new in (
            ("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2"), ("mlp.fc1", "MlpBlock_3.Dense_0"),
            ("mlp.fc2", "MlpBlock_3.Dense_1"), ("attn.proj", "MultiHeadDotProductAttention_1.out"),
        ):  # fmt: skip
            key = key.replace(f".{old}.", f".{new}.")
        key = re.sub(r"^norm\.", "Transformer.encoder_norm.", key)
        key = key.replace("patch_embed.proj.", "embedding.")
        key = {"cls_token": "cls", "pos_embed": "Transformer.posembed_input.pos_embedding"}.get(
            key, key
        )
        if "attn.qkv" in key:
            for which, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                name = key.replace("attn.qkv", f"MultiHeadDotProductAttention_1.{which}")
                shape = (heads, -1) if part.ndim == 1 else (part.shape[1], heads, -1)
                out[name.replace("weight", "kernel")] = part.transpose(0, -1).reshape(shape)
        elif "norm" in key.lower() and key.endswith("weight"):
            out[key.removesuffix("weight") + "scale"] = tensor
        elif key == "embedding.weight":
            out["embedding.kernel"] = tensor.permute(2, 3, 1, 0)
        elif key.endswith(".out.weight"):
            out[key.removesuffix("weight") + "kernel"] = tensor.T.reshape(
                heads, -1, tensor.shape[0]
            )
        elif key.endswith("weight"):
            out[key.removesuffix("weight") + "kernel"] = tensor.T
        else:
            out[key] = tensor
    return {key.replace(".", "/"): tensor.contiguous() for key, tensor in out.items()}


def features(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        x = model.norm_pre(model._pos_embed(model.patch_embed(images)))
        out = []
        for block in model.blocks:
            x = block(x)
            out.append(model.norm(x)[:, 0])
    return out


def assert_same(path: Path, model: VisionTransformer, **options: Any) -> dict[str, Any]:
    encoder = checkpoints.load(str(path), **options)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    got = encoder.forward_layers(images, range(1, encoder.depth + 1), cls)
    for layer, expected in enumerate(features(model, images), start=1):
        torch.testing.assert_close(got[layer], expected, rtol=1e-5, atol=1e-5)
    assert encoder.info is not None
    return encoder.info.details


@pytest.mark.parametrize(
    "rename",
    [fake.names_of_huggingface, names_of_transformers_5, names_of_mmpretrain, names_of_jax],
)
def test_the_same_vit_under_the_names_of_other_libraries(
    tmp_path: Path, rename: Callable[[State], State]
) -> None:
    model = fake.vit(dim=128, heads=2)
    torch.save(rename(dict(model.state_dict())), tmp_path / "x.pth")
    details = assert_same(tmp_path / "x.pth", model)
    assert details["heads"] == 2


def test_dinov2_is_evaluated_at_224_px_under_any_names(tmp_path: Path) -> None:
    model = fake.vit(init_values=1.0, img=37 * 8)
    theirs = {re.sub(r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1", k): t
              for k, t in fake.names_of_huggingface(dict(model.state_dict())).items()}  # fmt: skip
    for name, state in (("own", fake.dinov2_state(model)), ("theirs", theirs)):
        torch.save(state, tmp_path / f"{name}.pth")
        assert checkpoints.load(str(tmp_path / f"{name}.pth")).input_size == 224


def names_of_clip(state: State) -> State:
    rules = [
        (r"^patch_embed\.proj\.", "conv1."), (r"^norm_pre\.", "ln_pre."), (r"^norm\.", "ln_post."),
        (r"^blocks\.", "transformer.resblocks."), (r"\.norm(\d)\.", r".ln_\1."),
        (r"attn\.qkv\.", "attn.in_proj_"),
        (r"attn\.proj\.", "attn.out_proj."), (r"mlp\.fc1\.", "mlp.c_fc."), (r"mlp\.fc2\.", "mlp.c_proj."),
        (r"^cls_token$", "class_embedding"), (r"^pos_embed$", "positional_embedding"),
    ]  # fmt: skip
    for pattern, name in rules:
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    state["class_embedding"] = state["class_embedding"].flatten()
    state["positional_embedding"] = state["positional_embedding"][0]
    text = {"transformer.resblocks.0.ln_1.weight": torch.ones(4), "logit_scale": torch.ones(())}
    return under("visual.", {**state, "proj": torch.ones(64, 8)}) | text


def clip_model(**more: Any) -> VisionTransformer:
    return fake.vit(pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5), **more)


def test_openai_clip_says_its_activation_and_open_clip_does_not(tmp_path: Path) -> None:
    model = clip_model(act_layer="quick_gelu")
    state = names_of_clip(dict(model.state_dict()))
    torch.save({**state, "input_resolution": torch.tensor(32)}, tmp_path / "openai.pth")
    details = assert_same(tmp_path / "openai.pth", model)
    assert details["keys"]["dropped"]["visual.proj"] == 1
    torch.save(state, tmp_path / "open.pth")
    with pytest.raises(DataError, match=r"QuickGELU(.|\n)*--arch"):
        checkpoints.load(str(tmp_path / "open.pth"))


def test_the_trunk_of_open_clips_timm_models_is_a_timm_vit(tmp_path: Path) -> None:
    model = fake.vit(1)
    state = under("visual.trunk.", dict(model.state_dict()))
    torch.save({**state, "visual.head.proj.weight": torch.ones(2, 2)}, tmp_path / "x.pth")
    assert_same(tmp_path / "x.pth", model)


def test_numbered_children_are_taken_by_their_order(tmp_path: Path) -> None:
    model = fake.randomise(torchvision.models.resnet18(), 1)
    children = nn.Sequential(*list(model.children())[:-1]).state_dict()
    torch.save({"state_dict": under("backbone.", dict(children))}, tmp_path / "x.pth")
    encoder = checkpoints.load(str(tmp_path / "x.pth"))
    for name, tensor in encoder.backbone_state().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_half_of_a_query_key_value_is_refused(tmp_path: Path) -> None:
    state = fake.names_of_huggingface(vit(1))
    del state["encoder.layer.1.attention.attention.key.weight"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(DataError, match="q, k and v"):
        checkpoints.load(str(tmp_path / "x.pth"))


# --- tables that are no square --------------------------------------------------------------------


def test_a_table_of_another_grid_is_read_once_its_grid_is_known(tmp_path: Path) -> None:
    model = fake.vit(1, img=(16, 40))  # type: ignore[arg-type]
    torch.save(model.state_dict(), tmp_path / "x.pth")
    with pytest.raises(DataError, match="--grid ROWSxCOLUMNS"):
        checkpoints.load(str(tmp_path / "x.pth"))
    with pytest.raises(UsageError, match="3 x 4 has 12 positions"):
        checkpoints.load(str(tmp_path / "x.pth"), grid="3x4")
    encoder = checkpoints.load(str(tmp_path / "x.pth"), grid="2x5")
    assert (encoder.input_size, encoder.grid) == (24, (2, 5))  # type: ignore[attr-defined]
    images = torch.randn(2, 3, 16, 40)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model.forward_features(images)[:, 0])
    other = checkpoints.load(str(tmp_path / "x.pth"), grid="5x2")
    with torch.no_grad():
        assert not torch.allclose(encoder(images[..., :16]), other(images[..., :16]))


@pytest.mark.parametrize("grid", ["4", "0x4", "4x", "4x4x4", "axb"])
def test_a_grid_is_two_numbers_and_only_where_it_is_needed(tmp_path: Path, grid: str) -> None:
    torch.save(vit(1), tmp_path / "vit.pth")
    torch.save(resnet(1), tmp_path / "resnet.pth")
    with pytest.raises(UsageError, match="--grid takes ROWSxCOLUMNS"):
        checkpoints.load(str(tmp_path / "vit.pth"), grid=grid)
    with pytest.raises(UsageError, match="2 x 4 has 8 positions"):
        checkpoints.load(str(tmp_path / "vit.pth"), grid="2x4")
    with pytest.raises(UsageError, match="--grid would have no effect"):
        checkpoints.load(str(tmp_path / "resnet.pth"), grid="4x4")


# --- DINOv3 ---------------------------------------------------------------------------------------


def rope_vit(**more: Any) -> Any:
    settings: dict[str, Any] = {
        "dim": 128, "depth": 2, "heads": 2, "patch_size": 8, "img_size": 32, "hidden": 96, "gated": False,
        "registers": 4, "qkv_bias": True, "norm_eps": 1e-5, "temperature": 100.0,
    }  # fmt: skip
    return fake.randomise(encoders.build_rope_vit(**(settings | more)), 1)


def names_of_dinov3(model: Any, *, periods: Tensor | None = None) -> State:
    """Meta's: a bias of keys that a mask makes zero, the rotary periods as a buffer."""
    state: State = {"mask_token": torch.zeros(1, 4)}
    for key, tensor in model.state_dict().items():
        if key.endswith("attn.qkv.weight"):
            stem = key.removesuffix("weight")
            ones = torch.ones(len(tensor) // 3)
            state[f"{stem}bias_mask"] = torch.cat([ones, 0 * ones, ones])
            state[f"{stem}bias"] = 0.5 * torch.cat([ones, ones, ones])
        if not key.endswith("_bias"):
            state[key] = tensor
    for key, tensor in model.state_dict().items():
        if key.endswith("q_bias"):
            stem = key.removesuffix("q_bias")
            value = model.state_dict()[f"{stem}v_bias"]
            state[f"{stem}qkv.bias"] = torch.cat([tensor, torch.full_like(tensor, 7.0), value])
    rules = [
        (r"^reg_token$", "storage_tokens"), (r"\.gamma_(\d)$", r".ls\1.gamma"), (r"mlp\.fc1_g", "mlp.w1"),
        (r"mlp\.fc1_x", "mlp.w2"),
        (r"mlp\.fc2", "mlp.w3" if "blocks.0.mlp.fc1_g.bias" in state else "mlp.fc2"),
    ]  # fmt: skip
    for pattern, name in rules:
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    exact = 100.0 ** (torch.arange(16) / 16)
    return {**state, "rope_embed.periods": exact if periods is None else periods}


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("names", ["Meta", "timm"])
def test_dinov3_is_the_same_at_any_grid_under_both_names(
    tmp_path: Path, gated: bool, names: str
) -> None:
    model = rope_vit(gated=gated)
    state = names_of_dinov3(model) if names == "Meta" else dict(model.state_dict())
    torch.save(
        {"teacher": under("backbone.", state)} if names == "Meta" else state, tmp_path / "x.pth"
    )
    encoder = checkpoints.load(str(tmp_path / "x.pth"))
    assert encoder.info is not None
    assert (encoder.info.format, encoder.info.details["heads"]) == ("dinov3", 2)
    for size in (32, 48):
        images = torch.randn(2, 3, size, size)
        with torch.no_grad():
            expected = model.forward_features(images)
            got = encoder.forward_layers(images, [2])[2]
        torch.testing.assert_close(got.cls, expected[:, 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got.patches.flatten(1, 2), expected[:, 5:], rtol=1e-5, atol=1e-5)


def test_other_rotary_periods_are_refused(tmp_path: Path) -> None:
    state = names_of_dinov3(rope_vit(), periods=10_000.0 ** (torch.arange(16) / 16))
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(DataError, match="other rotary positions"):
        checkpoints.load(str(tmp_path / "x.pth"))


# --- stages ---------------------------------------------------------------------------------------


def convnext(**more: Any) -> Any:
    settings: dict[str, Any] = {
        "counts": (1, 2, 1, 1), "dims": (8, 16, 24, 32), "patch_size": 4, "layer_scale": True,
        "response_norm": False, "conv_mlp": False, "norm_eps": 1e-6, "last_eps": 1e-6,
    }  # fmt: skip
    return fake.randomise(encoders.build_convnext(**(settings | more)), 1)


def names_of_convnext(state: State) -> State:
    """The authors'."""
    rules = [
        (r"^stem\.", "downsample_layers.0."), (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."), (r"\.conv_dw\.", ".dwconv."), (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
        (r"\.mlp\.grn\.weight", ".grn.gamma"), (r"\.mlp\.grn\.bias", ".grn.beta"),
        (r"^head\.norm\.", "norm."),
    ]  # fmt: skip
    for pattern, name in rules:
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    return {key: t[None, None, None] if "grn" in key else t for key, t in state.items()}


def swin() -> Any:
    model = encoders.build_swin(
        dim=16, counts=(2, 2), heads=(2, 4), window=4, patch_size=4, img_size=32, mlp_ratio=2.0, norm_eps=1e-5
    )  # fmt: skip
    return fake.randomise(model, 1)


def names_of_swin(state: State) -> State:
    """The authors': the reduction belongs to the stage before it, tables of indices are stored."""
    out = {key.replace("layers.1.downsample", "layers.0.downsample"): t for key, t in state.items()}
    return {**out, "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16).long()}


@pytest.mark.parametrize(
    ("model", "rename"),
    [
        (convnext(), dict),
        (convnext(), names_of_convnext),
        (convnext(layer_scale=False, response_norm=True), names_of_convnext),
        (convnext(conv_mlp=True), dict),
        (swin(), dict),
        (swin(), names_of_swin),
    ],
    ids=["convnext timm", "convnext", "convnext v2", "convnext small", "swin timm", "swin"],
)
def test_models_of_stages_are_built_from_their_tensors(
    tmp_path: Path, model: Any, rename: Callable[[State], State]
) -> None:
    head = (
        {"head.fc.weight": torch.zeros(3, 32)}
        if rename is dict
        else {"head.weight": torch.zeros(3, 32)}
    )
    torch.save({"model": {**rename(dict(model.state_dict())), **head}}, tmp_path / "x.pth")
    encoder = checkpoints.load(str(tmp_path / "x.pth"))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = model(images)
        stages = model.forward_intermediates(images, intermediates_only=True)
        got = encoder.forward_layers(images, range(1, encoder.depth + 1))
    torch.testing.assert_close(got[1].patches.permute(0, 3, 1, 2), stages[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got[encoder.depth].cls, features, rtol=1e-5, atol=1e-5)
    assert encoder.info is not None
    assert encoder.info.details["keys"]["loaded"] == len(model.state_dict())


@pytest.mark.slow
def test_what_a_named_architecture_needs_is_no_head(tmp_path: Path) -> None:
    model = timm.create_model("vit_base_patch16_siglip_224", pretrained=False, depth=1)
    torch.save({"backbone": model.state_dict()}, tmp_path / "x.pth")
    arch = "vit_base_patch16_siglip_224"
    with pytest.raises(DataError, match="145 missing"):  # one of its twelve blocks is there
        checkpoints.load(str(tmp_path / "x.pth"), arch=arch)
    whole = timm.create_model(arch, pretrained=False, num_classes=0)
    torch.save({"backbone": whole.state_dict()}, tmp_path / "y.pth")
    info = checkpoints.load(str(tmp_path / "y.pth"), arch=arch).info
    assert info is not None
    assert info.details["keys"] == {"loaded": len(whole.state_dict()), "dropped": {}}


@pytest.mark.parametrize(
    "arch",
    ["eva02_tiny_patch14_224", pytest.param("eva02_base_patch14_224", marks=pytest.mark.slow)],
)
def test_eva_02_in_its_authors_names_needs_its_name(tmp_path: Path, arch: str) -> None:
    model = timm.create_model(arch, pretrained=False, num_classes=0).eval()
    state = {"rope.freqs_cos": torch.zeros(4), "blocks.0.attn.rope.freqs_sin": torch.zeros(4)}
    for key, tensor in model.state_dict().items():
        for ours, theirs in (
            (".attn.norm.", ".attn.inner_attn_ln."), (".mlp.norm.", ".mlp.ffn_ln."),
            (".mlp.fc1_g.", ".mlp.w1."), (".mlp.fc1_x.", ".mlp.w2."), (".mlp.fc2.", ".mlp.w3."),
            ("q_proj.bias", "q_bias"), ("v_proj.bias", "v_bias"),
        ):  # fmt: skip
            key = key.replace(ours, theirs)
        state[key] = tensor
    torch.save({"module": state, "head.weight": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"EVA-02(.|\n)*--arch"):
        checkpoints.load(str(tmp_path / "x.pth"))
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    theirs, ours = (
        checkpoints.load(str(tmp_path / f"{n}.pth"), arch=arch).info for n in ("x", "timm")
    )
    assert theirs is not None
    assert ours is not None
    assert theirs.weights_sha256 == ours.weights_sha256
    assert sum(theirs.details["keys"]["dropped"].values()) == 3  # the head and two tables
