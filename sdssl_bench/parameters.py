"""Protocol parameters from the command line: text to the type of a task's field."""

import math
from typing import Any

from sdssl_bench.errors import UsageError

LARGEST_SIDE = 4096
"""Pixels; in patches of 8 that is 262,144 tokens, each of which attends to all."""

_WORDS = {"true": True, "false": False}


def parse_value(option: str, text: str, kind: Any) -> Any:
    """`text` as a value of the type `kind`.

    Args:
        option: what to call it in an error, e.g. "--set k".
        text: as typed.
        kind: bool, int, float, str, tuple of int, float or str.

    Raises:
        UsageError: if the text is no such value.

    >>> parse_value("--set k", "10,20", tuple[int, ...])
    (10, 20)
    """
    try:
        if kind is bool:
            return _WORDS[text.lower()]
        if kind in (int, str):
            return kind(text)
        if kind is float:
            return _finite(text)
        if kind == tuple[int, ...]:
            return tuple(int(part) for part in text.split(","))
        if kind == tuple[float, ...]:
            return tuple(_finite(part) for part in text.split(","))
        if kind == tuple[str, ...]:
            return tuple(part.strip() for part in text.split(","))
    except (ValueError, KeyError):
        name = "true or false" if kind is bool else getattr(kind, "__name__", str(kind))
        if "tuple" in str(kind):
            name = f"a comma list such as {'10,20' if 'int' in str(kind) else '0.07,0.1'}"
        raise UsageError(f"{option} takes {name}, found '{text}'.") from None
    raise TypeError(f"no rule to parse a parameter of type {kind}")


def check_side(name: str, side: float) -> None:
    """Refuses images that no memory holds, before anything is made of their size.

    Args:
        name: what to call the side in an error.
        side: longest side of an image that enters the encoder, in pixels.

    Raises:
        UsageError: if it is above `LARGEST_SIDE`.
    """
    if side > LARGEST_SIDE:
        raise UsageError(
            f"{name} gives sides of {side:,.0f} pixels, at most {LARGEST_SIDE:,} work."
        )


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
