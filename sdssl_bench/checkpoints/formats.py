"""The checkpoint formats, one adapter each: what a file's keys say about whose release it is.

An adapter looks at the content of a file and returns a `Release`, or None if the format is not its
own. They are tried in the order of `ADAPTERS`, the most distinctive marks first, so that the general
ones (`resnet`, `timm`) see only what nobody else claims. Key layouts: the releases' own code, read
for facts (dino 7c446df, ibot da316d8, dinov2 b8931f7, mae efb2a80, deit 7e160fe; hagiss/SDSSL, all
branches; MoCo v3 as described in its issues 5, 7 and 30).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sdssl_bench.checkpoints.keys import as_state, has_any, number, select, strip_wrappers
from sdssl_bench.checkpoints.reading import CheckpointFile


@dataclass(frozen=True, eq=False)
class Network:
    """One evaluable network of a checkpoint.

    Attributes:
        state: backbone tensors under their timm names (plus whatever nobody expected).
        dropped: number of tensors left out under each named prefix.
    """

    state: dict[str, Tensor]
    dropped: dict[str, int]


@dataclass(frozen=True, eq=False)
class Release:
    """A recognised checkpoint.

    Attributes:
        format: name of the adapter that claims it.
        networks: what could be evaluated, by name.
        default: the network that this release's own evaluation uses.
        input_size: side the release is evaluated on; None = that of its position table.
        epoch: recorded by the file, if any.
        hints: facts the file states about its architecture ("heads", ...).
    """

    format: str
    networks: dict[str, Network]
    default: str
    input_size: int | None = 224
    epoch: int | float | None = None
    hints: Mapping[str, Any] = field(default_factory=dict)


def sdssl(file: CheckpointFile) -> Release | None:
    """SDSSL authors' Lightning files: `student.net.*` and `teacher.net.*` beside their heads.

    The EMA teacher is evaluated; SimCLR has none, so there it is the student (protocols 0.1).
    """
    state = as_state(file.content.get("state_dict"))
    if state is None or not has_any(state, "student.net."):
        return None
    names = [n for n in ("student", "teacher") if has_any(state, f"{n}.net.")]
    networks = {
        name: Network(
            *select(
                state,
                f"{name}.net.",
                drop=[
                    *(f"{n}.{head}." for n in names for head in ("projector", "predictor")),
                    *(f"{n}.net." for n in names if n != name),
                    f"{name}.net.fc.",
                ],
            )
        )
        for name in names
    }
    parameters = file.content.get("hyper_parameters")
    return Release(
        "sdssl",
        networks,
        default=names[-1],
        epoch=number(file.content.get("epoch")),
        hints=_stated_heads(parameters),
    )


def mocov3(file: CheckpointFile) -> Release | None:
    """MoCo v3: query encoder (`base_encoder`, evaluated by its authors) and momentum encoder.

    Their `head` (`fc` of the ResNet) is the projector, not a classifier.
    """
    state = as_state(file.content.get("state_dict"))
    state = strip_wrappers(state) if state else {}
    encoders = {"base": "base_encoder.", "momentum": "momentum_encoder."}
    found = {name: prefix for name, prefix in encoders.items() if has_any(state, prefix)}
    if not found:
        return None
    networks = {
        name: Network(
            *select(
                state,
                prefix,
                drop=[
                    f"{prefix}head.",
                    f"{prefix}fc.",
                    "predictor.",
                    *(p for p in found.values() if p != prefix),
                ],
            )
        )
        for name, prefix in found.items()
    }
    default = "base" if "base" in networks else "momentum"
    return Release("mocov3", networks, default, epoch=number(file.content.get("epoch")))


def dino(file: CheckpointFile) -> Release | None:
    """DINO, iBOT and DINOv2 training files: `student` and/or `teacher` state dicts with heads.

    The teacher is evaluated. iBOT is told by its second head or mask embedding, DINOv2 by its
    head names.
    """
    states = {name: as_state(file.content.get(name)) for name in ("teacher", "student")}
    found = {name: strip_wrappers(state) for name, state in states.items() if state}
    if not found:
        return None
    keys = {key for state in found.values() for key in state}
    ibot_marks = ("head.last_layer2.", "head.mlp2.", "backbone.masked_embed", "masked_embed")
    if any(has_any(keys, mark) for mark in ("dino_head.", "ibot_head.")):
        form = "dinov2"
    else:
        form = "ibot" if any(has_any(keys, mark) for mark in ibot_marks) else "dino"
    networks = {name: _with_heads(state) for name, state in found.items()}
    if form == "dinov2":
        networks = {name: _as_timm_dinov2(network) for name, network in networks.items()}
    return Release(
        form,
        networks,
        default="teacher" if "teacher" in networks else "student",
        epoch=number(file.content.get("epoch")),
    )


def dinov2(file: CheckpointFile) -> Release | None:
    """DINOv2 backbones: a mask or register token, or layer scale with the 37 x 37 position table."""
    for name, network in _plain_networks(file).items():
        table = network.state.get("pos_embed")
        scaled = "blocks.0.ls1.gamma" in network.state or "blocks.0.0.ls1.gamma" in network.state
        marked = scaled and (
            has_any(network.state, "mask_token")
            or has_any(network.state, "register_tokens")
            or (table is not None and table.ndim == 3 and table.shape[1] in (1369, 1370))
        )
        if marked:
            return Release("dinov2", {name: _as_timm_dinov2(network)}, name)
    return None


def mae(file: CheckpointFile) -> Release | None:
    """MAE pretraining files: `model` with an encoder, a mask token and a decoder that is dropped."""
    networks = {
        name: network
        for name, network in _plain_networks(file).items()
        if has_any(network.state, "decoder_embed.") or has_any(network.state, "decoder_blocks.")
    }
    kept = {}
    for name, network in networks.items():
        state, dropped = select(network.state, "", drop=["decoder_", "mask_token"])
        kept[name] = Network(state, {**network.dropped, **dropped})
    if not kept:
        return None
    return Release("mae", kept, next(iter(kept)), epoch=number(file.content.get("epoch")))


def ibot(file: CheckpointFile) -> Release | None:
    """Backbones of iBOT saved alone: `state_dict` (or plain) with its mask embedding."""
    networks = {
        name: Network(*_drop_more(network, "masked_embed"))
        for name, network in _plain_networks(file).items()
        if "masked_embed" in network.state
    }
    return Release("ibot", networks, next(iter(networks))) if networks else None


def resnet(file: CheckpointFile) -> Release | None:
    """ResNet state dicts of timm and torchvision, which name their tensors alike; `fc` is dropped."""
    networks = {
        name: Network(*_drop_more(network, "fc."))
        for name, network in _plain_networks(file).items()
        if has_any(network.state, "layer1.0.") and has_any(network.state, "bn1.")
    }
    return _plain_release("resnet", networks, file)


def timm(file: CheckpointFile) -> Release | None:
    """ViT state dicts with timm's names: timm, DeiT, and DINO backbones saved alone."""
    networks = {
        name: network
        for name, network in _plain_networks(file).items()
        if has_any(network.state, "blocks.0.") and has_any(network.state, "patch_embed.")
    }
    return _plain_release("timm", networks, file)


Adapter = Callable[[CheckpointFile], Release | None]

ADAPTERS: dict[str, Adapter] = {
    "sdssl": sdssl,
    "mocov3": mocov3,
    "dino": dino,
    "dinov2": dinov2,
    "ibot": ibot,
    "mae": mae,
    "resnet": resnet,
    "timm": timm,
}
"""In the order they are tried, after our own format (`native`), which metadata mark."""


def _plain_networks(file: CheckpointFile) -> dict[str, Network]:
    """State dicts of a file that holds one model: bare, or under the usual names."""
    places = {
        "model": ("state_dict", "model"),
        "ema": ("state_dict_ema", "model_ema"),
    }
    bare = as_state(file.content)
    found = {"model": bare} if bare else {}
    for name, keys in places.items():
        for key in keys:
            state = as_state(file.content.get(key))
            if state and name not in found:
                found[name] = state
    return {name: _with_heads(strip_wrappers(state)) for name, state in found.items()}


def _with_heads(state: dict[str, Tensor]) -> Network:
    """Backbone of `backbone.*` beside heads, or of a bare state dict with a classifier or head."""
    heads = ["head.", "head_dist.", "dino_head.", "ibot_head."]
    keep = "backbone." if has_any(state, "backbone.") else ""
    return Network(
        *select(state, keep, drop=[*heads, *(keep + head for head in heads[:1] if keep)])
    )


def _drop_more(network: Network, *prefixes: str) -> tuple[dict[str, Tensor], dict[str, int]]:
    state, dropped = select(network.state, "", drop=prefixes)
    return state, {**network.dropped, **dropped}


def _plain_release(form: str, networks: dict[str, Network], file: CheckpointFile) -> Release | None:
    if not networks:
        return None
    default = "model" if "model" in networks else next(iter(networks))
    epoch = number(file.content.get("epoch"))
    return Release(form, networks, default, input_size=None, epoch=epoch)


def _as_timm_dinov2(network: Network) -> Network:
    """DINOv2's names and token order in timm's terms; the function computed is the same.

    Chunked blocks (`blocks.chunk.index.`) keep their index. SwiGLU's w12 and w3 are timm's fc1 and
    fc2. With registers, timm adds no position to the prefix tokens, so the class token's own
    position is folded into the class token.
    """
    state, dropped = _drop_more(network, "mask_token")
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        key = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key)
        key = re.sub(r"^(blocks\.\d+\.mlp\.)w12\.", r"\1fc1.", key)
        renamed[re.sub(r"^(blocks\.\d+\.mlp\.)w3\.", r"\1fc2.", key)] = tensor
    if "register_tokens" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
        table = renamed["pos_embed"]
        renamed["cls_token"] = renamed["cls_token"] + table[:, :1]
        renamed["pos_embed"] = table[:, 1:]
    return Network(renamed, dropped)


def _stated_heads(parameters: object) -> dict[str, int]:
    """A head count that hyper-parameters state outright, e.g. Lightning's `hyper_parameters`."""
    found = parameters if isinstance(parameters, Mapping) else getattr(parameters, "__dict__", {})
    for key in ("num_heads", "n_heads", "heads"):
        value = found.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return {"heads": value}
    return {}
