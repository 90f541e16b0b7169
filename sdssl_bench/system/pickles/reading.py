"""Reads pickles as data: nothing they ask for is imported, called, or given to Python's unpickler.

A pickle is a program for a small stack machine. This is that machine without its dangerous half: where
Python would import a name and call it, a `StandIn` notes the name and what it was called with. Who
asked then gives a meaning to the few that stand for tensors and arrays. What it builds is bounded by the
size of the file, whatever lengths and indices the pickle states.
"""

import struct
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from sdssl_bench.system.pickles.machine import U16, U32, Machine, PickleError, StandIn, called
from sdssl_bench.system.pickles.opcodes import STEPS


@dataclass(frozen=True, eq=False)
class Unpickled:
    """What one pickle holds.

    Attributes:
        value: None, numbers, texts, bytes, lists (sets too), tuples, dicts and stand-ins.
        end: position of the byte after it.
        persistent: ids of what the file keeps outside of its pickle, in order.
        names: what it asked for.
    """

    value: Any
    end: int
    persistent: list[Any]
    names: dict[str, StandIn]


def unpickle(data: bytes | mmap, start: int = 0, *, budget: int) -> Unpickled:
    """The object of the pickle that begins at `start`.

    Args:
        data: holds the pickle, and may hold more after it.
        start: its first byte.
        budget: bytes of memory that it may cost, see `allowance`.

    Raises:
        PickleError: if it is damaged or costs more.
    """
    machine = Machine(data, start, budget)
    try:
        value = _run(machine)
    except PickleError:
        raise
    except (
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        struct.error,
    ) as error:
        raise PickleError(f"its pickle is damaged at byte {machine.pos}: {error}") from error
    return Unpickled(value, machine.pos, machine.persistent, machine.names)


def _run(machine: Machine) -> Any:
    """Steps until the pickle stops; the frequent ones stand here, for speed."""
    data, stack, marks, memo = machine.data, machine.stack, machine.marks, machine.memo
    push, pop = stack.append, stack.pop
    pos = machine.pos
    for _ in range(machine.steps):
        op = data[pos]
        pos += 1
        if op == 0x72:  # LONG_BINPUT
            memo[U32(data, pos)[0]] = stack[-1]
            pos += 4
        elif op == 0x68:  # BINGET
            push(memo[data[pos]])
            pos += 1
        elif op == 0x4B:  # BININT1
            push(data[pos])
            pos += 1
        elif op == 0x58:  # BINUNICODE
            length = U32(data, pos)[0]
            push(machine.take(pos + 4, length, text=True))
            pos += 4 + length
        elif op == 0x28:  # MARK
            marks.append(len(stack))
        elif op == 0x4D:  # BININT2
            push(U16(data, pos)[0])
            pos += 2
        elif op == 0x52:  # REDUCE
            args = pop()
            stack[-1] = called(stack[-1], args)
        elif op == 0x74:  # TUPLE
            mark = marks.pop()
            stack[mark:] = [tuple(stack[mark:])]
        elif op == 0x7D:  # EMPTY_DICT
            push({})
        elif op == 0x71:  # BINPUT
            memo[data[pos]] = stack[-1]
            pos += 1
        elif op == 0x6A:  # LONG_BINGET
            push(memo[U32(data, pos)[0]])
            pos += 4
        elif op == 0x85:  # TUPLE1
            stack[-1] = (stack[-1],)
        elif op == 0x29:  # EMPTY_TUPLE
            push(())
        elif op == 0x51:  # BINPERSID
            stack[-1] = machine.persist(stack[-1])
        elif op == 0x89:  # NEWFALSE
            push(False)
        elif op == 0x2E:  # STOP
            machine.pos = pos
            return pop()
        else:
            machine.pos = pos
            step = STEPS.get(op)
            if step is None:
                raise PickleError(f"its pickle is damaged at byte {pos - 1}: no opcode {op:#x}")
            step(machine)
            pos = machine.pos
    raise PickleError("its pickle builds more objects than a file of this size accounts for")
