"""Text encoders that a web UI has in memory: rows of their token tables, wherever these lie.

Nothing here moves, copies or keeps alive a model: tables are held by weak references, and rows are gathered where the
table is. Which modules of a web UI's model are tables is told in token_tables.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from lib_embedmerge.checkpoints.search import TableSearch
from lib_embedmerge.checkpoints.searched_encoder import SearchedEncoder
from lib_embedmerge.core.architecture import PADDING_IDS
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.errors import HostError
from lib_embedmerge.tokenizer import clip_tokenizer

_PIECE_ROWS = 4096


class LiveTable:
    """The token table of a loaded model.

    count, width: its shape.  A model that has gone away since, or another one in its place, is a HostError at the next
    use.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        """module: the embedding layer itself, with a `weight` [count, width]."""
        self._module = weakref.ref(module)
        self._version = read_version(module)
        self.count, self.width = self.weight().shape

    def is_of(self, module: torch.nn.Module) -> bool:
        """Whether this is the table of that very layer."""
        return self._module() is module

    def weight(self) -> torch.Tensor:
        """The table as it lies there: any floating dtype, any device, shared with the model."""
        module = self._module()
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.is_meta:
            raise HostError("The model was unloaded in the meantime.", hint="Try again.")
        if module is not None and read_version(module) != self._version:
            raise HostError("Another model was loaded in the meantime.", hint="Try again.")
        return weight.detach()  # web UIs leave requires_grad on, and Forge's are inference tensors

    @property
    def device(self) -> torch.device:
        """Where to compute: where the table lies now, but on the CPU for devices without float64 (MPS, DirectML)."""
        device = self.weight().device
        return device if device.type in {"cpu", "cuda"} else torch.device("cpu")

    @property
    def precision(self) -> str:
        """What its numbers are and where, for people: `float16 on cuda:0`."""
        weight = self.weight()
        return f"{str(weight.dtype).removeprefix('torch.')} on {weight.device}"

    def rows(self, ids: Sequence[int]) -> torch.Tensor:
        """float32 [len(ids), width] on `device`, not shared with the model."""
        weight = self.weight()
        index = torch.tensor(list(ids), dtype=torch.int64, device=weight.device)
        # fp8: older torch cannot index it, but it can index its bytes.
        storage = weight.view(torch.uint8) if weight.element_size() == 1 else weight
        return storage.index_select(0, index).view(weight.dtype).to(torch.float32).clone().to(self.device)

    def read(self, ids: Sequence[int]) -> torch.Tensor:
        """float32 [len(ids), width] on the CPU."""
        return self.rows(ids).cpu()

    def pieces(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, float32 [n, width]) over the whole table, on its device."""
        weight = self.weight()
        for first in range(0, self.count, _PIECE_ROWS):
            yield first, weight[first : first + _PIECE_ROWS].to(torch.float32).clone()


def read_version(layer: torch.nn.Module) -> int:
    """Goes up when another checkpoint is loaded into the same layer, as AUTOMATIC1111 does; not where it is moved.
    Inference tensors, Forge's, count nothing, but there a new model has new layers."""
    weight: Any = layer.weight
    return 0 if weight.is_inference() else int(weight._version)


class LiveEncoder(SearchedEncoder):
    """A text encoder over such a table (core.ports.TextEncoder)."""

    def __init__(self, key: str, table: LiveTable, mean_length: Callable[[str], float]) -> None:
        """mean_length: gives it for an encoder key, as the model's fingerprints state it."""
        self.key = key
        self.table = table
        self.width = table.width
        self.vocabulary_size = table.count
        self.padding_id = PADDING_IDS[key]
        self._mean_length = mean_length
        self._search = TableSearch(table, table.device, keep=False)

    @property
    def tokenizer(self) -> Tokenizer:
        """Ours, for every web UI: it gives the ids of theirs, so that a source has one meaning everywhere.

        Seen to differ for CLIP-G alone: entities without a semicolon (`&copy`) on A1111, whose open_clip unescapes
        them, and `!` on Forge, whose padding token that is (tests/contract/texts.py).
        """
        return clip_tokenizer()

    @property
    def search(self) -> TableSearch:
        """The search over the table where it lies; no copy of the table is made."""
        return self._search

    def vectors(self, ids: Sequence[int]) -> torch.Tensor:
        """float32 [len(ids), width] on the device where the table lies now."""
        return self.table.rows(ids)

    def mean_length(self) -> float:
        """The mean L2 length of all rows, rounded to float32."""
        return self._mean_length(self.key)
