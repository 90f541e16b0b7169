"""Renaming of tensors: by rules, with nothing lost, and query, key and value put together."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sdssl_bench.checkpoints.keys import State
from sdssl_bench.errors import DataError

Rules = Sequence[tuple[str, str]]
"""Regular expressions of names, and what replaces them; all are applied, in their order."""


@dataclass(frozen=True, eq=False)
class Translated:
    """A backbone under timm's names.

    Attributes:
        state: its tensors.
        unused: how many were left out under which name: they take no part in evaluation.
        stated: facts that the names or tensors tell: "heads", "norm_eps", "quick_gelu".
    """

    state: State
    unused: Mapping[str, int] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)


HF_PARTS = (
    (r"\.attention\.(?:attention\.|self\.)?q(?:uery|_proj)\.", ".attn.q."),
    (r"\.attention\.(?:attention\.|self\.)?k(?:ey|_proj)\.", ".attn.k."),
    (r"\.attention\.(?:attention\.|self\.)?v(?:alue|_proj)\.", ".attn.v."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
"""What transformers calls the parts of a block, on disk and, since version 5, in memory."""


def renaming(*rules: tuple[str, str], unused: str = "(?!)") -> Callable[[State], Translated]:
    """A translation by rules alone; q, k and v that come apart become one."""

    def translate(state: State) -> Translated:
        kept, dropped = without(state, unused)
        return Translated(fuse(renamed(kept, rules)), dropped)

    return translate


def renamed(state: State, rules: Rules) -> State:
    """Every name by all rules in turn.

    Raises:
        DataError: if two tensors come to one name.
    """
    out: State = {}
    for key, tensor in state.items():
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if name in out:
            raise DataError(f"Two tensors of the checkpoint stand for '{name}'; one is '{key}'.")
        out[name] = tensor
    return out


def without(state: State, pattern: str) -> tuple[State, dict[str, int]]:
    """The tensors whose whole name does not match, and counts of the others, numbers written as "*"."""
    dropped = [key for key in state if re.fullmatch(pattern, key)]
    return {key: tensor for key, tensor in state.items() if key not in dropped}, grouped(dropped)


def grouped(names: Iterable[str]) -> dict[str, int]:
    """Counts of names that differ in numbers only."""
    return dict(Counter(re.sub(r"\.\d+\.", ".*.", name) for name in names))


def fuse(state: State) -> State:
    """`x.q.*`, `x.k.*` and `x.v.*` as `x.qkv.*`; a missing bias of k beside those of q and v is zero."""
    out = {key: tensor for key, tensor in state.items() if not re.search(r"\.attn\.[qkv]\.", key)}
    for key in [key for key in state if re.search(r"\.attn\.q\.\w+$", key)]:
        stem, part = key[: -len("q." + key.rpartition(".")[2])], key.rpartition(".")[2]
        three = [state.get(f"{stem}{which}.{part}") for which in "qkv"]
        if three[1] is None and part == "bias" and three[2] is not None:
            three[1] = torch.zeros_like(three[2])
        if any(one is None for one in three):
            raise DataError(
                f"Expected {stem}q, k and v with '{part}', found some of them only: "
                "the checkpoint is incomplete."
            )
        out[f"{stem}qkv.{part}"] = torch.cat([one for one in three if one is not None])
    lone = [k for k in state if re.search(r"\.attn\.[kv]\.\w+$", k)]
    for key in lone:  # one of the three alone is nobody's; under its name `verify` refuses it
        part, stem = key.rpartition(".")[2], re.sub(r"[kv]\.\w+$", "", key)
        if f"{stem}q.{part}" not in state:
            out[key] = state[key]
    return out
