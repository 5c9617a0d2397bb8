"""A text encoder of a checkpoint file (core.ports.TextEncoder)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy

from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.search import TableSearch
from lib_embedmerge.checkpoints.searched_encoder import SearchedEncoder
from lib_embedmerge.checkpoints.table import TokenTable
from lib_embedmerge.core.architecture import PADDING_IDS
from lib_embedmerge.core.arrays import Array
from lib_embedmerge.core.ports import Tokenizer


class CheckpointEncoder(SearchedEncoder):
    """A text encoder of a checkpoint. Rows of its token table are read from the disk when they are first needed.

    key, width, vocabulary_size, padding_id: as in core.ports.TextEncoder.  source: its weights in the checkpoint.
    """

    def __init__(self, source: EncoderSource, device: str, mean_length: Callable[[str], float]) -> None:
        """device: where `vectors` returns rows, as torch spells it: `cpu`, `cuda`.

        mean_length: returns the mean length of the rows for an encoder key; the model looks it up in its cache.
        """
        self._table = TokenTable(source, device)
        self._search = TableSearch(self._table, copy_on=device)
        self._mean_length = mean_length
        self.source = source
        self.key = source.key
        self.width = self._table.width
        self.vocabulary_size = self._table.count
        self.padding_id = PADDING_IDS[source.key]

    @property
    def tokenizer(self) -> Tokenizer:
        """CLIP's tokenizer; all text encoders of all architectures have the same vocabulary."""
        # Imported late: rows by id do not need it, and importing it unpacks the vocabulary.
        from lib_embedmerge.tokenizer import clip_tokenizer

        return clip_tokenizer()

    @property
    def search(self) -> TableSearch:
        """The search in the token table."""
        return self._search

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the encoder is read from."""
        return self.source.weights.files

    def vectors(self, ids: Sequence[int]) -> Array:
        """The rows for these token ids as float32 [len(ids), width] on the model's device; NaN stays NaN.

        CheckpointError for an id outside the table.
        """
        return self._table.rows(ids)

    def table_pieces(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """The whole table in pieces: (id of the first row, float32 [n, width])."""
        return self._table.pieces()

    def mean_length(self) -> float:
        """The mean L2 length of all finite rows, rounded to float32. Reads the table if it is not in the cache."""
        return self._mean_length(self.key)
