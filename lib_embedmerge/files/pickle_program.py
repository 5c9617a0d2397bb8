"""Read the program of a pickle without running it: what it imports, and what running it would cost.

A pickle is a program for a small stack machine. To share a value takes two bytes of the program, but to hash, copy or
print it costs its whole size, so a file of a kilobyte can keep a loader busy for years. Therefore the program is
followed here with sizes in place of values, and pickle_file.py never loads one that costs too much.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

_MAX_WORK = 20_000_000
"""Values that a program may handle; the one of the largest checkpoint handles about a hundred thousand."""

_MAX_TUPLE = 1_000_000
"""Values in a tuple, with those in its inner tuples; a tuple is hashed and printed as a whole."""

_CHARACTERS = 64
"""Characters of a text that cost as much as a value."""

_LEGACY_PICKLES = 5
"""Pickles in a file of torch's form before 1.6: magic number, version, machine, content, and the storages' keys."""

_MAX_NAME = 100
"""Characters of the longest text that may be a name."""


class CostlyError(ValueError):
    """Loading the pickle would take too long or too much memory."""


class UnsoundError(ValueError):
    """The bytes are not a complete, valid pickle."""


@dataclass
class Program:
    """What the pickles of a file import and cost. All offsets are in bytes from the beginning of the file.

    names: `module.name` of everything that they import.
    protocol: the highest pickle protocol that one of them states.
    imports: (`module.name`, offset of the instruction that imports it).
    created: (class, offset of the instruction that creates an object of it).
    classes: for each class that torch's old form names together with its source text, the offsets of the mark before it
        and of the instruction that ends it.
    work: cost of running the pickles, in values handled.
    """

    names: set[str] = field(default_factory=set)
    protocol: int = 0
    imports: list[tuple[str, int]] = field(default_factory=list)
    created: list[tuple[str, int]] = field(default_factory=list)
    classes: list[tuple[int, int]] = field(default_factory=list)
    work: int = 0


class _ImportedName(str):
    """`module.name` of something imported, as it lies on the stack."""

    __slots__ = ()


class _StackItem:
    """A value on the stack, without the value itself.

    size: cost of the value; for a text or tuple of everything in it, for a list, dict or set of its entries.
    parts: the items of a tuple.  start: offset of a tuple's mark in bytes, -1 if it has none.
    what: a text of at most 100 characters, or the _ImportedName of something imported; None for anything else.
    """

    __slots__ = ("parts", "size", "start", "what")

    def __init__(self, size: int = 1, parts: Sequence[_StackItem] = (), start: int = -1, what: object = None) -> None:
        self.size = size
        self.parts = parts
        self.start = start
        self.what = what


def follow_pickle(file: BinaryIO, program: Program) -> None:
    """Add the pickle at the file's position to `program` and move the position to the end of the pickle.

    CostlyError if it costs too much, UnsoundError if it is not a valid pickle.
    """
    machine = _Machine(program)
    try:
        for opcode, argument, position in pickletools.genops(file):
            machine.step(opcode, argument, position or 0)
    except CostlyError:
        raise
    # pickletools raises these for bytes that are no pickle, and the machine for a stack that is empty too early.
    except (ValueError, IndexError, KeyError, UnicodeError, OverflowError, MemoryError) as error:
        raise UnsoundError(str(error)) from error


def follow_legacy_pickles(file: BinaryIO, program: Program) -> None:
    """Add all pickles of a file in torch's form before 1.6 to `program`, from the file's position on.

    CostlyError if they cost too much, UnsoundError if one of them is not a valid pickle.
    """
    for _ in range(_LEGACY_PICKLES):
        follow_pickle(file, program)


class _Machine:
    """The stack machine of one pickle: its stack, its marks and its memo."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._stack: list[_StackItem] = []
        self._outer_stacks: list[tuple[int, list[_StackItem]]] = []
        self._last_mark = self._position = 0
        self._memo: dict[int, _StackItem] = {}
        self._handlers: dict[str, Callable[[object], None]] = {
            "PROTO": self._note_protocol,
            "GLOBAL": self._import,
            "STACK_GLOBAL": lambda _: self._import(" ".join(str(item.what) for item in self._pop(2))),
            "MARK": self._push_mark,
            "MEMOIZE": lambda _: self._memoize(len(self._memo)),
            "POP": lambda _: self._push(self._pop(1)[:0]),
            "DUP": lambda _: self._stack.append(self._stack[-1]),
            "POP_MARK": lambda _: self._push(self._pop_to_mark()[:0]),
            "TUPLE": lambda _: self._push_tuple(self._pop_to_mark()),
            "TUPLE1": lambda _: self._push_tuple(self._pop(1)),
            "TUPLE2": lambda _: self._push_tuple(self._pop(2)),
            "TUPLE3": lambda _: self._push_tuple(self._pop(3)),
            "APPEND": lambda _: self._add_entries(self._pop(1)),
            "APPENDS": lambda _: self._add_entries(self._pop_to_mark()),
            "ADDITEMS": lambda _: self._add_entries(self._pop_to_mark(), hashed=1),
            "SETITEM": lambda _: self._add_entries(self._pop(2), hashed=2),
            "SETITEMS": lambda _: self._add_entries(self._pop_to_mark(), hashed=2),
            "REDUCE": lambda _: self._reduce(),
            "NEWOBJ": lambda _: self._new_object(),
            "BUILD": lambda _: self._build(),
            "BINPERSID": lambda _: self._push_persistent(),
            "STOP": lambda _: None,
        }

    def step(self, opcode: pickletools.OpcodeInfo, argument: object, position: int) -> None:
        """Carry out one instruction on sizes. position: its offset in the file, in bytes."""
        self._position = position
        self._spend(1)
        name = opcode.name
        if handler := self._handlers.get(name):
            handler(argument)
        elif name.endswith("PUT"):  # PUT, BINPUT, LONG_BINPUT
            self._memoize(int(str(argument)))
        elif name.endswith("GET"):
            self._stack.append(self._memo[int(str(argument))])
        else:
            self._step_generic(opcode, argument)

    def _step_generic(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Carry out a constant, an empty container or a rare instruction by what it pops and pushes."""
        if pickletools.markobject in opcode.stack_before:
            self._spend(sum(item.size for item in self._pop_to_mark()))
        else:
            self._spend(sum(item.size for item in self._pop(len(opcode.stack_before))))
        size = 1 + len(argument) // _CHARACTERS if isinstance(argument, (str, bytes, bytearray)) else 1
        size = 0 if opcode.name.startswith("EMPTY_") else size
        what = argument if isinstance(argument, str) and len(argument) <= _MAX_NAME else None
        self._push(_StackItem(size, what=what) for _ in opcode.stack_after)

    def _note_protocol(self, argument: object) -> None:
        self._program.protocol = max(self._program.protocol, int(str(argument)))

    def _import(self, argument: object) -> None:
        name = _ImportedName(".".join(str(argument).split(" ", 1)))
        self._program.names.add(name)
        self._program.imports.append((name, self._position))
        self._stack.append(_StackItem(what=name))

    def _push_mark(self, _: object) -> None:
        self._outer_stacks.append((self._position, self._stack))
        self._stack = []

    def _pop_to_mark(self) -> list[_StackItem]:
        items = self._stack
        self._last_mark, self._stack = self._outer_stacks.pop()
        return items

    def _pop(self, count: int) -> list[_StackItem]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def _push(self, items: Iterable[_StackItem]) -> None:
        self._stack.extend(items)

    def _memoize(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _push_tuple(self, items: list[_StackItem]) -> None:
        size = 1 + sum(item.size if item.parts else 1 for item in items)
        if size > _MAX_TUPLE:
            raise CostlyError
        self._stack.append(_StackItem(size, items, self._last_mark))

    def _add_entries(self, items: list[_StackItem], hashed: int = 0) -> None:
        """Add items to the list, set or dict on top of the stack. hashed: 2 if every second item is a key, 1 if every
        item is, 0 if none is."""
        if hashed:
            self._spend(sum(item.size for item in items[::hashed]))
        self._stack[-1].size += sum(item.size if item.parts else 1 for item in items)

    def _reduce(self) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function.what, _ImportedName):  # torch would print the whole value in its message
            raise UnsoundError("it calls something that is not a function")
        size = 1 + sum(item.size for item in arguments.parts)
        self._spend(size)
        self._stack.append(_StackItem(size))

    def _new_object(self) -> None:
        kind = self._stack[-2].what
        if isinstance(kind, _ImportedName):
            self._program.created.append((kind, self._position))
        self._reduce()

    def _push_persistent(self) -> None:
        """Push a persistent object: a tensor's storage, or a class of a module, which can be called."""
        (item,) = self._pop(1)
        is_class = len(item.parts) == 4 and item.parts[0].what == "module"
        if is_class:
            self._program.classes.append((item.start, self._position))
        self._stack.append(_StackItem(what=_ImportedName() if is_class else None))

    def _build(self) -> None:
        (state,) = self._pop(1)
        size = sum(item.size for item in state.parts) or state.size
        self._spend(size)
        self._stack[-1].size += size

    def _spend(self, work: int) -> None:
        self._program.work += work
        if self._program.work > _MAX_WORK:
            raise CostlyError
