"""What is read from the vectors of a file: values of across_models.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lib_embedmerge.recipes.recovery.candidate_texts import Segment
from lib_embedmerge.recipes.recovery.drifted_rows import NamedVector
from lib_embedmerge.recipes.recovery.file_context import Drift


class Verdict(str, Enum):
    """What the vectors of a file are.

    EXACT: rows of this model.  TEXT: rows of another model; the text is known.  SUMS: weighted sums of texts.
    MIXED: some are rows, some are not.  NOT_TEXT: none is known: they were trained.
    """

    EXACT = "exact"
    TEXT = "text"
    SUMS = "sums"
    MIXED = "mixed"
    NOT_TEXT = "not_text"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Reading:
    """What was read from the vectors of one file.

    keys: the text encoders whose vectors were read, those with vectors that are not zero.
    vectors: what each vector is.  segments: what gives about these vectors; zero vectors where a vector is not known.
        Empty for NOT_TEXT.
    drift: encoder key -> drift of the vectors that are known.
    may_be_exact: whether sums of rows of this very model may give exactly these vectors.
    """

    verdict: Verdict
    keys: tuple[str, ...]
    vectors: tuple[NamedVector, ...]
    segments: tuple[Segment, ...]
    drift: Mapping[str, Drift]
    may_be_exact: bool = False
