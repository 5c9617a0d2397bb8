"""Replace functions of the web UI while EmbedMerge is loaded, and restore the very same objects afterwards."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ABSENT: Any = object()


@dataclass
class _Patch:
    """One replaced function.

    before: the object in `vars(owner)`; _ABSENT if there was none, as for an inherited method or a builtin.
    is_active: whether the wrapper calls the replacement; else it calls the original.
    """

    owner: Any
    name: str
    before: Any
    wrapper: Callable[..., Any]
    is_active: bool = True


class Patches:
    """Functions that are replaced one by one and restored together."""

    def __init__(self) -> None:
        self._patches: list[_Patch] = []

    def wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Make calls of `owner.name(...)` call `around(original, ...)` instead.

        owner: a class or a module. For a method, `around` gets the object after `original`. In a module, a builtin can
            be wrapped too.
        """
        original = getattr(owner if hasattr(owner, name) else builtins, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs) if patch.is_active else original(*args, **kwargs)

        patch = _Patch(owner, name, vars(owner).get(name, _ABSENT), wrapper)
        wrapper.__name__ = name
        setattr(owner, name, wrapper)
        self._patches.append(patch)

    def undo(self) -> None:
        """Restore everything.

        If another extension has wrapped one of our wrappers meanwhile, ours stays inside theirs and calls the original.
        """
        while self._patches:
            patch = self._patches.pop()
            patch.is_active = False
            if vars(patch.owner).get(patch.name) is not patch.wrapper:
                continue
            if patch.before is _ABSENT:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.before)
