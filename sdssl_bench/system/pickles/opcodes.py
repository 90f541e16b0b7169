"""The steps of a pickle, without its dangerous half: what would be a call becomes a `StandIn`.

The frequent steps are in `reading`'s loop.
"""

import codecs
import pickle
from collections.abc import Callable
from typing import Any

from sdssl_bench.system.pickles.machine import (
    F64,
    I32,
    U8,
    U16,
    U32,
    U64,
    Form,
    Machine,
    PickleError,
    StandIn,
    as_key,
    called,
)  # fmt: skip

Step = Callable[[Machine], None]


def _put(target: Any, pairs: list[Any]) -> None:
    into = target.pairs if isinstance(target, StandIn) else target
    if type(into) is not dict or len(pairs) % 2:
        raise PickleError(f"its pickle is damaged: it puts items into a {type(target).__name__}")
    for index in range(0, len(pairs), 2):
        into[as_key(pairs[index])] = pairs[index + 1]


def _append(target: Any, items: list[Any]) -> None:
    into = target.items if isinstance(target, StandIn) else target
    if type(into) is not list:
        raise PickleError(f"its pickle is damaged: it appends to a {type(target).__name__}")
    into.extend(items)


def _setitem(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _put(machine.stack[-1], [key, value])


def _setitems(machine: Machine) -> None:
    pairs = machine.popped()
    _put(machine.stack[-1], pairs)


def _appended(machine: Machine) -> None:
    value = machine.stack.pop()
    _append(machine.stack[-1], [value])


def _extended(machine: Machine) -> None:
    items = machine.popped()
    _append(machine.stack[-1], items)


def _dict(machine: Machine) -> None:
    pairs = machine.popped()
    machine.stack.append({})
    _put(machine.stack[-1], pairs)


def _build(machine: Machine) -> None:
    """A state is noted on stand-ins; what a plain object would get beside its values is not."""
    state = machine.stack.pop()
    if isinstance(machine.stack[-1], StandIn):
        machine.stack[-1].state = state


def _global(machine: Machine) -> None:
    module, name = machine.line().decode(), machine.line().decode()
    machine.stack.append(machine.named(module, name))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise PickleError("its pickle is damaged: a name that is no text")
    machine.stack.append(machine.named(module, name))


def _inst(machine: Machine) -> None:
    _global(machine)
    function = machine.stack.pop()
    machine.stack.append(called(function, tuple(machine.popped())))


def _obj(machine: Machine) -> None:
    function, *args = machine.popped()
    machine.stack.append(called(function, tuple(args)))


def _newobj(machine: Machine) -> None:
    args = machine.stack.pop()
    machine.stack[-1] = called(machine.stack[-1], args)


def _newobj_ex(machine: Machine) -> None:
    machine.stack.pop()  # keyword arguments, which nothing that is restored has
    _newobj(machine)


def _extension(form: Form, width: int) -> Step:
    """A number in place of a name, which only the process that registered it could tell."""
    return lambda m: m.stack.append(m.named("copyreg", f"extension {m.number(form, width)}"))


def _tuple(length: int) -> Step:
    def step(machine: Machine) -> None:
        parts = machine.stack[-length:]
        if len(parts) != length:
            raise PickleError("its pickle is damaged: it takes from an empty stack")
        machine.stack[-length:] = [tuple(parts)]

    return step


def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _put_line(machine: Machine) -> None:
    machine.memo[int(machine.line())] = machine.stack[-1]


def _int_line(machine: Machine) -> None:
    text = machine.line()
    known = {b"00": False, b"01": True}
    machine.stack.append(known[text] if text in known else int(text.removesuffix(b"L")))


def _string(raw: bytes) -> str | bytes:
    """A text of Python 2, which did not tell texts from bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _quoted(machine: Machine) -> None:
    text = machine.line().strip()
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise PickleError("its pickle is damaged: a text without quotes")
    machine.stack.append(_string(codecs.escape_decode(text[1:-1])[0]))


def _skip(width: int) -> Step:
    def step(machine: Machine) -> None:
        machine.pos += width

    return step


def _value(make: Callable[[Machine], Any]) -> Step:
    return lambda machine: machine.stack.append(make(machine))


def _outside(machine: Machine) -> None:
    raise PickleError("its pickle keeps data outside of itself (protocol 5), which no file holds")


STEPS: dict[int, Step] = {
    code[0]: step
    for code, step in {
        pickle.PROTO: _skip(1), pickle.FRAME: _skip(8),
        pickle.NONE: _value(lambda m: None), pickle.NEWTRUE: _value(lambda m: True),
        pickle.INT: _int_line, pickle.LONG: _int_line,
        pickle.BININT: _value(lambda m: m.number(I32, 4)),
        pickle.LONG1: _value(lambda m: int.from_bytes(m.sized(U8, 1), "little", signed=True)),
        pickle.LONG4: _value(lambda m: int.from_bytes(m.sized(U32, 4), "little", signed=True)),
        pickle.FLOAT: _value(lambda m: float(m.line())),
        pickle.BINFLOAT: _value(lambda m: m.number(F64, 8)),
        pickle.STRING: _quoted,
        pickle.BINSTRING: _value(lambda m: _string(m.sized(U32, 4))),
        pickle.SHORT_BINSTRING: _value(lambda m: _string(m.sized(U8, 1))),
        pickle.BINBYTES: _value(lambda m: m.sized(U32, 4)),
        pickle.SHORT_BINBYTES: _value(lambda m: m.sized(U8, 1)),
        pickle.BINBYTES8: _value(lambda m: m.sized(U64, 8)),
        pickle.BYTEARRAY8: _value(lambda m: m.sized(U64, 8)),
        pickle.UNICODE: _value(lambda m: m.line().decode("raw-unicode-escape")),
        pickle.SHORT_BINUNICODE: _value(lambda m: m.sized(U8, 1, text=True)),
        pickle.BINUNICODE8: _value(lambda m: m.sized(U64, 8, text=True)),
        pickle.EMPTY_LIST: _value(lambda m: []), pickle.EMPTY_SET: _value(lambda m: []),
        pickle.LIST: _value(lambda m: m.popped()), pickle.FROZENSET: _value(lambda m: m.popped()),
        pickle.DICT: _dict, pickle.SETITEM: _setitem, pickle.SETITEMS: _setitems,
        pickle.APPEND: _appended, pickle.APPENDS: _extended, pickle.ADDITEMS: _extended,
        pickle.TUPLE2: _tuple(2), pickle.TUPLE3: _tuple(3),
        pickle.POP: lambda m: m.pop(), pickle.POP_MARK: lambda m: m.popped() and None,
        pickle.DUP: _value(lambda m: m.stack[-1]),
        pickle.PUT: _put_line, pickle.MEMOIZE: _memoize,
        pickle.GET: _value(lambda m: m.memo[int(m.line())]),
        pickle.GLOBAL: _global, pickle.STACK_GLOBAL: _stack_global,
        pickle.EXT1: _extension(U8, 1), pickle.EXT2: _extension(U16, 2), pickle.EXT4: _extension(I32, 4),
        pickle.INST: _inst, pickle.OBJ: _obj, pickle.NEWOBJ: _newobj, pickle.NEWOBJ_EX: _newobj_ex,
        pickle.BUILD: _build,
        pickle.PERSID: _value(lambda m: m.persist(m.line().decode())),
        pickle.NEXT_BUFFER: _outside, pickle.READONLY_BUFFER: _outside,
    }.items()
}  # fmt: skip
