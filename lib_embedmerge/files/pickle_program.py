"""A pickle's program read without running it: what it names, and what running it would cost.

A pickle is a program for a small stack machine. Values that it shares cost it two bytes each, while hashing, copying or
spelling them costs their whole size: a file of a kilobyte can keep a loader busy for years. So the program is followed
with sizes in place of values, and one that costs too much is never run. Running it is pickle_file.py's matter.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

_MAX_WORK = 20_000_000
"""Values that a program may handle; that of the largest checkpoint handles about a hundred thousand."""

_MAX_TUPLE = 1_000_000
"""Values in a tuple, those of tuples within it included; it is hashed and spelled whole."""

_CHARACTERS = 64
"""Characters of a text that cost as much as a value."""

_LEGACY_PICKLES = 5
"""A number, a version, a machine, the content, the names of the tensors' numbers."""

_NAME = 100
"""Characters of a text that may be a name."""


class CostlyError(ValueError):
    """Running the program would take too long or too much memory."""


class UnsoundError(ValueError):
    """It is no whole, sound pickle."""


@dataclass
class Program:
    """What a file's pickles name and use. names: `module.name` of everything that they import.  protocol: the highest
    that one of them states.  work: what running it costs, in values handled.
    Places of instructions, bytes from where the file begins. imports: (name, where it is imported).  created: (class,
    where an object of it is made).  classes: between which torch's old form names a class of a module together with
    its source text, (the mark, the end)."""

    names: set[str] = field(default_factory=set)
    protocol: int = 0
    imports: list[tuple[str, int]] = field(default_factory=list)
    created: list[tuple[str, int]] = field(default_factory=list)
    classes: list[tuple[int, int]] = field(default_factory=list)
    work: int = 0


class _Imported(str):
    """What is imported, `module.name`, on the stack."""

    __slots__ = ()


class _Item:
    """A value on the stack. size: of a text or tuple all that is in it, of a list, dict or set its entries.
    parts: of a tuple.  start: where its mark stands.  what: a short text, or `global` for what is imported."""

    __slots__ = ("parts", "size", "start", "what")

    def __init__(self, size: int = 1, parts: Sequence[_Item] = (), start: int = -1, what: object = None) -> None:
        self.size = size
        self.parts = parts
        self.start = start
        self.what = what


def follow(file: BinaryIO, program: Program) -> None:
    """Add the pickle that begins here to `program`; the file then stands behind it.

    CostlyError, or UnsoundError.
    """
    machine = _Machine(program)
    try:
        for opcode, argument, position in pickletools.genops(file):
            machine.step(opcode, argument, position or 0)
    except CostlyError:
        raise
    # What pickletools raises for what is no pickle, and the machine where the stack runs out.
    except (ValueError, IndexError, KeyError, UnicodeError, OverflowError, MemoryError) as error:
        raise UnsoundError(str(error)) from error


def follow_legacy(file: BinaryIO, program: Program) -> None:
    """Add the pickles of a file of torch's form before 1.6, which begins here. CostlyError, or UnsoundError."""
    for _ in range(_LEGACY_PICKLES):
        follow(file, program)


class _Machine:
    """One pickle's stack, its marks and its memo."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._stack: list[_Item] = []
        self._below: list[tuple[int, list[_Item]]] = []
        self._marked = self._position = 0
        self._memo: dict[int, _Item] = {}
        self._handlers: dict[str, Callable[[object], None]] = {
            "PROTO": self._proto,
            "GLOBAL": self._global,
            "STACK_GLOBAL": lambda _: self._global(" ".join(str(item.what) for item in self._dropped(2))),
            "MARK": self._mark,
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            "POP": lambda _: self._pushed(self._dropped(1)[:0]),
            "DUP": lambda _: self._stack.append(self._stack[-1]),
            "POP_MARK": lambda _: self._pushed(self._to_mark()[:0]),
            "TUPLE": lambda _: self._tuple(self._to_mark()),
            "TUPLE1": lambda _: self._tuple(self._dropped(1)),
            "TUPLE2": lambda _: self._tuple(self._dropped(2)),
            "TUPLE3": lambda _: self._tuple(self._dropped(3)),
            "APPEND": lambda _: self._add(self._dropped(1)),
            "APPENDS": lambda _: self._add(self._to_mark()),
            "ADDITEMS": lambda _: self._add(self._to_mark(), hashed=1),
            "SETITEM": lambda _: self._add(self._dropped(2), hashed=2),
            "SETITEMS": lambda _: self._add(self._to_mark(), hashed=2),
            "REDUCE": lambda _: self._call(),
            "NEWOBJ": lambda _: self._create(),
            "BUILD": lambda _: self._build(),
            "BINPERSID": lambda _: self._persistent(),
            "STOP": lambda _: None,
        }

    def step(self, opcode: pickletools.OpcodeInfo, argument: object, position: int) -> None:
        """Do what an instruction does, with sizes."""
        self._position = position
        self._spend(1)
        name = opcode.name
        if handler := self._handlers.get(name):
            handler(argument)
        elif name.endswith("PUT"):  # PUT, BINPUT, LONG_BINPUT
            self._put(int(str(argument)))
        elif name.endswith("GET"):
            self._stack.append(self._memo[int(str(argument))])
        else:
            self._other(opcode, argument)

    def _other(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Constants, empty containers, and the rare ones: by what they take off the stack and put there."""
        if pickletools.markobject in opcode.stack_before:
            self._spend(sum(item.size for item in self._to_mark()))
        else:
            self._spend(sum(item.size for item in self._dropped(len(opcode.stack_before))))
        size = 1 + len(argument) // _CHARACTERS if isinstance(argument, (str, bytes, bytearray)) else 1
        size = 0 if opcode.name.startswith("EMPTY_") else size
        what = argument if isinstance(argument, str) and len(argument) <= _NAME else None
        self._pushed(_Item(size, what=what) for _ in opcode.stack_after)

    def _proto(self, argument: object) -> None:
        self._program.protocol = max(self._program.protocol, int(str(argument)))

    def _global(self, argument: object) -> None:
        name = _Imported(".".join(str(argument).split(" ", 1)))
        self._program.names.add(name)
        self._program.imports.append((name, self._position))
        self._stack.append(_Item(what=name))

    def _mark(self, _: object) -> None:
        self._below.append((self._position, self._stack))
        self._stack = []

    def _to_mark(self) -> list[_Item]:
        items = self._stack
        self._marked, self._stack = self._below.pop()
        return items

    def _dropped(self, count: int) -> list[_Item]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def _pushed(self, items: Iterable[_Item]) -> None:
        self._stack.extend(items)

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _tuple(self, items: list[_Item]) -> None:
        size = 1 + sum(item.size if item.parts else 1 for item in items)
        if size > _MAX_TUPLE:
            raise CostlyError
        self._stack.append(_Item(size, items, self._marked))

    def _add(self, items: list[_Item], hashed: int = 0) -> None:
        """Entries of a list, set or dict. hashed: every how many-th of them is a key; 0 for none."""
        if hashed:
            self._spend(sum(item.size for item in items[::hashed]))
        self._stack[-1].size += sum(item.size if item.parts else 1 for item in items)

    def _call(self) -> None:
        function, arguments = self._dropped(2)
        if not isinstance(function.what, _Imported):  # and would be spelled whole to say so
            raise UnsoundError("it calls what is no function")
        size = 1 + sum(item.size for item in arguments.parts)
        self._spend(size)
        self._stack.append(_Item(size))

    def _create(self) -> None:
        kind = self._stack[-2].what
        if isinstance(kind, _Imported):
            self._program.created.append((kind, self._position))
        self._call()

    def _persistent(self) -> None:
        """A tensor's numbers, or a class of a module. The latter takes part in calls."""
        (found,) = self._dropped(1)
        is_class = len(found.parts) == 4 and found.parts[0].what == "module"
        if is_class:
            self._program.classes.append((found.start, self._position))
        self._stack.append(_Item(what=_Imported() if is_class else None))

    def _build(self) -> None:
        (state,) = self._dropped(1)
        size = sum(item.size for item in state.parts) or state.size
        self._spend(size)
        self._stack[-1].size += size

    def _spend(self, work: int) -> None:
        self._program.work += work
        if self._program.work > _MAX_WORK:
            raise CostlyError
