"""The progress of work in several stages, as one figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from lib_embedmerge.core.ports import Progress

_UNITS = 1000
"""What the whole work is counted in."""


class StagedProgress:
    """Reports the progress of stages one after the other. shares: how much of the time each takes, in any unit."""

    def __init__(self, progress: Progress | None, shares: Sequence[float]) -> None:
        self._progress = progress
        whole = sum(shares)
        self._shares = [share / whole for share in shares]
        self._starts = list(accumulate(self._shares, initial=0.0))

    def stage(self, number: int) -> Progress:
        """The Progress of one stage."""
        before = self._starts[number]

        def report(done: int, total: int) -> None:
            if self._progress is not None:
                share = before + self._shares[number] * (done / total if total else 1.0)
                self._progress(round(share * _UNITS), _UNITS)

        return report
