"""Shares as percentages for people."""

from __future__ import annotations


def format_percent(distance: float | None) -> str:
    """A relative distance for people: `12%`, `3.4%`, `0.02%`; `not known` for None."""
    if distance is None:
        return "not known"
    if 0 < distance < 0.0001:
        return "under 0.01%"
    places = 0 if distance >= 0.1 or distance == 0 else 1 if distance >= 0.01 else 2
    return f"{distance:.{places}%}"
