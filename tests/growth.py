"""How the time of some work grows with its input: a ratio within one run, so that the machine's speed is no matter."""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 16
"""How many times longer the longer input is."""

_MORE = 5
"""Allowed times longer for each character: caches and garbage make it up to three, a square sixteen."""

_ROUNDS = 4
_ENOUGH = 0.002
"""Seconds. Less is noise, and nothing that grows by the square of thousands takes so little."""


def grows_by_length(work: Callable[[str], object], text: str) -> bool:
    """Whether a text takes not much more time for each character than its first sixteenth does."""
    part = text[: len(text) // SHARE]
    part_time = min(_seconds(work, part) for _ in range(_ROUNDS))
    allowed = SHARE * _MORE * max(part_time, _ENOUGH / SHARE)
    return any(_seconds(work, text) < allowed for _ in range(_ROUNDS))  # nearly always the first time


def _seconds(work: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    work(text)
    return time.process_time() - started
