"""How well an embedding fits a model: the words for it, what to do about it, and how good or bad that is."""

from __future__ import annotations

from enum import Enum
from typing import Literal

Tone = Literal["good", "quiet", "warning", "bad"]
"""How a face shows a status: each face has a colour for each tone."""


class FitStatus(str, Enum):
    """What measuring the fit of an embedding gave. The value is the word that people, JSON and scripts see."""

    MADE_FOR_THIS_MODEL = "made for this model"
    SAME_VECTORS = "same vectors"
    DIFFERS = "differs"
    FROM_ROWS = "from token rows of this model"
    UNKNOWN_ORIGIN = "unknown origin"
    OTHER_ARCHITECTURE = "other architecture"

    def __str__(self) -> str:
        return str(self.value)

    @property
    def tone(self) -> Tone:
        """How good or bad the status is."""
        return _MEANINGS[self][0]

    @property
    def advice(self) -> str:
        """What to do, one sentence."""
        return _MEANINGS[self][1]


_MEANINGS: dict[FitStatus, tuple[Tone, str]] = {
    FitStatus.MADE_FOR_THIS_MODEL: ("good", "Nothing to do."),
    FitStatus.SAME_VECTORS: ("good", "Nothing to do: this model gives the same vectors."),
    FitStatus.DIFFERS: ("warning", "Rebuild it for this model."),
    FitStatus.FROM_ROWS: ("good", "Make it again from its text, so that the file records its model and its recipe."),
    FitStatus.UNKNOWN_ORIGIN: ("quiet", "You can use it as it is; the model that it was made for is unknown."),
    FitStatus.OTHER_ARCHITECTURE: ("bad", "Use it with a model of the kind that it was made for."),
}

UNUSABLE = "cannot be used"
"""What stands in a list in place of a status, for a file whose vectors cannot be loaded."""

UNMEASURED = "not measured"
"""What stands in a list in place of a status, until the fit was measured."""

ALL = "all"
"""What a list is filtered by to show every file."""

FILTERS = (ALL, *map(str, FitStatus), UNUSABLE, UNMEASURED)
"""What a list can be filtered by."""
