"""The text encoders of a model that a web UI has in memory, with the rows of their token tables.

Nothing here moves, copies or keeps alive a model: tables are held by weak references, and rows are read on the device
of the table. Each adapter finds the tables in its program's model (webui/token_tables.py).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
import torch

from lib_embedmerge.checkpoints.search import PIECE_ROWS, TableSearch
from lib_embedmerge.checkpoints.searched_encoder import SearchedEncoder
from lib_embedmerge.core.architecture import PADDING_IDS
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.errors import HostError
from lib_embedmerge.files.stored_values import StoredValues
from lib_embedmerge.files.tensors import store_tensor
from lib_embedmerge.hosts.memory_tables import describe_precision, place_rows
from lib_embedmerge.tokenizer import clip_tokenizer


class LiveTable:
    """The token table of a loaded model. count, width: its shape.

    All methods that read it raise HostError if the model was unloaded, or another one was loaded into the same layer.
    """

    def __init__(self, module: torch.nn.Module, own_rows: int | None = None) -> None:
        """module: the embedding layer with the table, whose `weight` is [rows, width].

        own_rows: how many of its rows, from the first one on, are the model's own; None if all are. Programs on
            diffusers add rows for embeddings after these.
        """
        self._own_rows = own_rows
        self._module = weakref.ref(module)
        self._version = read_version(module)
        self.count, self.width = self.weight().shape

    def is_table_of(self, module: torch.nn.Module) -> bool:
        """Whether this is the table of exactly this layer."""
        return self._module() is module

    def weight(self) -> torch.Tensor:
        """The table itself, [count, width], shared with the model: of any floating dtype, on any device."""
        module = self._module()
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.is_meta:
            raise HostError("The model was unloaded in the meantime.", hint="Try again.")
        if module is not None and read_version(module) != self._version:
            raise HostError("Another model was loaded in the meantime.", hint="Try again.")
        table = weight.detach()  # web UIs leave requires_grad on, and Forge's are inference tensors
        return table if self._own_rows is None else table[: self._own_rows]

    @property
    def precision(self) -> str:
        """The dtype and device of the table, for people: `float16 on cuda:0`."""
        return describe_precision(self.weight())

    def rows(self, ids: Sequence[int]) -> Array:
        """The rows for these token ids: float32 [len(ids), width], a copy, where memory_tables.place_rows puts it."""
        weight = self.weight()
        if weight.device.type == "cpu":  # torch would hand even a few rows to its threads, which takes milliseconds
            stored = store_tensor(weight)
            return StoredValues(stored.dtype, stored.bits.take(ids, axis=0)).to_float32()
        index = torch.tensor(list(ids), dtype=torch.int64, device=weight.device)
        # Older versions of torch cannot index fp8, but they can index its bytes.
        storage = weight.view(torch.uint8) if weight.element_size() == 1 else weight
        return place_rows(storage.index_select(0, index).view(weight.dtype).to(torch.float32))

    def read(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows for these token ids: float32 [len(ids), width], a copy."""
        return to_numpy(self.rows(ids))

    def pieces(self) -> Iterator[tuple[int, Array]]:
        """The whole table in pieces: (index of the first row, float32 [n, width]).

        They must not be changed, because those of a float32 table may be the table itself.
        """
        weight = self.weight()
        for first in range(0, self.count, PIECE_ROWS):
            yield first, place_rows(weight[first : first + PIECE_ROWS].to(torch.float32))


def read_version(layer: torch.nn.Module) -> int:
    """A number that increases when another checkpoint is loaded into the same layer, as AUTOMATIC1111 does.

    It does not change when the layer is moved to another device. For Forge's inference tensors, which have no version,
    it is always 0; Forge makes new layers for a new model.
    """
    weight: Any = layer.weight
    return 0 if weight.is_inference() else int(weight._version)


class LiveEncoder(SearchedEncoder):
    """A core.ports.TextEncoder with the token table of a loaded model."""

    def __init__(self, key: str, table: LiveTable, mean_length: Callable[[str], float]) -> None:
        """mean_length: returns the mean length of the rows for an encoder key (LiveFingerprints.mean_length)."""
        self.key = key
        self.table = table
        self.width = table.width
        self.vocabulary_size = table.count
        self.padding_id = PADDING_IDS[key]
        self._mean_length = mean_length
        self._search = TableSearch(table, copy_on=None)

    @property
    def tokenizer(self) -> Tokenizer:
        """EmbedMerge's own tokenizer for every web UI, so that a source means the same everywhere.

        It gives the same ids as the web UIs' tokenizers, apart from two known differences for CLIP-G: A1111's open_clip
        unescapes entities without a semicolon (`&copy`), and Forge uses `!` as padding (tests/contract/texts.py).
        """
        return clip_tokenizer()

    @property
    def search(self) -> TableSearch:
        """The search in the table itself; no copy of the table is kept."""
        return self._search

    def vectors(self, ids: Sequence[int]) -> Array:
        """The rows for these token ids: float32 [len(ids), width] on the table's device, a copy."""
        return self.table.rows(ids)

    def mean_length(self) -> float:
        """Mean L2 length of all rows that are finite, rounded to float32."""
        return self._mean_length(self.key)
