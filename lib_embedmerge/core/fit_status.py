"""How well an embedding fits a model: the status in words, what to do about it, and how a face shows it."""

from __future__ import annotations

from enum import Enum
from typing import Literal

Tone = Literal["good", "quiet", "warning", "bad"]
"""How good or bad a status is; each face has a colour for each tone."""


class FitStatus(str, Enum):
    """The measured fit of an embedding to a model. The value is the text that people, JSON and scripts see."""

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
        """What the user can do about it, in one sentence."""
        return _MEANINGS[self][1]


_MEANINGS: dict[FitStatus, tuple[Tone, str]] = {
    FitStatus.MADE_FOR_THIS_MODEL: ("good", "Nothing to do."),
    FitStatus.SAME_VECTORS: ("good", "Nothing to do: this model gives the same vectors."),
    FitStatus.DIFFERS: ("warning", "Rebuild it for this model."),
    FitStatus.FROM_ROWS: (
        "good",
        "You can use it as it is. Make it again from its text to save the model and the recipe in the file.",
    ),
    FitStatus.UNKNOWN_ORIGIN: ("quiet", "You can use it as it is; the model that it was made for is unknown."),
    FitStatus.OTHER_ARCHITECTURE: ("bad", "Use it with a model of the kind that it was made for."),
}

UNUSABLE = "cannot be used"
"""In lists, in place of a status, for a file whose vectors cannot be loaded."""

UNMEASURED = "not measured"
"""In lists, in place of a status, for a file whose fit has not been measured."""

FILTERS = (*map(str, FitStatus), UNUSABLE, UNMEASURED)
"""All statuses by which a list can be filtered."""

MAX_RATING = 5
"""The best rating that a user can give an embedding on a model; the worst is 1."""
