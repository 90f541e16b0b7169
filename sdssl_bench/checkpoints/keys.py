"""Names of tensors: nested dictionaries become one flat list, without what training wrappers add to names."""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from sdssl_bench.errors import DataError

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of names added by torch's DistributedDataParallel, compile, FSDP and activation checkpointing."""

_OTHER = re.compile(r".*(optim|scheduler|scaler)|loops$|callbacks$")
"""Top-level entries whose tensors are a trainer's state, not weights: momentum has the weights' names."""

State = dict[str, Tensor]


class Flat(dict[str, Tensor]):
    """Every tensor of a file under its whole dotted name.

    Attributes:
        homes: name -> dotted path of the dictionary that holds it, "" or ending in a dot.
    """

    def __init__(self) -> None:
        super().__init__()
        self.homes: dict[str, str] = {}


def flat(content: Mapping[Any, Any]) -> Flat:
    """All tensors in dictionaries with text keys, at any depth; the parts in WRAPPERS leave the names.

    A dictionary that stands in several places is taken once, at the first.

    Raises:
        DataError: if two tensors come to one name.
    """
    found = Flat()
    seen = {id(content)}
    waiting: deque[tuple[str, Mapping[Any, Any]]] = deque([("", content)])
    while waiting:
        home, inside = waiting.popleft()
        for key, value in inside.items():
            if not isinstance(key, str) or (not home and _OTHER.match(key)):
                continue
            name = home + ".".join(part for part in key.split(".") if part not in WRAPPERS)
            if isinstance(value, Tensor):
                if name in found:
                    raise DataError(
                        f"Two tensors of the checkpoint stand for '{name}'; one is '{key}'."
                    )
                found[name], found.homes[name] = value, home
            elif isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((name if name in ("", home) else f"{name}.", value))
    return found


def under(state: Mapping[str, Tensor], prefix: str) -> State:
    """The tensors whose names begin with a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def has_any(keys: Iterable[str], prefix: str) -> bool:
    """Whether some key begins with the prefix."""
    return any(key.startswith(prefix) for key in keys)


def depth_of(keys: Iterable[str]) -> int:
    """Number of transformer blocks, by the highest index; gaps are found by `verify`.

    Raises:
        DataError: if fewer blocks can be there than the index says, so that no model of that size is built.
    """
    blocks = {m[1] for key in keys if (m := re.match(r"blocks\.(\d+)\.", key))}
    highest = max(blocks, key=lambda text: (len(text), text))
    if len(highest) > 4 or int(highest) >= 2 * len(blocks) + 1:
        raise DataError(
            f"The checkpoint numbers a block {highest[:20]} and has {len(blocks)} blocks."
        )
    return int(highest) + 1


def listing(names: Iterable[Any], limit: int = 10) -> str:
    """Up to `limit` names and how many more there are.

    >>> listing(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    found = [str(name) for name in names]
    more = len(found) - limit
    return ", ".join(found[:limit]) + (f" and {more} more" if more > 0 else "")
