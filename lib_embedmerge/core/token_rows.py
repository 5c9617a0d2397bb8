"""The rows of a model's token tables for some texts, those of several text encoders side by side.

Most operations compute each number by itself. On rows that lie side by side they compute the vectors of all text
encoders at once. For short texts, that takes half the calls of the array library. Rows of long texts are not laid side
by side, because copying them takes longer than further calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise

from lib_embedmerge.core.arrays import Array, find_device, find_library, own
from lib_embedmerge.core.ports import Model, TextEncoder
from lib_embedmerge.core.texts import TextReader, TokenRun

_Ids = tuple[int, ...]

_MOST_SIDE_BY_SIDE = 12
"""Tokens of the longest run of which the rows are laid side by side."""


class EncoderGroup:
    """Text encoders whose vectors are computed together: they read texts alike and have their tables in one place.

    encoders: in the order of the model.  texts: reads texts for them.
    columns: encoder key -> its columns in vectors side by side, which are float32 [n, sum of the widths].
    runs: token ids of a run -> its vectors, side by side; views of one array.
    """

    def __init__(
        self, encoders: Sequence[TextEncoder], texts: TextReader, runs: Sequence[_Ids], rows: Sequence[Array]
    ) -> None:
        """runs: of the texts.  rows: for each encoder those of all runs, one run after the other."""
        self.encoders = encoders
        self.texts = texts
        bounds = pairwise(accumulate((encoder.width for encoder in encoders), initial=0))
        self.columns = {encoder.key: slice(*bound) for encoder, bound in zip(encoders, bounds, strict=True)}
        joined = self.join(rows)
        places = pairwise(accumulate(map(len, runs), initial=0))
        self.runs: Mapping[_Ids, Array] = {
            ids: joined[start:end] for ids, (start, end) in zip(runs, places, strict=True)
        }
        self.empty: Array = joined[:0]

    def join(self, parts: Sequence[Array]) -> Array:
        """Vectors side by side. parts: of each encoder, float32 [n, width]."""
        joined: Array = find_library(parts[0]).join_columns(parts) if len(parts) > 1 else parts[0]
        return joined

    def split(self, vectors: Array) -> list[Array]:
        """The vectors of each encoder, which share no memory with the rows. vectors: side by side."""
        if len(self.columns) == 1:
            return [own(vectors)]
        copy = find_library(vectors).copy
        return [copy(vectors[:, columns]) for columns in self.columns.values()]


class TokenRows:
    """The rows for some texts, fetched together: one access to the file or GPU for all texts.

    groups: the text encoders of the model in groups.
    """

    def __init__(self, model: Model, text_readers: Sequence[TextReader], texts: Iterable[str]) -> None:
        """text_readers: the result of `make_text_readers` for the model."""
        texts = list(dict.fromkeys(texts))
        # Token ids outside the vocabulary are a mistake, which the outline reports.
        size = min(encoder.vocabulary_size for encoder in model.encoders)
        readers = {id(reader): reader for reader in text_readers}
        runs = {key: _find_runs(reader, texts, size) for key, reader in readers.items()}
        is_short = all(len(ids) <= _MOST_SIDE_BY_SIDE for found in runs.values() for ids in found)
        members: dict[tuple[int, str], list[tuple[TextEncoder, Array]]] = {}
        for encoder, reader in zip(model.encoders, text_readers, strict=True):
            rows = encoder.vectors([token for ids in runs[id(reader)] for token in ids])
            place = find_device(rows) if is_short else encoder.key
            members.setdefault((id(reader), place), []).append((encoder, rows))
        self.groups = [
            EncoderGroup([encoder for encoder, _ in group], readers[key], runs[key], [rows for _, rows in group])
            for (key, _), group in members.items()
        ]
        self._keys = [encoder.key for encoder in model.encoders]

    def split(self, joined: Sequence[Array]) -> dict[str, Array]:
        """Encoder key -> its vectors, as `EncoderGroup.split` gives them, in the order of the model.

        joined: vectors of each group.
        """
        vectors: dict[str, Array] = {}
        for group, of_group in zip(self.groups, joined, strict=True):
            vectors.update(zip(group.columns, group.split(of_group), strict=True))
        return {key: vectors[key] for key in self._keys}


def _find_runs(reader: TextReader, texts: Iterable[str], size: int) -> list[_Ids]:
    """The token ids of each run in some texts, each once. size: number of token ids; runs with others are left out."""
    runs = (run.ids for text in texts for run in reader.runs(text) if isinstance(run, TokenRun))
    return [ids for ids in dict.fromkeys(runs) if max(ids) < size]
