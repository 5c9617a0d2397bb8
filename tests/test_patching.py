"""What is replaced in a web UI while the extension is loaded, and put back as it was."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from lib_embedmerge.hosts.patching import Patches


class Base:
    """A class of a web UI."""

    def inherited(self, number: int) -> int:
        """Not changed by anyone."""
        return number

    def method(self, number: int, *, more: int = 0) -> int:
        """Replaced here and there."""
        return number + more


class Derived(Base):
    """Inherits one, has the other itself."""

    def method(self, number: int, *, more: int = 0) -> int:
        """As above, tenfold."""
        return super().method(number, more=more) * 10


def doubled(original: Callable[..., int], *args: Any, **kwargs: Any) -> int:
    return original(*args, **kwargs) * 2


def plus_one(original: Callable[..., int], *args: Any, **kwargs: Any) -> int:
    return original(*args, **kwargs) + 1


@pytest.fixture
def module() -> ModuleType:
    """With a function of its own, and one that prints."""
    made = ModuleType("made")
    exec("def asked(x):\n    return x\ndef say(text):\n    print(text)\n", vars(made))
    return made


def test_a_method_and_its_object() -> None:
    before = vars(Derived)["method"]
    patches = Patches()
    patches.wrap(Derived, "method", doubled)
    assert Derived().method(1, more=2) == 60
    assert Base().method(1) == 1
    assert vars(Derived)["method"].__name__ == "method"
    patches.undo()
    assert vars(Derived)["method"] is before
    assert Derived().method(1) == 10


def test_the_object_is_handed_on() -> None:
    seen: list[Any] = []
    patches = Patches()
    patches.wrap(
        Base, "method", lambda original, *args, **kwargs: seen.append((args, kwargs)) or original(*args, **kwargs)
    )
    thing = Derived()
    thing.method(3, more=4)
    patches.undo()
    assert seen == [((thing, 3), {"more": 4})]


def test_an_inherited_method_is_inherited_again() -> None:
    patches = Patches()
    patches.wrap(Derived, "inherited", doubled)
    assert (Derived().inherited(3), Base().inherited(3)) == (6, 3)
    patches.undo()
    assert "inherited" not in vars(Derived)
    assert Derived().inherited(3) == 3


def test_a_builtin_of_a_module(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    patches = Patches()
    patches.wrap(module, "print", lambda original, text: original(text.upper()))
    module.say("one")
    print("two")  # noqa: T201 -- everybody else's
    patches.undo()
    module.say("three")
    assert capsys.readouterr().out == "ONE\ntwo\nthree\n"
    assert "print" not in vars(module)
    assert print is builtins.print


def test_a_function_of_a_module(module: ModuleType) -> None:
    before = module.asked
    patches = Patches()
    patches.wrap(module, "asked", doubled)
    assert module.asked(4) == 8
    patches.undo()
    assert module.asked is before


def test_the_last_one_is_the_outermost(module: ModuleType) -> None:
    before = module.asked
    patches = Patches()
    patches.wrap(module, "asked", doubled)
    patches.wrap(module, "asked", plus_one)
    assert module.asked(4) == 9
    patches.undo()
    assert module.asked is before


def test_somebody_elses_on_top_of_ours(module: ModuleType) -> None:
    patches = Patches()
    patches.wrap(module, "asked", doubled)
    ours = module.asked

    def theirs(number: int) -> int:
        return int(ours(number)) + 100

    module.asked = theirs  # type: ignore[attr-defined] # a module's contents are attributes
    assert module.asked(4) == 108
    patches.undo()
    assert module.asked is theirs
    assert module.asked(4) == 104  # ours only passes on
    again = Patches()
    again.wrap(module, "asked", doubled)
    assert module.asked(4) == 208
    again.undo()
    assert module.asked is theirs


def test_somebody_has_put_it_back_already(module: ModuleType) -> None:
    before = module.asked
    patches = Patches()
    patches.wrap(module, "asked", doubled)
    module.asked = before  # type: ignore[attr-defined] # a module's contents are attributes
    patches.undo()
    assert module.asked is before


def test_undone_twice(module: ModuleType) -> None:
    before = module.asked
    patches = Patches()
    patches.undo()
    patches.wrap(module, "asked", doubled)
    patches.undo()
    module.asked = doubled  # type: ignore[attr-defined] # a module's contents are attributes
    patches.undo()
    assert module.asked is doubled
    module.asked = before  # type: ignore[attr-defined] # a module's contents are attributes
    patches.wrap(module, "asked", plus_one)  # can be used again
    assert module.asked(1) == 2
    patches.undo()
    assert module.asked is before


def test_exceptions_pass_through(module: ModuleType) -> None:
    def around(original: Callable[..., int], number: int) -> int:
        raise KeyError(number)

    patches = Patches()
    patches.wrap(module, "asked", around)
    with pytest.raises(KeyError, match="7"):
        module.asked(7)
    patches.undo()
    patches.wrap(module, "asked", doubled)
    with pytest.raises(TypeError):
        module.asked()
    patches.undo()
    assert module.asked(7) == 7


def test_what_is_not_there() -> None:
    with pytest.raises(AttributeError, match="absent"):
        Patches().wrap(Base, "absent", doubled)
    assert "absent" not in vars(Base)
