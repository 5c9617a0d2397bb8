"""What was recovered from an embedding: on one model, and on each of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.core.recovery_answers import (
    BestRecoveryAnswer,
    CandidateAnswer,
    CertaintyAnswer,
    NamedVectorAnswer,
    RecoveryAnswer,
)
from lib_embedmerge.core.statistics import finite_or_none
from lib_embedmerge.errors import format_count
from lib_embedmerge.recipes.recovery.drifted_rows import Certainty, NamedVector
from lib_embedmerge.recipes.recovery.file_context import Drift
from lib_embedmerge.recipes.recovery.readings import Verdict
from lib_embedmerge.recipes.recovery.source_printing import WEIGHTS_ROUNDED

SAME = 1e-3
"""Relative L2 distance up to which an expression counts as giving the vectors: twice the most that float16 rounds."""

CLOSE = 0.1
"""Relative L2 distance up to which an expression counts as close to the vectors."""


@dataclass(frozen=True)
class Recovery:
    """The expression that was recovered from an embedding on one model.

    expression: gives the vectors, apart from the residual.  exact: whether it gives them to the last bit of float16.
    residual: encoder key -> L2 length of the difference divided by the L2 length of the vectors; infinite if the
        vectors are zero and the expression's are not.
    checkpoint: name of the model, for people.
    texts: the texts that the expression adds; an expression for a text that cannot be written as one.
    weights: what each of the texts is multiplied by.
    tokens: largest number of tokens that are added in one vector.
    verdict: what the vectors are.  drift: encoder key -> how far the vectors are from the rows of their tokens; empty
        if no vector is known.
    vectors: what each vector is.  spellings: of their tokens in the vocabulary.
    """

    expression: str
    exact: bool
    residual: Mapping[str, float]
    checkpoint: str
    texts: tuple[str, ...]
    weights: tuple[float, ...]
    tokens: int
    verdict: Verdict = Verdict.SUMS
    drift: Mapping[str, Drift] = field(default_factory=dict)
    vectors: tuple[NamedVector, ...] = ()
    spellings: tuple[str | None, ...] = ()

    @property
    def certainty(self) -> CertaintyAnswer:
        """How many vectors have each certainty."""
        return count_certainties(self.vectors)

    @property
    def is_text(self) -> bool:
        """Whether the text is known, though it may have been made on another model."""
        return self.is_source or self.verdict in {Verdict.EXACT, Verdict.TEXT, Verdict.SUMS}

    @property
    def drift_in_words(self) -> str:
        """The drift of each encoder, for messages: `40% of CLIP-L (51% at most) and 38% of CLIP-G (44% at most)`."""
        return " and ".join(
            f"{format_percent(drift.median)} of {ENCODER_TITLES[key]} ({format_percent(drift.worst)} at most)"
            for key, drift in self.drift.items()
        )

    @property
    def largest_residual(self) -> float:
        """The largest of the encoders' residuals."""
        return max(self.residual.values())

    @property
    def is_source(self) -> bool:
        """Whether the expression gives the vectors, apart from rounding."""
        return self.largest_residual <= SAME

    @property
    def is_close(self) -> bool:
        """Whether the expression comes close to the vectors."""
        return self.largest_residual <= CLOSE

    @property
    def residual_in_words(self) -> str:
        """The residual of each encoder, for messages: `78% of CLIP-L and 80% of CLIP-G`."""
        return " and ".join(f"{format_percent(share)} of {ENCODER_TITLES[key]}" for key, share in self.residual.items())

    @property
    def detail(self) -> str:
        """What was found, in one sentence."""
        if self.largest_residual == 0:
            return "The expression gives exactly these vectors."
        if self.exact:
            return "The expression gives these vectors, as exactly as float16 can store them."
        if self.is_source:
            return "The expression gives these vectors, except for rounding."
        if self.is_close:
            return f"The expression comes close to these vectors, but differs by {self.residual_in_words}."
        if self.verdict != Verdict.NOT_TEXT and self.drift:
            return self._describe_other_model()
        tokens = {0: "no token", 1: "one token"}.get(self.tokens, f"up to {self.tokens} tokens")
        best = f"the best one, with {tokens} for each vector, misses {self.residual_in_words}"
        return f"No combination of tokens makes these vectors: {best}."

    def _describe_other_model(self) -> str:
        """What was found if the vectors are not of this model, in one sentence."""
        if self.verdict == Verdict.MIXED:
            known = len(self.vectors) - self.certainty["not_text"]
            total = format_count(len(self.vectors), "vector")
            return f"{known} of {total} are known. The others were trained; the expression has zero vectors instead."
        made = "The text was" if self.verdict == Verdict.TEXT else "The sums of texts were"
        return f"{made} made on another model, whose rows differ from those here by {self.drift_in_words}."

    def as_json(self) -> RecoveryAnswer:
        """The fields but `tokens`, whether it is close, and the detail, as plain values; None for infinite numbers."""
        return {
            "expression": self.expression,
            "exact": self.exact,
            "close": self.is_close,
            "residual": {key: finite_or_none(share) for key, share in self.residual.items()},
            "checkpoint": self.checkpoint,
            "texts": list(self.texts),
            "weights": list(self.weights),
            "detail": self.detail,
            "verdict": self.verdict.value,
            "drift": {key: drift.as_json() for key, drift in self.drift.items()},
            "vectors": self._list_vectors(),
        }

    def _list_vectors(self) -> list[NamedVectorAnswer]:
        return [
            {
                "token_id": vector.token,
                "token": spelling,
                "certainty": vector.certainty.value,
                "cosine": dict(vector.cosines),
            }
            for vector, spelling in zip(self.vectors, self.spellings, strict=True)
        ]


def count_certainties(vectors: Iterable[NamedVector]) -> CertaintyAnswer:
    """How many vectors have each certainty."""
    counts = Counter(vector.certainty for vector in vectors)
    return {
        "exact": counts[Certainty.EXACT],
        "sure": counts[Certainty.SURE],
        "likely": counts[Certainty.LIKELY],
        "not_text": counts[Certainty.NOT_TEXT],
    }


@dataclass(frozen=True)
class CheckpointAttempt:
    """The attempt to recover an embedding on one of several models.

    checkpoint: name of the model.  recovery: the result, or None if the model could not be tried, for `reason`.
    """

    checkpoint: str
    recovery: Recovery | None
    reason: str | None = None


@dataclass(frozen=True)
class CheckpointRecoveries:
    """The results of recovering one embedding on several models.

    attempts: one for each model, in order; at least one of them has a recovery.
    """

    attempts: tuple[CheckpointAttempt, ...]

    @property
    def recoveries(self) -> list[Recovery]:
        """The results on the models that could be tried, at least one."""
        return [attempt.recovery for attempt in self.attempts if attempt.recovery]

    @property
    def best(self) -> Recovery:
        """The best result: an exact one, else one with the smallest residual; the shortest expression of several."""
        exact = [recovery for recovery in self.recoveries if recovery.exact]
        limit = 1.05 * min(recovery.largest_residual for recovery in self.recoveries) + WEIGHTS_ROUNDED
        close = [recovery for recovery in self.recoveries if recovery.largest_residual <= limit]
        return min(exact or close, key=lambda recovery: len(recovery.expression))

    @property
    def ties(self) -> tuple[str, ...]:
        """Names of the other models on which the best expression gives the vectors too; empty if it does on none."""
        best = self.best
        same = (other for other in self.recoveries if (other.expression, other.exact) == (best.expression, best.exact))
        return tuple(other.checkpoint for other in same if other is not best and best.is_source)

    def as_json(self) -> BestRecoveryAnswer:
        """The fields of the best result, `ties`, and `candidates` with the residuals on each model."""
        candidates: list[CandidateAnswer] = [
            {
                "checkpoint": attempt.checkpoint,
                "exact": attempt.recovery.exact if attempt.recovery else None,
                "residual": attempt.recovery.as_json()["residual"] if attempt.recovery else None,
                "reason": attempt.reason,
            }
            for attempt in self.attempts
        ]
        return {**self.best.as_json(), "ties": list(self.ties), "candidates": candidates}
