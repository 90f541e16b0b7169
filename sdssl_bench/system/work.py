"""What a part of a run will do and cost, told before it is done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Work:
    """A part of what a run will do, as `run --dry-run` shows it.

    Attributes:
        what: e.g. "features of cifar10 train".
        items: how much of it is to be done.
        unit: of the items.
        stored: how much is stored already, which costs nothing.
        measure: does a slice of it here and now, in a few seconds or less; returns the seconds that all
            of it will take in this process, by the growth that is known of it. None if it cannot be told.
        writes: bytes by what they hold. Works that write the same are done once, by the first.
        memory: bytes held at once that the slice does not hold.
        rough: why its seconds may be far off, in a few words.
    """

    what: str
    items: int
    unit: str
    measure: Callable[[], float] | None
    stored: int = 0
    writes: Mapping[str, int] = field(default_factory=dict)
    memory: int = 0
    rough: str = ""
