"""Find what is wrong with the vectors of an embedding, and mend a copy of it.

Some tools store the start, end and padding tokens with the vectors; training can make vectors fifty times as long as
those of words, which then drown the prompt; conversions leave a half of zeros, or fewer vectors for one text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, ENCODER_TITLES, WIDTHS
from lib_embedmerge.core.arrays import to_float16, to_numpy
from lib_embedmerge.core.ports import Model
from lib_embedmerge.core.statistics import measure_lengths
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import StorageError, format_count

_LONGEST = {CLIP_L: 0.48, CLIP_G: 0.69}
"""Text encoder -> length of the longest usual token vectors, measured on public files; without a model."""

_TOO_LONG = 4.0
"""A vector is too long if it is longer than the longest usual ones by more than this factor."""

Kind = Literal["uneven", "special", "empty", "broken", "long", "half"]


@dataclass(frozen=True)
class Flaw:
    """Something that is wrong with an embedding.

    kind: `uneven` (fewer vectors for one text encoder, filled up with zero vectors), `special` (start, end or padding
        rows), `empty` (zero vectors), `broken` (not finite), `long` (far longer than words), `half` (all vectors of one
        text encoder are zero).
    indices: of the vectors.  sentence: what is wrong.  can_be_fixed: whether `fix` mends it.
    """

    kind: Kind
    indices: tuple[int, ...]
    sentence: str
    can_be_fixed: bool = True


def find_flaws(embedding: Embedding, model: Model | None = None) -> list[Flaw]:
    """What is wrong with the vectors of an embedding.

    model: whose special tokens and lengths they are compared with; None for the usual lengths alone.
    """
    vectors = _select_clip(embedding)
    if not vectors:
        return []
    flaws = [Flaw("uneven", (), embedding.uneven)] if embedding.uneven else []
    finite = numpy.all([numpy.isfinite(rows).all(axis=1) for rows in vectors.values()], axis=0)
    used = {key: rows.any(axis=1) for key, rows in vectors.items()}
    zero = ~numpy.any(list(used.values()), axis=0)
    if len(broken := numpy.flatnonzero(~finite).tolist()):
        flaws.append(Flaw("broken", tuple(broken), f"{_count(broken)} not finite numbers, which break the image."))
    if len(empty := numpy.flatnonzero(zero).tolist()) and len(empty) < len(zero):
        flaws.append(Flaw("empty", tuple(empty), f"{_count(empty)} zero. They use up room in the prompt."))
    for key, is_used in used.items():
        if not is_used.any() and any(other.any() for other in used.values()):
            sentence = f"All vectors for {ENCODER_TITLES[key]} are zero: it was made for one text encoder only."
            flaws.append(Flaw("half", (), sentence, can_be_fixed=False))
    if special := _find_special(vectors, model):
        flaws.append(Flaw("special", tuple(special), f"{_count(special)} the start, end or padding of a prompt."))
    if long := [index for index in _find_long(vectors, model) if finite[index]]:
        worst = max(
            float(measure_lengths(rows[list(long)]).max()) / _find_band(key, model) for key, rows in vectors.items()
        )
        sentence = (
            f"{_count(long)} up to {worst:.0f} times as long as those of words, and drown out the rest of the prompt."
        )
        flaws.append(Flaw("long", tuple(long), sentence))
    return flaws


def fix(embedding: Embedding, name: str, model: Model | None = None) -> Embedding:
    """A copy under another name without the flaws that can be fixed: vectors are removed, or brought to usual lengths.

    The direction of a vector that is too long is kept. The copy has no recipe, because it is not what that makes.
    StorageError if no vector would be left.
    """
    flaws = [flaw for flaw in find_flaws(embedding, model) if flaw.can_be_fixed]
    removed = {index for flaw in flaws if flaw.kind != "long" for index in flaw.indices}
    kept = [index for index in range(embedding.count) if index not in removed]
    if not kept:
        raise StorageError(f"No vector of {embedding.name} would be left.", hint="The file cannot be fixed.")
    fixed = {}
    for key, rows in embedding.vectors.items():
        chosen = rows[kept].astype(numpy.float64)
        if key in WIDTHS:
            band = _find_band(key, model)
            lengths = measure_lengths(chosen)
            factors = numpy.where(lengths > _TOO_LONG * band, band / numpy.maximum(lengths, 1e-300), 1.0)
            chosen = chosen * factors[:, None]
        fixed[key] = chosen.astype(numpy.float32)
    metadata = {key: value for key, value in embedding.metadata.items() if not key.startswith("embedmerge.")}
    return Embedding(name, fixed, metadata)


def name_copy(name: str) -> str:
    """The name of the copy without flaws of an embedding."""
    return f"{name}-fixed"


def _select_clip(embedding: Embedding) -> Mapping[str, numpy.ndarray]:
    return {key: rows for key, rows in embedding.vectors.items() if key in WIDTHS}


def _find_special(vectors: Mapping[str, numpy.ndarray], model: Model | None) -> list[int]:
    """Indices of the first and last vectors that are the model's rows of start, end or padding, in every encoder."""
    if model is None:
        return []
    matches = []
    for encoder in model.encoders:
        if encoder.key not in vectors:
            return []
        tokenizer = encoder.tokenizer
        ids = sorted({tokenizer.start_id, tokenizer.end_id, encoder.padding_id})
        if max(ids) >= encoder.vocabulary_size:
            return []
        rows = to_float16(to_numpy(encoder.vectors(ids)))
        halves = to_float16(vectors[encoder.key])
        matches.append((halves[:, None, :] == rows[None]).all(axis=2).any(axis=1))
    return list(numpy.flatnonzero(numpy.all(matches, axis=0)).tolist())


def _find_long(vectors: Mapping[str, numpy.ndarray], model: Model | None) -> list[int]:
    """Indices of the vectors that are far longer than those of words in some text encoder."""
    too_long = [measure_lengths(rows) > _TOO_LONG * _find_band(key, model) for key, rows in vectors.items()]
    return list(numpy.flatnonzero(numpy.any(too_long, axis=0)).tolist())


def _find_band(key: str, model: Model | None) -> float:
    """The length of the longest usual token vectors of an encoder; infinite if it is not known."""
    for encoder in model.encoders if model else ():
        if encoder.key == key:
            return encoder.length_band().high
    return _LONGEST.get(key, numpy.inf)


def _count(indices: Sequence[int]) -> str:
    return f"{format_count(len(indices), 'vector')} {'is' if len(indices) == 1 else 'are'}"
