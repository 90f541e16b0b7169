"""Key arithmetic on state dicts: prefixes are stripped or dropped, substrings never touched."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sdssl_bench.errors import DataError

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of torch's DistributedDataParallel and torch.compile."""

State = dict[str, Tensor]


def as_state(value: object) -> State | None:
    """The value as a state dict, or None if it is not a non-empty mapping from text to tensors."""
    if not isinstance(value, Mapping) or not value:
        return None
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
        return None
    return dict(value)


def strip_wrappers(state: Mapping[str, Tensor]) -> State:
    """Removes leading `module.` and `_orig_mod.`, in any order and number, where all keys have them."""
    found = dict(state)
    while prefix := next(
        (w for w in WRAPPERS if found and all(k.startswith(w) for k in found)), None
    ):
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    return found


def has_any(keys: Iterable[str], prefix: str) -> bool:
    """Whether some key begins with the prefix."""
    return any(key.startswith(prefix) for key in keys)


def select(
    state: Mapping[str, Tensor], keep: str, *, drop: Sequence[str] = ()
) -> tuple[State, dict[str, int]]:
    """Splits a state dict into the wanted part and named parts to leave out.

    Args:
        state: the whole state dict.
        keep: prefix of the wanted keys, removed from them; "" keeps all.
        drop: prefixes (of the whole keys) to leave out.

    Returns:
        the wanted tensors, and how many were dropped under each prefix. Keys that are neither stay
        among the wanted ones under their whole name, so that strict loading reports them.

    Raises:
        DataError: if two keys become one.
    """
    kept: State = {}
    dropped: Counter[str] = Counter()
    for key, tensor in state.items():
        unwanted = next((prefix for prefix in drop if key.startswith(prefix)), None)
        if unwanted is not None:
            dropped[unwanted] += 1
            continue
        name = key.removeprefix(keep)
        if name in kept:
            raise DataError(f"Two tensors of the checkpoint stand for '{name}'; one is '{key}'.")
        kept[name] = tensor
    return strip_wrappers(kept), dict(dropped)


def depth_of(keys: Iterable[str]) -> int:
    """Number of transformer blocks."""
    return max(int(m[1]) for key in keys if (m := re.match(r"blocks\.(\d+)\.", key))) + 1


def listing(names: Iterable[Any], limit: int = 10) -> str:
    """Up to `limit` names and how many more there are.

    >>> listing(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    found = [str(name) for name in names]
    more = len(found) - limit
    return ", ".join(found[:limit]) + (f" and {more} more" if more > 0 else "")
