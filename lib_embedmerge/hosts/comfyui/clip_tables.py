"""The token tables of a CLIP of ComfyUI, and text encoders with these tables.

ComfyUI's clones of a CLIP share one module, into which the patches of the clone that was loaded last are written. So
every read first loads the clone whose rows are wanted. Rows are asked of the embedding layer, because ComfyUI may keep
patches outside of the weight if memory is short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy
import torch

from lib_embedmerge.checkpoints.fingerprints import fingerprint_table
from lib_embedmerge.checkpoints.search import PIECE_ROWS, TableSearch
from lib_embedmerge.checkpoints.searched_encoder import SearchedEncoder
from lib_embedmerge.core.architecture import PADDING_IDS, WIDTHS
from lib_embedmerge.core.arrays import CPU, Array, to_numpy, to_tensor
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.hosts.memory_tables import describe_precision, place_rows
from lib_embedmerge.tokenizer import clip_tokenizer

_TABLE_NAME = "token_embedding.weight"
"""End of the name of a token table among the patches of a CLIP."""


class ClipTable:
    """A token table of a CLIP (checkpoints.search.Table). count, width: its shape."""

    def __init__(self, patcher: Any, layer: torch.nn.Module) -> None:
        """patcher: the ModelPatcher of the CLIP.  layer: its embedding layer, whose `weight` is [count, width]."""
        self._patcher = patcher
        self._layer: Any = layer
        self.count, self.width = _find_shape(layer)

    def weight(self) -> torch.Tensor:
        """The table itself, [count, width], shared with the CLIP: of any floating dtype, on any device."""
        self._load()
        weight: torch.Tensor = self._layer.weight
        return weight.detach()

    @property
    def precision(self) -> str:
        """The dtype and device of the table, for people: `float16 on cuda:0`."""
        return describe_precision(self._layer.weight)

    def rows(self, ids: Sequence[int]) -> Array:
        """The rows for these token ids, as the CLIP encodes them: float32 [len(ids), width], a copy."""
        self._load()
        return self._read(torch.tensor(list(ids), dtype=torch.int64))

    def read(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows for these token ids: float32 [len(ids), width], a copy."""
        return to_numpy(self.rows(ids))

    def pieces(self) -> Iterator[tuple[int, Array]]:
        """The whole table in pieces: (index of the first row, float32 [n, width], a copy)."""
        self._load()
        for first in range(0, self.count, PIECE_ROWS):
            yield first, self._read(torch.arange(first, min(first + PIECE_ROWS, self.count)))

    def _load(self) -> None:
        """Write the patches of this CLIP into the shared module, as ComfyUI does before it encodes."""
        from comfy import model_management

        model_management.load_model_gpu(self._patcher)

    def _read(self, ids: torch.Tensor) -> Array:
        rows: torch.Tensor = self._layer(ids.to(self._layer.weight.device), out_dtype=torch.float32)
        return place_rows(rows.detach())


class ClipEncoder(SearchedEncoder):
    """A core.ports.TextEncoder with a token table of a CLIP."""

    def __init__(self, key: str, table: ClipTable) -> None:
        self.key = key
        self.table = table
        self.width = table.width
        self.vocabulary_size = table.count
        self.padding_id = PADDING_IDS[key]
        self._search = TableSearch(table, copy_on=None)

    @property
    def tokenizer(self) -> Tokenizer:
        """EmbedMerge's own tokenizer, which gives the ids of ComfyUI's."""
        return clip_tokenizer()

    @property
    def search(self) -> TableSearch:
        """The search in the table itself; no copy of the table is kept."""
        return self._search

    def table_pieces(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """The whole token table in pieces: (id of the first row, float32 [n, width]).

        All are read now, because a clone may write its patches into the shared module before the last one is used.
        """
        return iter([(first, to_numpy(rows)) for first, rows in self.table.pieces()])

    def vectors(self, ids: Sequence[int]) -> Array:
        """The rows for these token ids: float32 [len(ids), width] on the table's device, a copy."""
        return self.table.rows(ids)

    def mean_length(self) -> float:
        """Mean L2 length of all rows that are finite, rounded to float32."""
        return self._mean_length

    @cached_property
    def _mean_length(self) -> float:
        return fingerprint_table(to_numpy(rows) for _, rows in self.table.pieces()).mean_length


def find_token_layers(patcher: Any) -> dict[str, torch.nn.Module]:
    """Encoder key -> embedding layer with the token table, for the CLIP encoders of a CLIP, in the order of WIDTHS.

    patcher: the ModelPatcher of the CLIP.

    Empty for a CLIP without such encoders. A model of several encoders may have been loaded without some of them.
    """
    layers = {}
    for key, width in WIDTHS.items():
        transformer = getattr(getattr(patcher.model, key, None), "transformer", None)
        layer = transformer.get_input_embeddings() if transformer is not None else None
        if isinstance(layer, torch.nn.Module) and _find_shape(layer)[1] == width:
            layers[key] = layer
    return layers


def _find_shape(layer: torch.nn.Module) -> tuple[int, int]:
    """(rows, width) of the table of an embedding layer."""
    weight: Any = layer.weight
    rows, width = weight.shape
    return int(rows), int(width)


def make_encoders(patcher: Any) -> tuple[ClipEncoder, ...]:
    """The text encoders of a CLIP that embeddings are made for; empty if it has none. patcher: of the CLIP."""
    return tuple(ClipEncoder(key, ClipTable(patcher, layer)) for key, layer in find_token_layers(patcher).items())


def find_patched_tables(patcher: Any) -> tuple[str, ...]:
    """The keys of the encoders whose token table is changed by patches, such as those of CLIPMergeSimple."""
    patches: Mapping[str, object] = patcher.patches
    names = [name for name in patches if name.endswith(_TABLE_NAME)]
    return tuple(key for key in WIDTHS if any(name.startswith(f"{key}.") for name in names))


def find_patched_state(patcher: Any) -> object:
    """A value that changes when the patches of a CLIP change."""
    return patcher.patches_uuid


def to_tensors(vectors: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Vectors as ComfyUI's tokenizers give those of a file: float32 tensors on the CPU."""
    # Copies, because other nodes may change the vectors of a text in place.
    return {key: to_tensor(rows, CPU).to(torch.float32, copy=True) for key, rows in vectors.items()}
