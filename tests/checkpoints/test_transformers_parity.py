"""Folders of transformers: the features of every layer are those of transformers itself.

Run with the extra `parity` (transformers is no dependency of the suite).
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdssl_bench import checkpoints
from sdssl_bench.encoders import Encoder

transformers = pytest.importorskip("transformers")

WIDTHS = {
    "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
}  # fmt: skip
VIT = {**WIDTHS, "intermediate_size": 96}
DINOV3 = {**VIT, "num_register_tokens": 4}
STAGES = {"hidden_sizes": [8, 16, 32, 64], "depths": [2, 1, 2, 1]}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("ViT", VIT),
    ("DeiT", VIT),
    ("ViTMAE", {**VIT, "mask_ratio": 0.0}),
    ("ViTMSN", VIT),
    ("IJepa", VIT),
    ("Dinov2", WIDTHS),
    ("Dinov2", {**WIDTHS, "use_swiglu_ffn": True}),
    ("Dinov2WithRegisters", WIDTHS),
    ("DINOv3ViT", DINOV3),
    ("DINOv3ViT", {**DINOV3, "use_gated_mlp": True, "hidden_act": "silu"}),
    ("DINOv3ViT", {**DINOV3, "query_bias": False, "value_bias": False}),
    *[
        (family, {**VIT, **biases})
        for family in ("Beit", "Data2VecVision")
        for biases in (
            {"use_relative_position_bias": True},
            {"use_shared_relative_position_bias": True},
            {"use_absolute_position_embeddings": True, "use_mean_pooling": False},
        )
    ],
    ("ResNet", {**STAGES, "embedding_size": 8}),
    ("ResNet", {**STAGES, "embedding_size": 8, "layer_type": "basic"}),
    ("ConvNext", STAGES),
    ("ConvNextV2", STAGES),
    ("DINOv3ConvNext", STAGES),
    ("Swin", {"image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}),
]  # fmt: skip


def model_of(family: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings)
    model = getattr(transformers, f"{family}Model")(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model


def expected(model: Any, images: Tensor, *, prefix: int) -> list[tuple[Tensor, Tensor]]:
    """([CLS], patches) of every layer, with the final norm where the family has one of tokens."""
    norm = getattr(model, "layernorm", None) or model.norm
    noise = (
        {"noise": torch.arange(16.0)[None].repeat(len(images), 1)}
        if "MAE" in type(model).__name__
        else {}
    )
    hidden = model(images, output_hidden_states=True, **noise).hidden_states[1:]
    # hidden_states[-1] stands before the final norm, so it gets it as all others do.
    return [(norm(one)[:, 0], norm(one)[:, prefix:]) for one in hidden]


@pytest.mark.parametrize(("family", "settings"), MODELS)
def test_every_layer_is_that_of_transformers(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    model = model_of(family, settings)
    model.save_pretrained(tmp_path / "saved")
    encoder = checkpoints.load(
        str(tmp_path / "saved"), **({"cls": "token"} if family == "ViTMAE" else {})
    )
    images = (
        torch.randn(2, 3, 64, 64) if "patch_size" not in settings else torch.randn(2, 3, 32, 32)
    )
    with torch.no_grad():
        got = encoder.forward_layers(images, range(1, encoder.depth + 1))
        if "patch_size" not in settings:
            return check_stages(model, encoder, images, got)
        if family in ("Beit", "Data2VecVision"):
            return check_blocks(model, images, got)
        prefix = encoder.model.num_prefix_tokens  # type: ignore[union-attr]
        for layer, (token, patches) in enumerate(expected(model, images, prefix=prefix), start=1):
            torch.testing.assert_close(
                got[layer].patches.flatten(1, 2), patches, rtol=1e-5, atol=1e-5
            )
            if prefix:
                torch.testing.assert_close(got[layer].cls, token, rtol=1e-5, atol=1e-5)
        last = model(
            images,
            **({"noise": torch.arange(16.0)[None].repeat(2, 1)} if family == "ViTMAE" else {}),
        )
        torch.testing.assert_close(
            got[encoder.depth].patches.flatten(1, 2),
            last.last_hidden_state[:, prefix:],
            rtol=1e-5,
            atol=1e-5,
        )


def check_stages(model: Any, encoder: Encoder, images: Tensor, got: dict[int, Any]) -> None:
    """Maps of stages; the last layer is the pooled feature that the model itself gives."""
    before = (
        {"output_hidden_states_before_downsampling": True} if "Swin" in type(model).__name__ else {}
    )
    out = model(images, output_hidden_states=True, **before)
    hidden = getattr(out, "reshaped_hidden_states", None) or out.hidden_states
    for layer, one in enumerate(hidden[-encoder.depth : -1], start=1):
        torch.testing.assert_close(
            got[layer].patches, one.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(
        got[encoder.depth].cls, out.pooler_output.flatten(1), rtol=1e-5, atol=1e-5
    )


def check_blocks(model: Any, images: Tensor, got: dict[int, Any]) -> None:
    """BEiT's tokens, with the final norm if there is one of tokens."""
    norm = getattr(model, "layernorm", None) or torch.nn.Identity()
    hidden = model(images, output_hidden_states=True).hidden_states[1:]
    for layer, one in enumerate(hidden, start=1):
        patches = norm(one)[:, 1:]
        torch.testing.assert_close(got[layer].patches.flatten(1, 2), patches, rtol=1e-5, atol=1e-5)


def test_a_dinov3_at_another_grid(tmp_path: Path) -> None:
    model = model_of("DINOv3ViT", DINOV3)
    model.save_pretrained(tmp_path / "saved")
    encoder = checkpoints.load(str(tmp_path / "saved"))
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        got = encoder.forward_layers(images, [2])[2]
        token, patches = expected(model, images, prefix=5)[1]
    torch.testing.assert_close(got.cls, token, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.patches.flatten(1, 2), patches, rtol=1e-5, atol=1e-5)
