"""What is known of each release's files: where they keep which network, and under which names.

A release is a `Layout`. They are tried in order, the most distinctive first, so that the general ones
(`resnet`, `timm`) see only what nobody else claims. Sources: the releases' own code, read for facts (dino
7c446df, ibot da316d8, dinov2 b8931f7, mae efb2a80, deit 7e160fe; hagiss/SDSSL, all branches; MoCo v3 as
described in its issues 5, 7 and 30).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sdssl_bench.checkpoints.files import CheckpointFile
from sdssl_bench.checkpoints.keys import (
    State,
    as_state,
    depth_of,
    has_any,
    select,
    strip_wrappers,
)
from sdssl_bench.encoders import classify_pos_embed
from sdssl_bench.errors import DataError

Translated = tuple[State, Mapping[str, int]]
"""Tensors under timm's names, and how many more were left out under which prefix."""


def _as_is(state: State) -> Translated:
    return state, {}


def _any_of(*prefixes: str) -> Callable[[State], bool]:
    return lambda state: any(has_any(state, prefix) for prefix in prefixes)


def _all_of(*prefixes: str) -> Callable[[State], bool]:
    return lambda state: all(has_any(state, prefix) for prefix in prefixes)


@dataclass(frozen=True)
class Layout:
    """How the files of a release are laid out.

    Attributes:
        format: its name; several layouts may share one.
        networks: name -> (top-level keys that may hold it, prefixes that its backbone may have there); ""
            is the file itself, or no prefix. The first that is there counts.
        evaluated: the network that the release's own evaluation uses.
        is_it: whether tensors are this release's, given under the file's names and without the prefix;
            `bool`: where they lie says enough.
        beside: prefixes of what stands beside a backbone, "*" standing for the backbone's own prefix.
        unused: prefixes, in the backbone, of what only pretraining needs.
        translate: to timm's names and layout.
        input_size: see `Release`.
        parameters: top-level key of hyper-parameters that may state the head count.
    """

    format: str
    networks: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    evaluated: str
    is_it: Callable[[State], bool] = bool
    beside: tuple[str, ...] = ("head.", "head_dist.", "dino_head.", "ibot_head.", "*head.")
    unused: tuple[str, ...] = ()
    translate: Callable[[State], Translated] = _as_is
    input_size: int | None = 224
    parameters: str = ""

    def networks_of(self, file: CheckpointFile) -> dict[str, tuple[State, dict[str, int]]]:
        """Its networks in a file and what was left out of each; none if the file is another's."""
        found, ours = {}, False
        prefixes = {prefix for _, own in self.networks.values() for prefix in own}
        for name, (keys, own) in self.networks.items():
            states = [
                as_state(file.content if key == "" else file.content.get(key)) for key in keys
            ]
            for whole, prefix in ((strip_wrappers(s), p) for s in states if s for p in own):
                if not has_any(whole, prefix):
                    continue
                drop = [part.replace("*", prefix) for part in self.beside]
                state, dropped = select(whole, prefix, drop=[*drop, *(prefixes - {prefix, ""})])
                ours = ours or self.is_it(whole | state)
                state, unused = select(state, "", drop=self.unused)
                found[name] = state, dropped | unused
                break
        return found if ours else {}


def _used_norm(state: State) -> Translated:
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


def _from_dinov2(state: State) -> Translated:
    """DINOv2's names and token order in timm's terms; the function computed is the same.

    Chunked blocks (`blocks.chunk.index.`) keep their index. SwiGLU's w12 and w3 are timm's fc1 and
    fc2. With registers, timm adds no position to the prefix tokens, so the class token's own
    position is folded into the class token.
    """
    renamed: State = {}
    for key, tensor in state.items():
        key = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key)
        key = re.sub(r"^(blocks\.\d+\.mlp\.)w12\.", r"\1fc1.", key)
        renamed[re.sub(r"^(blocks\.\d+\.mlp\.)w3\.", r"\1fc2.", key)] = tensor
    if "register_tokens" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
        table = renamed["pos_embed"]
        renamed["cls_token"] = renamed["cls_token"] + table[:, :1]
        renamed["pos_embed"] = table[:, 1:]
    return renamed, {}


def _is_dinov2(state: State) -> bool:
    """Layer scale, with a mask or register token or the 37 x 37 position table."""
    table = state.get("pos_embed")
    return ("blocks.0.ls1.gamma" in state or "blocks.0.0.ls1.gamma" in state) and (
        _any_of("mask_token", "register_tokens")(state)
        or (table is not None and table.ndim == 3 and table.shape[1] in (1369, 1370))
    )


def _is_mae_alone(state: State) -> bool:
    """An encoder of MAE's without its decoder: a plain ViT with MAE's order of fixed positions."""
    table = state.get("pos_embed")
    return (
        _is_vit(state)
        and table is not None
        and table.ndim == 3
        and classify_pos_embed(table) == "sincos-column"
    )


_is_vit = _all_of("blocks.0.", "patch_embed.")
_SDSSL = {name: (("state_dict",), (f"{name}.net.",)) for name in ("student", "teacher")}
_MOCOV3 = {name: (("state_dict",), (f"{name}_encoder.",)) for name in ("base", "momentum")}
_PAIR = {name: ((name,), ("backbone.", "")) for name in ("teacher", "student")}
_ONE = {
    "model": (("", "state_dict", "model"), ("backbone.", "")),
    "ema": (("state_dict_ema", "model_ema"), ("backbone.", "")),
}

LAYOUTS = (
    # SDSSL's authors: Lightning files. SimCLR has no teacher, so there it is the student (protocols 0.1).
    Layout(
        "sdssl",
        _SDSSL,
        "teacher",
        beside=(
            *(f"{name}.{head}." for name in _SDSSL for head in ("projector", "predictor")),
            "*fc.",
        ),
        translate=_used_norm,
        parameters="hyper_parameters",
    ),
    # The query encoder is evaluated by its authors; `head` (`fc` of the ResNet) is the projector.
    Layout("mocov3", _MOCOV3, "base", beside=("*head.", "*fc.", "predictor.")),
    # Training files of DINO and its heirs. DINOv2 is told by its head names, iBOT by its second head or
    # mask embedding.
    Layout(
        "dinov2",
        _PAIR,
        "teacher",
        _any_of("dino_head.", "ibot_head."),
        unused=("mask_token",),
        translate=_from_dinov2,
    ),
    Layout(
        "ibot",
        _PAIR,
        "teacher",
        _any_of("head.last_layer2.", "head.mlp2.", "masked_embed"),
        unused=("masked_embed",),
    ),
    Layout("dino", _PAIR, "teacher"),
    # Backbones saved alone, bare or under the usual names; MAE's with its decoder.
    Layout("dinov2", _ONE, "model", _is_dinov2, unused=("mask_token",), translate=_from_dinov2),
    Layout("ibot", _ONE, "model", _any_of("masked_embed"), unused=("masked_embed",)),
    Layout(
        "mae",
        _ONE,
        "model",
        _any_of("decoder_embed.", "decoder_blocks."),
        unused=("decoder_", "mask_token"),
    ),
    Layout("mae", _ONE, "model", _is_mae_alone, input_size=None),
    # timm and torchvision name the tensors of a ResNet alike.
    Layout("resnet", _ONE, "model", _all_of("layer1.0.", "bn1."), unused=("fc.",), input_size=None),
    # timm, DeiT, and DINO backbones saved alone.
    Layout("timm", _ONE, "model", _is_vit, translate=_used_norm, input_size=None),
)
