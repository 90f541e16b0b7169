"""Last step: proves that an encoder holds the checkpoint's weights, all of them, and states its facts."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sdssl_bench import encoders
from sdssl_bench.checkpoints.freshness import Freshness, examine
from sdssl_bench.checkpoints.heads import heads_by_release
from sdssl_bench.checkpoints.infer import Config
from sdssl_bench.checkpoints.keys import State, listing
from sdssl_bench.checkpoints.recognise import Release
from sdssl_bench.encoders import Encoder, HookedEncoder, StagesEncoder, ViTEncoder
from sdssl_bench.errors import DataError, UsageError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_FROZEN_PATCH = ("mocov3", "sdssl")


@dataclass(frozen=True, eq=False)
class Report:
    """What is known of an encoder for certain.

    Attributes:
        encoder: the encoder, filled.
        arch: canonical architecture.
        weights_sha256: identity of its weights.
        fixed: beginnings of the names of tensors that training never changes.
        details: recorded facts, JSON values.
    """

    encoder: Encoder
    arch: str
    weights_sha256: str
    fixed: tuple[str, ...]
    details: dict[str, Any]

    @cached_property
    def freshness(self) -> Freshness:
        """The weights beside a fresh initialisation, compared when somebody asks."""
        return examine(self.encoder, self.fixed)


def verify(encoder: Encoder, release: Release, config: Config) -> Report:
    """Fills a built encoder (a live module has its weights) and holds it against what is claimed of it.

    Raises:
        DataError: if a tensor is missing, unexpected, of another shape or type, or not finite.
        UsageError: if an option contradicts the architecture or does not apply to it.
    """
    keys = {}
    if release.state is not None:
        state = check_values(release.state, source=release.source)
        expected = encoder.backbone_state()
        state, classifier = _without_classifier(encoder, state, expected)
        state |= {name: expected[name] for name in config.recomputed}
        check_keys(expected, state, source=release.source)
        encoder.load_backbone(state)
        dropped = {**release.dropped, **classifier}
        keys = {
            "keys": {"loaded": len(release.state) - sum(classifier.values()), "dropped": dropped}
        }
    arch = config.arch or _arch_of(encoder)
    _confirm(encoder, arch, release, config)
    facts = _facts(encoder)
    sincos = str(facts.get("pos", "")).startswith("sincos")
    return Report(
        encoder,
        arch,
        digest_of_module(encoder),
        ("pos_embed",) * sincos + ("patch_embed.proj.",) * (release.format in _FROZEN_PATCH),
        {
            **facts,
            **config.details,
            "networks": list(release.networks),
            "epoch": release.epoch,
            **keys,
        },
    )


def _without_classifier(
    encoder: Encoder, state: State, expected: Mapping[str, Tensor]
) -> tuple[State, dict[str, int]]:
    """Leaves out what timm calls the architecture's classifier, which an encoder has none of."""
    if not isinstance(encoder, StagesEncoder):
        return state, {}
    named = (getattr(encoder.model, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = [f"{name}." for name in ([named] if isinstance(named, str) else named)]
    dropped = {
        head: sum(key.startswith(head) for key in state)
        for head in heads
        if not any(key.startswith(head) for key in expected)
    }
    kept = {key: v for key, v in state.items() if not key.startswith(tuple(dropped))}
    return kept, {head: count for head, count in dropped.items() if count}


def check_values(state: Mapping[str, Tensor], *, source: str) -> State:
    """The tensors as float32, proven to be dense, floating and finite.

    Counters of batch norm (`num_batches_tracked`) stay integers.

    Raises:
        DataError: naming the tensors that are of another type or hold NaN or infinity.
    """
    wrong: list[str] = []
    broken: list[str] = []
    out: State = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            out[key] = tensor
        elif tensor.layout is not torch.strided or tensor.dtype not in _FLOATS:
            wrong.append(f"{key} ({str(tensor.dtype).removeprefix('torch.')})")
        else:
            out[key] = tensor.float()
            if not torch.isfinite(out[key]).all():
                broken.append(key)
    if wrong:
        raise DataError(
            f"{source}: expected float16, bfloat16, float32 or float64 weights, "
            f"found {listing(wrong)}."
        )
    if broken:
        raise DataError(
            f"{source}: NaN or infinite values in {listing(broken)}; training diverged?"
        )
    return out


def check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], *, source: str) -> None:
    """Proves that a state dict fits a backbone: every tensor, in name and shape, and nothing else.

    Args:
        expected: the backbone's own state dict.
        state: the checkpoint's tensors under the same names.
        source: what error messages call the checkpoint.

    Raises:
        DataError: listing missing, unexpected and mismatched keys, and the coverage.
    """
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    mismatched = [
        f"{key} (expected {tuple(expected[key].shape)}, found {tuple(state[key].shape)})"
        for key in sorted(expected.keys() & state.keys())
        if expected[key].shape != state[key].shape
    ]
    if not (missing or unexpected or mismatched):
        return
    fitting = len(expected) - len(missing) - len(mismatched)
    wrong = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    raise DataError(
        f"{source} does not fit its architecture: {fitting} of {len(expected)} backbone tensors "
        f"({100 * fitting / max(1, len(expected)):.1f} %) are covered, expected 100 % and no others.\n"
        + "".join(f"  {len(n)} {title}: {listing(n)}\n" for title, n in wrong.items() if n)
        + "If it is of another architecture, name it with --arch (a timm name); otherwise the file "
        "is incomplete or not a plain backbone."
    )


def _confirm(encoder: Encoder, arch: str, release: Release, config: Config) -> None:
    """What the user said of the architecture must be so, and a release's head count needs no doubt."""
    options, source, heads = config.options, release.source, _heads_of(encoder)
    options.agree("arch", arch, what=source)
    if heads is None:
        options.refuse("heads", "patch_size", because=f"{source} is no ViT")
        return
    what = f"--arch {options.arch}" if options.arch else source
    options.agree("heads", heads, what=what)
    options.agree("patch_size", encoder.stride, what=what)
    if options.arch and options.heads is None and release.format in _FROZEN_PATCH:
        known, why = heads_by_release(release.format, encoder.dims[0], "sincos-row")
        if known not in (None, heads):
            raise UsageError(
                f"--arch {options.arch} has {heads} heads, but {source} is of a release with "
                f"{known} ({why}). Leave --arch out, or confirm with --heads {heads}."
            )


def _heads_of(encoder: Encoder) -> int | None:
    """Attention heads of a ViT, None for an architecture without."""
    blocks = getattr(getattr(encoder, "model", encoder), "blocks", None)
    attention = getattr(blocks[0], "attn", None) if blocks is not None and len(blocks) else None
    heads = getattr(attention, "num_heads", None)
    return int(heads) if heads is not None else None


def _arch_of(encoder: Encoder) -> str:
    """Canonical name, with the head count where heads are not 64 wide.

    Two readings of one file with 6 and with 12 heads have the same weights; their records differ
    by this name.
    """
    name, heads = encoders.arch_name(encoder), _heads_of(encoder)
    usual = heads is None or heads * 64 == encoder.dims[0]
    return name if usual else f"{name}_heads{heads}"


def _facts(encoder: Encoder) -> dict[str, Any]:
    """What every record says of an encoder, however it came to be; JSON values."""
    found: dict[str, Any] = {
        "depth": encoder.depth,
        "dims": list(encoder.dims),
        "input_size": encoder.input_size,
        "norm": encoder.norm,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "cls_source": encoder.cls_source,
    }
    if isinstance(encoder, StagesEncoder | HookedEncoder):
        found |= {"stages": list(encoder.stages), "strides": list(encoder.strides)}
    if isinstance(encoder, ViTEncoder):
        found |= {
            "heads": _heads_of(encoder),
            "patch_size": encoder.stride,
            "pos": encoder.pos,
            "img_size": encoder.grid[0] * encoder.stride,
            "reg_tokens": int(getattr(encoder.model, "num_reg_tokens", 0)),
        }
    return found


def digest_of_state(state: Mapping[str, Tensor]) -> str:
    """sha256 over the tensors in order of their names; independent of file format and device."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        flat = tensor.cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_of_module(module: nn.Module) -> str:
    """`digest_of_state` of a module's parameters and persistent buffers as they are now."""
    return digest_of_state(module.state_dict())
