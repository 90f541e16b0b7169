"""Parameters of a task: from text to the type of its field, into its record, and of its `score`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

from sdssl_bench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

LARGEST_SIDE = 4096
"""Pixels; in patches of 8 that is 262,144 tokens, each of which attends to all."""

WHEN_SET = {"recorded": "when set"}
"""Metadata of a field that a task was given later: left at its default, records stay what they were."""

_WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class Argument:
    """What `sdssl-bench score TASK` says of an argument of the task's `score_files`.

    Arguments without a default are files or folders; they may be given by their place alone.

    Attributes:
        help: one sentence for --help.
        takes: what stands for the value, such as FILE; "" where its type says it.
        panel: of --help: "Data", "Protocol", "Speed" or "Output".
        default: the default in words, where the value does not say it.
        short: a second name of one letter.
        choices: the only values, if there are few.
        least: the lowest number.
    """

    help: str
    takes: str = ""
    panel: str = "Data"
    default: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()
    least: int | None = None


Backend = Annotated[
    str,
    Argument(
        "Neighbour search: auto, torch or faiss.",
        "NAME",
        "Speed",
        choices=("auto", "torch", "faiss"),
    ),
]
"""What searches neighbours, as an argument of `score_files`."""


@dataclass(frozen=True, eq=False)
class FileScores:
    """What a task's `score_files` found.

    Attributes:
        values: what --json prints.
        tables: what is printed else.
        warnings: a sentence each.
    """

    values: Mapping[str, Any]
    tables: "Sequence[RenderableType]"
    warnings: Sequence[str] = ()


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


def recorded_parameters(task: Any) -> dict[str, Any]:
    """The parameters of a protocol as a record has them; one of WHEN_SET only if it is set."""
    later = {one.name: one.default for one in fields(task) if one.metadata == WHEN_SET}
    return {
        name: value
        for name, value in asdict(task).items()
        if name != "protocol" and not (name in later and value == later[name])
    }


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def comma_list(option: str, values: Iterable[str] | None) -> list[str]:
    """The items of a repeatable option whose values may be comma lists, in order, once each.

    Raises:
        UsageError: if an item is an empty text.

    >>> comma_list("--task", ["a,b", "c", "a"])
    ['a', 'b', 'c']
    """
    items = [part.strip() for value in values or () for part in value.split(",")]
    if not all(items):
        raise UsageError(f"{option} takes names, found an empty one in '{','.join(values or ())}'.")
    return list(dict.fromkeys(items))
