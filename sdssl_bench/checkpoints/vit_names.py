"""The names of ViTs: timm's with DINOv2's and SDSSL's own, CLIP's, JAX's, and those of transformers."""

import re
from collections.abc import Mapping

from torch import Tensor

from sdssl_bench.checkpoints.keys import State, depth_of, has_any
from sdssl_bench.checkpoints.renaming import Translated, fuse, renamed, without
from sdssl_bench.errors import DataError


def vit(state: State) -> Translated:
    """Timm's own names, and those of DINOv2 and SDSSL, which differ in some."""
    kept, _ = without(state, "(?!)")
    kept = renamed(
        kept,
        [
            (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2's chunks of blocks
            (r"^(blocks\.\d+\.mlp\.)w12\.", r"\1fc1."),
            (r"^(blocks\.\d+\.mlp\.)w3\.", r"\1fc2."),
        ],
    )
    if "register_tokens" in kept:
        kept = _registers_after_positions(kept)
    kept, unused = _used_norm(kept)
    return Translated(kept, unused)


def _registers_after_positions(state: State) -> State:
    """DINOv2 adds positions before it inserts registers; timm gives prefix tokens none.

    So the class token's own position is folded into the class token: the function computed is the same.
    """
    out = dict(state)
    out["reg_token"] = out.pop("register_tokens")
    table = out["pos_embed"]
    out["cls_token"] = out["cls_token"] + table[:, :1]
    out["pos_embed"] = table[:, 1:]
    return out


def _used_norm(state: State) -> tuple[State, Mapping[str, int]]:
    """For SDSSL files with both `norm.*` and `norms.i.*`: leaves the one the last layer used.

    Some versions of the authors' code build both and apply `norms[-1]` to the last layer, two apply
    `norm`; the unused one gets no gradient and is still exactly weight 1, bias 0. The result has
    `norms.i.*` only.

    Raises:
        DataError: if both were trained, so that the last layer's norm is unknown.
    """
    if "norm.weight" not in state or not has_any(state, "norms."):
        return state, {}
    last = f"norms.{depth_of(state) - 1}."
    out = {key: value for key, value in state.items() if not key.startswith("norm.")}
    if _untouched(state, "norm."):
        return out, {"norm.": len(state) - len(out)}
    if not _untouched(state, last):
        raise DataError(
            f"The checkpoint has both 'norm.*' and '{last}*', both trained: which of them normalised "
            "the last layer is unknown."
        )
    return out | {last + part: state["norm." + part] for part in ("weight", "bias")}, {last: 2}


def _untouched(state: State, prefix: str) -> bool:
    weight, bias = state.get(prefix + "weight"), state.get(prefix + "bias")
    return (
        weight is not None and bias is not None and bool((weight == 1).all() and (bias == 0).all())
    )


def clip(state: State) -> Translated:
    """The visual tower of OpenAI's CLIP and of open_clip: a norm before the blocks, a projection after."""
    kept, unused = without(state, "proj")
    out = renamed(
        kept,
        [
            (r"^conv1\.", "patch_embed.proj."),
            (r"^class_embedding$", "cls_token"),
            (r"^positional_embedding$", "pos_embed"),
            (r"^ln_pre\.", "norm_pre."),
            (r"^ln_post\.", "norm."),
            (r"^transformer\.resblocks\.", "blocks."),
            (r"\.ln_(\d)\.", r".norm\1."),
            (r"\.attn\.in_proj_", ".attn.qkv."),
            (r"\.attn\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.c_fc\.", ".mlp.fc1."),
            (r"\.mlp\.c_proj\.", ".mlp.fc2."),
            (r"\.ls_(\d)\.", r".ls\1."),
        ],
    )
    out["cls_token"] = out["cls_token"].reshape(1, 1, -1)
    out["pos_embed"] = out["pos_embed"][None]
    return Translated(out, unused, {"norm_eps": 1e-5, "pre_norm": True})


def npz(state: State) -> Translated:
    """The JAX ViTs of vision_transformer and big_vision: kernels are [in, out], heads have an axis."""
    heads, out = 0, {}
    for key, tensor in state.items():
        if re.search(r"/(query|key|value)/kernel$", key):
            heads = tensor.shape[1]
        out[key] = _torch_order(key, tensor)
    out = renamed(
        out,
        [
            (r"/", "."),
            (r"^embedding\.kernel$", "patch_embed.proj.weight"),
            (r"^embedding\.bias$", "patch_embed.proj.bias"),
            (r"^cls$", "cls_token"),
            (r"^Transformer\.posembed_input\.pos_embedding$", "pos_embed"),
            (r"^Transformer\.encoder_norm\.", "norm."),
            (r"^Transformer\.encoderblock_(\d+)\.", r"blocks.\1."),
            (r"\.LayerNorm_0\.", ".norm1."),
            (r"\.LayerNorm_2\.", ".norm2."),
            (r"\.MlpBlock_\d+\.Dense_0\.", ".mlp.fc1."),
            (r"\.MlpBlock_\d+\.Dense_1\.", ".mlp.fc2."),
            (r"\.MultiHeadDotProductAttention_\d+\.", ".attn."),
            (r"\.attn\.query\.", ".attn.q."),
            (r"\.attn\.key\.", ".attn.k."),
            (r"\.attn\.value\.", ".attn.v."),
            (r"\.attn\.out\.", ".attn.proj."),
            (r"\.(kernel|scale)$", ".weight"),
        ],
    )
    return Translated(fuse(out), {}, {"heads": heads} if heads else {})


def _torch_order(key: str, tensor: Tensor) -> Tensor:
    if re.search(r"/(query|key|value)/kernel$", key):
        return tensor.flatten(1).T
    if re.search(r"/(query|key|value)/bias$", key):
        return tensor.flatten()
    if key.endswith("/out/kernel"):
        return tensor.flatten(0, 1).T
    if key == "embedding/kernel":
        return tensor.permute(3, 2, 0, 1)
    return tensor.T if key.endswith("/kernel") else tensor


_HF_BLOCK = (
    (r"^(?:encoder\.)?layers?\.", "blocks."),
    (r"\.attention\.(?:attention\.)?q(?:uery|_proj)\.", ".attn.q."),
    (r"\.attention\.(?:attention\.)?k(?:ey|_proj)\.", ".attn.k."),
    (r"\.attention\.(?:attention\.)?v(?:alue|_proj)\.", ".attn.v."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
"""Hugging Face's names, those on disk and those of version 5 in memory."""


def hf_vit(state: State) -> Translated:
    """ViT, DeiT, MAE, MSN, I-JEPA and DINOv2 (with registers) of transformers."""
    kept, unused = without(state, r"embeddings\.mask_token")
    out = renamed(
        kept,
        [
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.distillation_token$", "dist_token"),
            (r"^embeddings\.register_tokens$", "register_tokens"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            *_HF_BLOCK,
        ],
    )
    if "register_tokens" in out:
        out = _registers_after_positions(out)
    return Translated(fuse(out), unused)
