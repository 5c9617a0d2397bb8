"""What a run says: one line for each ratio, as a table for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

_WHAT = 46
_AGAINST = 34


@dataclass(frozen=True)
class Line:
    """One measurement beside what it is held against.

    key: its name in README.md.  what, against: both sides, for people.
    measured, reference: their values, both in `unit`; medians where they are times.
    bound: what the ratio may be at most, None where it is only to be known.  note: how it was measured, or more of it.
    """

    key: str
    what: str
    measured: float
    unit: str
    against: str
    reference: float
    bound: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.measured / self.reference

    @property
    def holds(self) -> bool:
        return self.bound is None or self.ratio <= self.bound

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}


def table(lines: Sequence[Line]) -> Iterable[str]:
    """The lines as text, in columns; notes stand below the line that they belong to."""
    yield f"{'what':{_WHAT}} {'measured':>12} {'against':{_AGAINST}} {'':>12} {'ratio':>8} {'bound':>6}"
    for line in lines:
        bound = "" if line.bound is None else f"{line.bound:g}"
        verdict = "" if line.bound is None else "holds" if line.holds else "DOES NOT HOLD"
        yield (
            f"{line.what:{_WHAT}} {_value(line.measured, line.unit):>12} {line.against:{_AGAINST}} "
            f"{_value(line.reference, line.unit):>12} {line.ratio:8.3g} {bound:>6} {verdict}"
        ).rstrip()
        if line.note:
            yield f"    {line.note}"


def _value(number: float, unit: str) -> str:
    return f"{number:.4g} {unit}"
