"""Evaluate sources to vectors: the same walk for each group of text encoders, in float32, on their device.

token_rows.py makes the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lib_embedmerge.core import operations
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.arrays import Array
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.ports import EmbeddingNames, Model
from lib_embedmerge.core.texts import TextReader
from lib_embedmerge.core.token_rows import TokenRows
from lib_embedmerge.core.vector_walk import VectorWalk
from lib_embedmerge.errors import EvaluationError, ExpressionError, Remedy
from lib_embedmerge.lang.source import Source

Vectors = dict[str, Array]
"""Encoder key -> float32 [n, width], the same n for each."""

_ENOUGH_VECTORS = 256
"""Vectors from which on a batch takes no further source; 2 MB for SDXL."""


class Preparation(NamedTuple):
    """What the evaluations of several sources on one model share.

    text_readers: the result of `make_text_readers`.
    outliner: for the first text reader, or for other encoders than those of the model.
    rows: for the texts of all these sources, or None to fetch them for each source.
    """

    text_readers: Sequence[TextReader]
    outliner: Outliner
    rows: TokenRows | None = None


def evaluate(
    source: Source, model: Model, *, text_readers: Sequence[TextReader] | None = None, limit: int | None = MAX_VECTORS
) -> Vectors:
    """The vectors of a source for each text encoder of the model, on the encoder's device.

    text_readers: the result of `make_text_readers`, if the texts were read before or may name other embeddings than
        those of the model.
    limit: the most vectors that the source may have; None for any number.
    EvaluationError, with its place, if the source has no meaning on this model, has more vectors than `limit`, or gives
    a value that is not finite.
    """
    texts = text_readers or make_text_readers(model)
    return evaluate_prepared(source, model, Preparation(texts, make_outliner(model, texts[0])), limit=limit)


def evaluate_prepared(
    source: Source, model: Model, preparation: Preparation, *, limit: int | None = MAX_VECTORS
) -> Vectors:
    """The vectors of a source, as `evaluate` gives them, with a shared preparation; copies, not views of its rows."""
    [batch] = evaluate_together([source], model, preparation, limit=limit)
    [place] = batch.places
    if isinstance(place, ExpressionError):
        raise place
    return batch.vectors


class Batch(NamedTuple):
    """Some sources that were evaluated together.

    vectors: encoder key -> float32 [N, width], on the encoder's device: those of all sources, one after another.
    places: for each source, in order, which of these are its own, or what is wrong with it.
    """

    vectors: Vectors
    places: Sequence[slice | ExpressionError]


@operations.ignore_overflow()
def evaluate_together(
    sources: Sequence[Source], model: Model, preparation: Preparation, *, limit: int | None = MAX_VECTORS
) -> list[Batch]:
    """Evaluate several sources, as `evaluate` does each, and give their vectors in batches, all sources in order.

    What is done with vectors after it takes a few calls for a batch, where it would take as many for each source. The
    vectors of a batch stay in memory as long as any of them is used, so that a batch ends as soon as it has enough.
    """
    rows = preparation.rows or TokenRows(
        model, preparation.text_readers, (text for source in sources for text in source.texts())
    )
    batches: list[_OpenBatch] = [_OpenBatch(rows)]
    for source in sources:
        if batches[-1].count >= _ENOUGH_VECTORS:
            batches.append(_OpenBatch(rows))
        batches[-1].add(source, preparation.outliner, limit)
    return [batch.close() for batch in batches]


class _OpenBatch:
    """A batch to which sources are added. count: its vectors so far."""

    def __init__(self, rows: TokenRows) -> None:
        self.count = 0
        self._rows = rows
        self._places: list[slice | ExpressionError] = []
        self._evaluations: list[tuple[int, list[VectorWalk]]] = []
        """(number of a source, its evaluation for each group of text encoders), for those that have vectors."""

    def add(self, source: Source, outliner: Outliner, limit: int | None) -> None:
        try:
            outline = outliner.outline(source)
            if limit is not None and len(outline) > limit:
                raise make_vector_limit_error(source, len(outline), limit)
            evaluations = [VectorWalk(group, source, outline) for group in self._rows.groups]
        except ExpressionError as error:
            self._places.append(error)
            return
        self._evaluations.append((len(self._places), evaluations))
        self._places.append(slice(self.count, self.count + len(outline)))
        self.count += len(outline)

    def close(self) -> Batch:
        joined = []
        for index, group in enumerate(self._rows.groups):
            vectors = operations.concatenate([found[index].vectors for _, found in self._evaluations] or [group.empty])
            if not operations.is_finite(vectors):
                self._find_mistakes(index)
            joined.append(vectors)
        return Batch(self._rows.split(joined), self._places)

    def _find_mistakes(self, index: int) -> None:
        """Replace the places of the sources whose vectors, for the group of this index, are not finite, by errors."""
        for number, evaluations in self._evaluations:
            if (error := evaluations[index].find_infinite()) is not None:
                self._places[number] = error


def make_text_readers(model: Model, names: EmbeddingNames | None = None) -> list[TextReader]:
    """A TextReader for each text encoder of a model; encoders with the same tokenizer share one.

    names: the embeddings that texts may name; None for those of the model.
    """
    by_tokenizer: dict[int, TextReader] = {}
    return [
        by_tokenizer.setdefault(id(encoder.tokenizer), TextReader(encoder.tokenizer, names or model.embeddings))
        for encoder in model.encoders
    ]


def make_vector_limit_error(source: Source, count: int, limit: int) -> EvaluationError:
    """The error for a source with more vectors than one embedding holds. count: of its vectors."""
    parts = -(-count // limit)
    cut = f", or write :{limit} after it to keep the first {limit}" if source.kind == "expression" else ""
    return EvaluationError(
        f"This makes {count} vectors; one embedding holds at most {limit}.",
        source=source.text,
        start=0,
        end=len(source.text),
        expected=f"at most {limit} vectors",
        hint=f"Split it into {parts} embeddings{cut}.",
        remedy=Remedy.SPLIT,
    )
