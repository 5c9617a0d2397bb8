"""Attributes of the web UI that EmbedMerge replaces while it is loaded: each put back to the object that it was."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_NOTHING: Any = object()


@dataclass
class _Patch:
    owner: Any
    name: str
    before: Any
    """What `vars(owner)` held; _NOTHING where it held nothing, as of an inherited method or a builtin."""
    wrapper: Callable[..., Any]
    is_active: bool = True


class Patches:
    """Some patches, put on one after the other and taken off together."""

    def __init__(self) -> None:
        self._patches: list[_Patch] = []

    def wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Let calls of `owner.name` go to `around(original, *arguments)`.

        owner: a class, whose methods then get their object as the first argument behind the original, or a module,
            to which builtins belong too.
        """
        original = getattr(owner if hasattr(owner, name) else builtins, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs) if patch.is_active else original(*args, **kwargs)

        patch = _Patch(owner, name, vars(owner).get(name, _NOTHING), wrapper)
        wrapper.__name__ = name
        setattr(owner, name, wrapper)
        self._patches.append(patch)

    def undo(self) -> None:
        """Put everything back. Where somebody has wrapped ours meanwhile, it stays below theirs and only passes on."""
        while self._patches:
            patch = self._patches.pop()
            patch.is_active = False
            if vars(patch.owner).get(patch.name) is not patch.wrapper:
                continue
            if patch.before is _NOTHING:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, patch.before)
