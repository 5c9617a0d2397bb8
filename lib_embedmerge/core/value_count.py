"""Counts what slow work has read, and reports the progress."""

from __future__ import annotations

from dataclasses import dataclass

from lib_embedmerge.core.ports import Progress


@dataclass
class ValueCount:
    """A number of values that have been read. total: of all that will be.  progress: called after each addition."""

    total: int
    progress: Progress | None
    done: int = 0

    def add(self, values: int) -> None:
        """Count more values. An exception that the progress raises ends the work."""
        self.done += values
        if self.progress is not None:
            self.progress(self.done, self.total)

    def reach(self, values: int) -> None:
        """Count up to a number of values, if fewer were read than expected, because some were known already."""
        if values > self.done:
            self.add(values - self.done)
