"""A text encoder of a checkpoint file, as the core asks for one (core.ports.TextEncoder)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.search import TableSearch
from lib_embedmerge.checkpoints.searched_encoder import SearchedEncoder
from lib_embedmerge.checkpoints.table import TokenTable
from lib_embedmerge.core.architecture import PADDING_IDS
from lib_embedmerge.core.ports import Tokenizer


class CheckpointEncoder(SearchedEncoder):
    """One token table of a checkpoint. Rows come off the disk when they are first asked for.

    key, width, vocabulary_size, padding_id: as in the protocol.  source: where it stands in its file.
    """

    def __init__(self, source: EncoderSource, device: torch.device, mean_length: Callable[[str], float]) -> None:
        """mean_length: gives it for an encoder key; the model knows what is cached."""
        self._table = TokenTable(source, device)
        self._search = TableSearch(self._table, device)
        self._mean_length = mean_length
        self.source = source
        self.key = source.key
        self.width = self._table.width
        self.vocabulary_size = self._table.count
        self.padding_id = PADDING_IDS[source.key]

    @property
    def tokenizer(self) -> Tokenizer:
        """CLIP's; every encoder of every architecture here has the same vocabulary."""
        # Not needed for rows by id, and it unpacks the vocabulary.
        from lib_embedmerge.tokenizer import clip_tokenizer

        return clip_tokenizer()

    @property
    def search(self) -> TableSearch:
        """The search over the table of the file."""
        return self._search

    @property
    def files(self) -> tuple[Path, ...]:
        return self.source.weights.files

    def vectors(self, ids: Sequence[int]) -> torch.Tensor:
        """float32 [len(ids), width] on the model's device; what is NaN in the file is NaN here.

        CheckpointError for an id outside the table.
        """
        return self._table.rows(ids)

    def table_pieces(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, float32 [n, width]) over the whole table, on the CPU."""
        return self._table.pieces()

    def mean_length(self) -> float:
        """The mean L2 length of all rows, rounded to float32. Reads the table where no run has measured it before."""
        return self._mean_length(self.key)
