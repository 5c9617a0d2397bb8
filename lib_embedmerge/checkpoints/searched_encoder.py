"""The base class of text encoders that search their token table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lib_embedmerge.checkpoints.close_rows import find_close_rows
from lib_embedmerge.checkpoints.search import TableSearch
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.ports import CloseRows, NearestToken, Tokenizer
from lib_embedmerge.core.statistics import LengthBand


class SearchedEncoder(ABC):
    """The methods of core.ports.TextEncoder that go through the whole token table."""

    if TYPE_CHECKING:  # a class has it as a property or as a field, which a property here would be in the way of

        @property
        def tokenizer(self) -> Tokenizer: ...

    @property
    @abstractmethod
    def search(self) -> TableSearch:
        """The search over the token table."""

    def length_band(self) -> LengthBand:
        """The usual L2 lengths of the rows. Reads the whole table the first time."""
        return self.search.length_band()

    def nearest(self, vectors: Array, count: int = 1) -> list[list[NearestToken]]:
        """The `count` closest tokens to each row of [n, width], closest first. Reads the whole table the first time."""
        return self.search.nearest_tokens(vectors, count, self.tokenizer)

    def find_equal_rows(self, vectors: Array) -> list[int | None]:
        """For each row of [n, width] the lowest token id whose row is equal in float16, or None.

        Reads the whole table the first time.
        """
        return self.search.find_equal_rows(vectors)

    def find_close_rows(self, vectors: Array, least: float, most: int) -> CloseRows:
        """The rows whose cosine with a vector of [n, width] is at least `least`, at most `most` for each vector.

        Goes through the table once for all vectors, however many they are.
        """
        return find_close_rows(self.search.table.pieces(), to_numpy(vectors), least, most)
