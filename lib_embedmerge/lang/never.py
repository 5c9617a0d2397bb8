"""The end of a walk over nodes: a check by mypy that the walk handles every kind of node."""

from __future__ import annotations

from typing import NoReturn


def assert_never(value: NoReturn) -> NoReturn:
    """Mark a branch that no value reaches, such as `case _:` after all kinds of nodes.

    mypy reports the call if a value of some type can reach it, so a new kind of node cannot be forgotten. At run time
    the call raises AssertionError. It is typing.assert_never, which Python 3.10 lacks.
    """
    raise AssertionError(f"{type(value).__name__} is not handled here")
