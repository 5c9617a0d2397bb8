"""What every text encoder with a searchable token table answers in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from lib_embedmerge.checkpoints.search import TableSearch
from lib_embedmerge.core.ports import NearestToken, Tokenizer
from lib_embedmerge.core.statistics import LengthBand


class SearchedEncoder(ABC):
    """The part of core.ports.TextEncoder that goes through the whole token table."""

    if TYPE_CHECKING:  # a class has it as a property or as a field, which a property here would be in the way of

        @property
        def tokenizer(self) -> Tokenizer: ...

    @property
    @abstractmethod
    def search(self) -> TableSearch:
        """The search over the token table."""

    def length_band(self) -> LengthBand:
        """How long the table's rows are. Reads the whole table the first time."""
        return self.search.length_band()

    def nearest(self, vectors: torch.Tensor, count: int = 1) -> list[list[NearestToken]]:
        """The closest tokens to each row of [n, width], best first. Reads the whole table the first time."""
        return self.search.nearest_tokens(vectors, count, self.tokenizer)

    def find_equal_rows(self, vectors: torch.Tensor) -> list[int | None]:
        """For each row of [n, width] the lowest id with the same row in float16. Reads the table the first time."""
        return self.search.find_equal_rows(vectors)
