"""The fields of the answers about texts that were recovered: of `recover`, `convert --to` and `restore`.

As those in answers.py, which describes how they are used.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from lib_embedmerge.core.answers import Figures
from lib_embedmerge.errors import ErrorAnswer


class DriftAnswer(TypedDict):
    """How far vectors are from the rows of their tokens, in lengths of the row."""

    median: float
    max: float


class NamedVectorAnswer(TypedDict):
    """The token of one vector."""

    token_id: Annotated[int | None, "Null if it is not the row of one token."]
    token: Annotated[str | None, "As the vocabulary spells it."]
    certainty: Literal["exact", "sure", "likely", "not_text"]
    cosine: Annotated[dict[str, float], "Text encoder -> cosine with the row of the token, or with the closest row."]


class CertaintyAnswer(TypedDict):
    """How many vectors were named with each certainty."""

    exact: Annotated[int, "Rows of this model, equal in float16."]
    sure: Annotated[int, "Rows of another model; no other token can be meant."]
    likely: Annotated[int, "Probably rows of another model, or sums of such rows."]
    not_text: Annotated[int, "Vectors that were trained, or that no text explains."]


class RecoveryAnswer(TypedDict):
    """The text that an embedding is made of, on one checkpoint."""

    expression: str
    exact: bool
    close: Annotated[bool, "Whether the expression comes close to the vectors."]
    residual: Figures
    checkpoint: str
    texts: list[str]
    weights: list[float]
    detail: str
    verdict: Annotated[
        Literal["exact", "text", "sums", "mixed", "not_text"],
        "Rows of this model, rows of another model, weighted sums of texts, some rows among others, or nothing known.",
    ]
    drift: Annotated[dict[str, DriftAnswer], "Text encoder -> how far the vectors are from the rows of their tokens."]
    vectors: list[NamedVectorAnswer]


class CandidateAnswer(TypedDict):
    """One of the checkpoints that were tried."""

    checkpoint: str
    exact: bool | None
    residual: Figures | None
    reason: str | None


class BestRecoveryAnswer(RecoveryAnswer):
    """The recovery on the best of some checkpoints."""

    ties: list[str]
    candidates: list[CandidateAnswer]


class RecoverAnswer(BestRecoveryAnswer):
    """The same, of a named embedding."""

    name: str


class RecoverFileAnswer(RecoverAnswer):
    """The same on the command line, which can save the text."""

    file: str | None


class CarriedAnswer(TypedDict):
    """What became of one embedding that was to be made for a model of another architecture."""

    source: str
    file: Annotated[str | None, "The new file; null if there is none."]
    status: Annotated[str, "`written` or `skipped`."]
    certainty: CertaintyAnswer
    checkpoint: str
    verdict: Annotated[str | None, "As in the answer of `recover`."]
    text: Annotated[str | None, "The recipe; null if not every vector is text."]
    warnings: list[str]
    reason: Annotated[str | None, "Why none was written."]


class RestoreAnswer(TypedDict):
    """What became of one file of a library, or in a dry run what would become of it."""

    source: str
    verdict: Annotated[str | None, "As in the answer of `recover`; null if the file was not read."]
    certainty: CertaintyAnswer
    text: Annotated[str | None, "The recipe; null if not every vector is text."]
    group: Annotated[int | None, "Files with the same number come from the same token table; null for a file alone."]
    written: list[str]
    status: Annotated[str, "`planned` in a dry run, `written`, `up to date` or `skipped`."]
    reason: Annotated[str | None, "Why nothing, or not everything, was written."]
    planned: Annotated[list[str], "The files to write: the one that gets the recipe, and one for each checkpoint."]
    checkpoint: Annotated[str | None, "The nearest of the checkpoints."]
    drift: dict[str, DriftAnswer]
    warnings: list[str]


class LibraryJobAnswer(TypedDict):
    """The progress of a restore or a conversion."""

    state: Literal["running", "done", "cancelled", "failed"]
    done: Annotated[int, "Finished files."]
    total: int
    seconds_left: float | None
    results: Annotated[list[dict[str, Any]], "As the command of that name answers."]
    error: ErrorAnswer | None
