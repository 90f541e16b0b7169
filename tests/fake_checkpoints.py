"""Tiny checkpoints in the exact key layout of every release, written from timm models.

Each writer takes a path and reference models and returns the path, so that a test can compare what
was loaded with the model the weights came from.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

State = dict[str, Tensor]


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Non-trivial values everywhere: a swapped or forgotten tensor changes the features."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor.ndim == 1:
            tensor.copy_((1.0 if name.endswith(("weight", "gamma")) else 0.0) + 0.2 * noise)
        else:
            tensor.copy_(0.08 * noise)
    return model.eval()


def sincos(dim: int, grid: int, order: str) -> Tensor:
    """[1, 1 + grid^2, D] table by MoCo v3's formula, in float64 loops."""
    quarter = dim // 4
    table = torch.zeros(1, 1 + grid * grid, dim, dtype=torch.float64)
    for row in range(grid):
        for column in range(grid):
            first, second = (row, column) if order == "row" else (column, row)
            for k in range(quarter):
                omega = 10000 ** (-k / quarter)
                values = (first * omega, first * omega, second * omega, second * omega)
                token = table[0, 1 + row * grid + column]
                for i, angle in enumerate(torch.tensor(values, dtype=torch.float64)):
                    token[i * quarter + k] = angle.sin() if i % 2 == 0 else angle.cos()
    return table.float()


def vit(
    seed: int = 0,
    *,
    dim: int = 64,
    depth: int = 2,
    heads: int = 1,
    patch: int = 8,
    img: int = 32,
    pos: str = "learned",
    **kwargs: Any,
) -> VisionTransformer:
    """A randomised timm ViT without classifier; pos "row" or "column" has the fixed table."""
    model = VisionTransformer(
        img_size=img,
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        num_classes=0,
        dynamic_img_size=True,
        **kwargs,
    )
    randomise(model, seed)
    if pos != "learned":
        model.pos_embed.data.copy_(sincos(dim, img // patch, pos))
    return model


def giant(seed: int = 0, **kwargs: Any) -> VisionTransformer:
    """The SwiGLU of DINOv2's ViT-g at toy size, registers optional."""
    return vit(seed, init_values=1.0, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, **kwargs)


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def mlp_head(prefix: str, seed: int = 9, *, layers: tuple[int, ...] = (0, 2)) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{prefix}{i}.{part}": torch.randn(*shape, generator=generator)
        for i in layers
        for part, shape in (("weight", (4, 4)), ("bias", (4,)))
    }


def _write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def plain(path: Path, model: nn.Module, *, classifier: bool = False) -> Path:
    """timm, and DINO's backbone-only files."""
    state = dict(model.state_dict())
    if classifier:
        state |= {"head.weight": torch.zeros(5, 4), "head.bias": torch.zeros(5)}
    return _write(path, state)


def deit(path: Path, model: nn.Module) -> Path:
    state = {**model.state_dict(), "head.weight": torch.zeros(5, 4), "head.bias": torch.zeros(5)}
    return _write(path, {"model": state})


def mae(path: Path, model: nn.Module) -> Path:
    """Pretraining file: encoder, mask token, decoder, args Namespace."""
    decoder = {
        "mask_token": torch.zeros(1, 1, 4),
        "decoder_pos_embed": torch.zeros(1, 17, 4),
        **mlp_head("decoder_blocks.", layers=(0,)),
        **mlp_head("decoder_embed.", layers=(0,)),
        "decoder_norm.weight": torch.zeros(4),
    }
    content = {
        "model": {**model.state_dict(), **decoder},
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 799,
        "args": argparse.Namespace(batch_size=64, model="mae_vit"),
    }
    return _write(path, content)


def dino(path: Path, student: nn.Module, teacher: nn.Module) -> Path:
    """Full training file: the student is under DDP, the teacher is not."""
    return _write(path, dino_content(student, teacher))


def dino_content(student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
    last = {"head.last_layer.weight_g": torch.ones(4, 1)}
    return {
        "student": prefixed(
            {**prefixed(student.state_dict(), "backbone."), **mlp_head("head.mlp."), **last},
            "module.",
        ),
        "teacher": {**prefixed(teacher.state_dict(), "backbone."), **mlp_head("head.mlp."), **last},
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=8, out_dim=4),
        "dino_loss": {"center": torch.zeros(1, 4)},
    }


def ibot(path: Path, student: nn.Module, teacher: nn.Module) -> Path:
    """As DINO, plus the patch head and, for the student, the mask embedding."""
    content = dino_content(student, teacher)
    content["student"] |= {
        "module.backbone.masked_embed": torch.zeros(1, 4),
        "module.head.last_layer2.weight_g": torch.ones(4, 1),
    }
    content["teacher"] |= {"head.last_layer2.weight_g": torch.ones(4, 1)}
    return _write(path, content)


def ibot_backbone(path: Path, model: nn.Module) -> Path:
    """The student of an iBOT release: `state_dict` with the mask embedding."""
    return _write(path, {"state_dict": {**model.state_dict(), "masked_embed": torch.zeros(1, 4)}})


def mocov3(path: Path, base: nn.Module, momentum: nn.Module, *, head: str = "head.") -> Path:
    state = {
        **prefixed({**base.state_dict(), **mlp_head(head, 1)}, "module.base_encoder."),
        **prefixed({**momentum.state_dict(), **mlp_head(head, 2)}, "module.momentum_encoder."),
        **mlp_head("module.predictor.", 3),
    }
    content = {"epoch": 300, "arch": "vit_small", "state_dict": state, "optimizer": {"state": {}}}
    return _write(path, content)


def sdssl_state(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor] | None, *, layers: int = 2
) -> State:
    """`state_dict` of the authors' Lightning module; without teacher it is SimCLR's."""
    state = prefixed(student, "student.net.")
    for i in range(layers):
        state |= mlp_head(f"student.projector.{i}.net.", i)
        state |= mlp_head(f"student.predictor.{i}.net.", i) if teacher is not None else {}
    if teacher is not None:
        state |= prefixed(teacher, "teacher.net.") | mlp_head("teacher.projector.net.")
    return state


def sdssl(path: Path, state: State, **more: Any) -> Path:
    content = {
        "epoch": 299,
        "global_step": 1000,
        "pytorch-lightning_version": "1.5.2",
        "state_dict": state,
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "lr_schedulers": [],
        **more,
    }
    return _write(path, content)


def with_norms(state: Mapping[str, Tensor], depth: int, seed: int, *, keep_norm: bool) -> State:
    """`norms.i.*` in place of (or beside, untouched) the shared `norm.*`."""
    generator = torch.Generator().manual_seed(seed)
    out = {k: v for k, v in state.items() if not k.startswith("norm.")}
    dim = state["norm.weight"].shape[0]
    for i in range(depth):
        out[f"norms.{i}.weight"] = 1 + 0.2 * torch.randn(dim, generator=generator)
        out[f"norms.{i}.bias"] = 0.2 * torch.randn(dim, generator=generator)
    if keep_norm:
        out |= {"norm.weight": torch.ones(dim), "norm.bias": torch.zeros(dim)}
    return out


def dinov2_state(model: VisionTransformer, *, chunked: bool = False) -> State:
    """DINOv2's own names from a timm model whose table covers class token and patches.

    For registers, `model` has no_embed_class; the class token's position is split off again.
    """
    out: State = {"mask_token": torch.zeros(1, model.embed_dim)}
    for key, value in model.state_dict().items():
        if _is_swiglu(model):
            key = key.replace("mlp.fc1.", "mlp.w12.").replace("mlp.fc2.", "mlp.w3.")
        if chunked and key.startswith("blocks."):
            key = key.replace("blocks.", "blocks.0.", 1)
        out[key] = value
    if "reg_token" in out:
        position = torch.full_like(out["cls_token"], 0.25)
        out["register_tokens"] = out.pop("reg_token")
        out["cls_token"] = out["cls_token"] - position
        out["pos_embed"] = torch.cat([position, out["pos_embed"]], dim=1)
    return out


def _is_swiglu(model: VisionTransformer) -> bool:
    fc1, fc2 = model.blocks[0].mlp.fc1, model.blocks[0].mlp.fc2
    return bool(fc1.out_features == 2 * fc2.in_features)


def names_of_huggingface(state: State) -> State:
    """What transformers writes to disk."""
    rules = [
        (r"^cls_token$", "embeddings.cls_token"), (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^norm\.", "layernorm."), (r"^blocks\.", "encoder.layer."),
        (r"\.norm1\.", ".layernorm_before."), (r"\.norm2\.", ".layernorm_after."),
        (r"\.attn\.proj\.", ".attention.output.dense."), (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ]  # fmt: skip
    out = {}
    for key, tensor in state.items():
        for pattern, name in rules:
            key = re.sub(pattern, name, key)
        if ".attn.qkv." in key:
            for which, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                out[key.replace("attn.qkv", f"attention.attention.{which}")] = part.clone()
        else:
            out[key] = tensor
    return {**out, "pooler.dense.weight": torch.zeros(4, 4)}
