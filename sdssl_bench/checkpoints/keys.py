"""Key arithmetic on state dicts: prefixes are stripped or dropped, substrings never touched."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sdssl_bench.errors import DataError

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes of torch's DistributedDataParallel and torch.compile."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_state(value: object) -> dict[str, Tensor] | None:
    """The value as a state dict, or None if it is not a non-empty mapping from text to tensors."""
    if not isinstance(value, Mapping) or not value:
        return None
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
        return None
    return dict(value)


def strip_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes leading `module.` and `_orig_mod.`, in any order and number, where all keys have them."""
    found = dict(state)
    while prefix := next((w for w in WRAPPERS if found and has_all(found, w)), None):
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    return found


def has_all(keys: Iterable[str], prefix: str) -> bool:
    """Whether every key begins with the prefix."""
    return all(key.startswith(prefix) for key in keys)


def has_any(keys: Iterable[str], prefix: str) -> bool:
    """Whether some key begins with the prefix."""
    return any(key.startswith(prefix) for key in keys)


def select(
    state: Mapping[str, Tensor], keep: str, *, drop: Sequence[str] = ()
) -> tuple[dict[str, Tensor], dict[str, int]]:
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
    kept: dict[str, Tensor] = {}
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


def number(value: object) -> int | float | None:
    """A checkpoint's epoch or step if it is a plain number."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def check_values(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """The tensors as float32, proven to be dense, floating and finite.

    Counters of batch norm (`num_batches_tracked`) stay integers.

    Raises:
        DataError: naming the tensors that are of another type or hold NaN or infinity.
    """
    wrong: list[str] = []
    broken: list[str] = []
    out: dict[str, Tensor] = {}
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


def listing(names: Iterable[Any], limit: int = 10) -> str:
    """Up to `limit` names and how many more there are.

    >>> listing(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    found = [str(name) for name in names]
    more = len(found) - limit
    return ", ".join(found[:limit]) + (f" and {more} more" if more > 0 else "")
