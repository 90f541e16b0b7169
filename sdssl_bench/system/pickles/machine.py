"""What a pickle is read with: the memory of its small machine, and what stands in for names.

`opcodes` has the steps, `reading` runs them.
"""

import re
import struct
from collections.abc import Callable, Hashable
from mmap import mmap
from typing import Any

FLOOR_BYTES = 32 << 20
"""What any file may cost, however small."""

OPCODE_BYTES = 128
"""Memory of one step of a pickle, at most, besides the texts and bytes that the pickle holds itself."""


def allowance(size: int) -> int:
    """Bytes of memory that reading a file of this many bytes may cost."""
    return 2 * size + FLOOR_BYTES


class PickleError(ValueError):
    """A pickle that is damaged, or builds more than its file accounts for."""


class StandIn:
    """A class, function or object that a pickle asked for by name.

    Attributes:
        kind: the dotted name.
        args: what it was called with; None for the class or function itself.
        state: what would have been its state.
        pairs: keys and values that were put into it.
        items: what was appended to it.
    """

    __slots__ = ("args", "items", "kind", "pairs", "state")

    def __init__(self, kind: str, args: Any = None) -> None:
        self.kind = kind
        self.args = args
        self.state: Any = None
        self.pairs: dict[Any, Any] = {}
        self.items: list[Any] = []

    def __repr__(self) -> str:
        return f"<{self.kind}>"


PERSISTENT = "a persistent id"
_OBJECTS = (
    "copy_reg._reconstructor", "copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__",
)  # fmt: skip
_PLAIN = frozenset((str, int, float, bool, type(None), bytes))

_WIDE = re.compile(rb"[\xc4-\xff]").search
"""Characters beyond latin1, of which one makes a text need up to four bytes of memory per byte."""

Form = Callable[[Any, int], tuple[Any, ...]]
U8, U16, U32, U64, I32, F64 = (
    struct.Struct(form).unpack_from for form in ("<B", "<H", "<I", "<Q", "<i", ">d")
)
"""Numbers in a pickle, read at a place; beyond its end they raise struct.error."""


def as_key(key: Any) -> Hashable:
    """A key that can be hashed in constant depth; others are wrapped."""
    kind = type(key)
    if kind in _PLAIN or kind is StandIn:
        return key  # type: ignore[no-any-return]
    if kind is tuple and all(type(part) in _PLAIN for part in key):
        return key  # type: ignore[no-any-return]
    return StandIn(f"a {kind.__name__} as a key", (key,))


class Machine:
    """Stack, marks and memo of a pickle that is being read.

    Args:
        data: holds the pickle, and may hold more after it.
        start: its first byte.
        budget: bytes of memory that it may cost, see `allowance`.
    """

    def __init__(self, data: bytes | mmap, start: int, budget: int) -> None:
        self.data, self.pos, self.end = data, start, len(data)
        self.steps, self.text = budget // 2 // OPCODE_BYTES, budget // 2
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.persistent: list[Any] = []
        self.names: dict[str, StandIn] = {}

    def take(self, pos: int, length: int, *, text: bool = False) -> Any:
        """The next bytes, as they are or decoded; a length beyond the end of the file is an error."""
        if pos + length > self.end:
            raise PickleError(f"its pickle states {length} bytes at byte {pos}, past its end")
        raw = self.data[pos : pos + length]
        if not text:
            return raw
        self.spend(length * (4 if _WIDE(raw) else 1))
        return str(raw, "utf-8", "surrogatepass")

    def spend(self, count: int) -> None:
        """Accounts for the memory of texts."""
        self.text -= count
        if self.text < 0:
            raise PickleError("its pickle holds more text than a file of this size accounts for")

    def sized(self, form: Form, width: int, **how: bool) -> Any:
        """What follows its own length."""
        length = form(self.data, self.pos)[0]
        start = self.pos + width
        found = self.take(start, length, **how)
        self.pos = start + length
        return found

    def number(self, form: Form, width: int) -> Any:
        """A number of `width` bytes."""
        found = form(self.data, self.pos)[0]
        self.pos += width
        return found

    def line(self) -> bytes:
        """The rest of a line, as protocol 0 has its arguments."""
        stop = self.data.find(b"\n", self.pos)
        if stop < 0:
            raise PickleError("its pickle ends within a line")
        found: bytes = self.take(self.pos, stop - self.pos)
        self.pos = stop + 1
        return found

    def named(self, module: str, name: str) -> StandIn:
        """The stand-in of a name; it is the same each time, as a class would be."""
        whole = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if whole not in self.names:
            self.spend(8 * OPCODE_BYTES)
            self.names[whole] = StandIn(whole)
        return self.names[whole]

    def popped(self) -> list[Any]:
        """What lies above the last mark."""
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    def pop(self) -> None:
        """Drops what lies on top: a mark, if one was set there."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def persist(self, key: Any) -> StandIn:
        """Stands for what the file keeps outside of its pickle."""
        self.persistent.append(key)
        return StandIn(PERSISTENT, key)


def called(function: Any, args: Any) -> StandIn:
    """Instead of a call: what would have been called, and with what."""
    if not isinstance(function, StandIn):
        raise PickleError(f"its pickle is damaged: it calls a {type(function).__name__}")
    result = function.args is not None and not function.kind.endswith("()")
    kind = function.kind + "()" * result
    if kind in _OBJECTS and type(args) is tuple and args and isinstance(args[0], StandIn):
        return StandIn(args[0].kind, args[1:])
    return StandIn(kind, args)
