"""The names of ViTs: timm's with DINOv2's and SDSSL's own, CLIP's, JAX's, and those of transformers."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from sdssl_bench.checkpoints.keys import State, depth_of, has_any
from sdssl_bench.checkpoints.renaming import HF_PARTS, Translated, fuse, grouped, renamed, without
from sdssl_bench.errors import DataError


def vit(state: State) -> Translated:
    """Timm's own names, and those of DINOv2, DINOv3 and SDSSL, which differ in some."""
    if "rope_embed.periods" in state:
        return _dinov3(state)
    if any(
        re.search(r"\.gamma_1|relative_position|rope\.freqs_|_ln\.|\.mlp\.fc1_g", k) for k in state
    ):
        return _eva(state)
    kept = renamed(
        state,
        [
            (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2's chunks of blocks
            (r"^(blocks\.\d+\.mlp\.)w12\.", r"\1fc1."),
            (r"^(blocks\.\d+\.mlp\.)w3\.", r"\1fc2."),
        ],
    )
    if "register_tokens" in kept:
        kept = _registers_after_positions(kept)
    return Translated(*_used_norm(kept))


def _eva(state: State) -> Translated:
    """BEiT's, EVA's and EVA-02's names; tables of indices and angles are fixed by the grid."""
    kept, unused = without(state, r".*relative_position_index|(.*\.)?rope\.freqs_(cos|sin)")
    apart = any(key.endswith(".attn.q_proj.weight") for key in kept)
    out = renamed(
        kept,
        [
            (r"\.attn\.inner_attn_ln\.", ".attn.norm."),
            (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
            (r"\.mlp\.w1\.", ".mlp.fc1_g."),
            (r"\.mlp\.w2\.", ".mlp.fc1_x."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
            *([(r"\.attn\.([qv])_bias$", r".attn.\1_proj.bias")] if apart else []),
        ],
    )
    return Translated(out, unused)


def _dinov3(state: State) -> Translated:
    """Meta's names of DINOv3 as timm's: rotary positions are fixed, the bias of keys is masked to zero."""
    periods = state["rope_embed.periods"].float()
    heads = state["cls_token"].shape[-1] // (4 * len(periods))
    exact = ROPE_BASE ** (torch.arange(len(periods)) / len(periods))
    constant = bool((periods == periods[0]).all())  # a placeholder: nobody rotates all alike
    if not constant and not torch.allclose(periods, exact, rtol=1e-2):
        raise DataError(
            f"'rope_embed.periods' is {periods.tolist()}, expected those of base {ROPE_BASE:.0f}: this "
            "DINOv3 has other rotary positions than the released ones."
        )
    kept, unused = without(
        state, r"rope_embed\.periods|.*\.attn\.qkv\.bias_mask|(local_)?cls_norm\..*"
    )
    kept = renamed(
        kept,
        [
            (r"^storage_tokens$", "reg_token"),
            (r"\.ls(\d)\.gamma$", r".gamma_\1"),
            (r"\.mlp\.w1\.", ".mlp.fc1_g."),
            (r"\.mlp\.w2\.", ".mlp.fc1_x."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
        ],
    )
    masks = {key.removesuffix("_mask"): state[key] for key in state if key.endswith("bias_mask")}
    kept, zero = _split_bias(kept, masks)
    return Translated(kept, {**unused, **zero}, {"heads": heads})


ROPE_BASE = 100.0
"""Of DINOv3's rotary positions."""


def _split_bias(state: State, masks: State) -> tuple[State, dict[str, int]]:
    """`attn.qkv.bias` as timm's `q_bias` and `v_bias`, or left out where all of them are zero."""
    out = {key: tensor for key, tensor in state.items() if not key.endswith(".attn.qkv.bias")}
    found = {key: tensor for key, tensor in state.items() if key not in out}
    masked = {k: torch.where(masks[k] == 0, 0, t) if k in masks else t for k, t in found.items()}
    if not any(bool(tensor.any()) for tensor in masked.values()):
        return out, grouped(found)
    for key, tensor in masked.items():
        query, middle, value = tensor.chunk(3)
        if bool(middle.any()):
            raise DataError(f"'{key}' has a bias of keys, which this family has not.")
        stem = key.removesuffix("qkv.bias")
        out[f"{stem}q_bias"], out[f"{stem}v_bias"] = query, value
    return out, {}


def hf_dinov3(state: State) -> Translated:
    """DINOv3's ViT of transformers, plain or gated."""
    kept, unused = without(state, r"embeddings\.mask_token")
    out = renamed(
        kept,
        [
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.register_tokens$", "reg_token"),
            (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
            (r"^(?:model\.)?layer\.", "blocks."),
            (r"\.layer_scale(\d)\.lambda1$", r".gamma_\1"),
            (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
            (r"\.attention\.o_proj\.", ".attn.proj."),
            (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
            (r"\.mlp\.up_proj\.", ".mlp.fc1_x." if has_gate(kept) else ".mlp.fc1."),
            (r"\.mlp\.down_proj\.", ".mlp.fc2."),
        ],
    )
    if "reg_token" in out and out["reg_token"].shape[1] == 0:
        del out["reg_token"]
    out, zero = _split_bias(fuse(out), {})
    return Translated(out, {**unused, **zero})


def hf_beit(state: State) -> Translated:
    """BEiT and data2vec of transformers; a norm of the pooled feature is timm's fc_norm."""
    kept, unused = without(state, r"embeddings\.mask_token|.*relative_position_index")
    table = "relative_position_bias_table"
    out = renamed(
        kept,
        [
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (rf"^(?:encoder\.)?relative_position_bias\.{table}$", f"rel_pos_bias.{table}"),
            (rf"\.attention\.(?:attention\.)?relative_position_bias\.{table}$", f".attn.{table}"),
            (r"\.lambda_(\d)$", r".gamma_\1"),
            (r"^pooler\.layernorm\.", "fc_norm."),
            *_HF_BLOCK,
        ],
    )
    out, zero = _split_bias(fuse(out), {})
    return Translated(out, {**unused, **zero})


def has_gate(state: State) -> bool:
    """Whether the MLPs are gated, by transformers' names."""
    return any(".mlp.gate_proj." in key for key in state)


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
    return Translated(out, unused, {"norm_eps": 1e-5})


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
    *HF_PARTS,
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
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
