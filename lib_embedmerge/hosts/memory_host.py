"""A host for scripts and tests: a model given as arrays and a folder of embeddings. The smallest example of a host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy

from lib_embedmerge.checkpoints.fingerprints import fingerprint_table
from lib_embedmerge.checkpoints.search import PIECE_ROWS, TableSearch
from lib_embedmerge.checkpoints.searched_encoder import SearchedEncoder
from lib_embedmerge.core.architecture import PADDING_IDS, SDXL, Architecture
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.ports import EmbeddingNames, Fingerprint, ModelFacts, Progress, Tokenizer
from lib_embedmerge.core.texts import NoEmbeddings
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import StorageError
from lib_embedmerge.hosts.picture_port import PictureMaker
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass(frozen=True)
class MemoryTable:
    """A checkpoints.search.Table in memory. rows: float32 [count, width], of numpy or on a GPU."""

    rows: Array

    @property
    def count(self) -> int:
        return self.rows.shape[0]

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def read(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows for these token ids: float32 [len(ids), width], a copy."""
        return to_numpy(self.rows[list(ids)])

    def pieces(self) -> Iterator[tuple[int, Array]]:
        """The whole table in pieces: (index of the first row, float32 [n, width])."""
        for first in range(0, self.count, PIECE_ROWS):
            yield first, self.rows[first : first + PIECE_ROWS]


@dataclass
class MemoryEncoder(SearchedEncoder):
    """A core.ports.TextEncoder with a token table in memory.

    key: clip_l, clip_g or clip_h.  table: float32 [vocabulary_size, width], of numpy or on a GPU.
    """

    key: str
    table: Array
    tokenizer: Tokenizer = field(default_factory=clip_tokenizer)
    width: int = field(init=False)
    vocabulary_size: int = field(init=False)
    padding_id: int = field(init=False)

    def __post_init__(self) -> None:
        self.vocabulary_size, self.width = self.table.shape
        self.padding_id = PADDING_IDS[self.key]

    def vectors(self, ids: Sequence[int]) -> Array:
        """The rows for these token ids: float32 [len(ids), width], a copy."""
        rows: Array = self.table[list(ids)]
        return rows

    def mean_length(self) -> float:
        """Mean L2 length of all rows that are finite."""
        return self.length_band().mean

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the token table; the encoder has no other weights."""
        return fingerprint_table(to_numpy(rows) for _, rows in MemoryTable(self.table).pieces())

    @cached_property
    def search(self) -> TableSearch:
        """The search in the table."""
        return TableSearch(MemoryTable(self.table), copy_on=None)


@dataclass
class MemoryModel:
    """A core.ports.Model of encoders in memory. embeddings: those that texts may name."""

    encoders: Sequence[MemoryEncoder]
    embeddings: EmbeddingNames = field(default_factory=NoEmbeddings)
    architecture: Architecture = SDXL

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts("memory", "memory.safetensors", self.architecture)

    @property
    def has_fingerprints(self) -> bool:
        """True, because tables in memory are measured quickly."""
        return True

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. Each is measured once. progress: called with (encoders done, all encoders)."""
        fingerprints = {}
        for done, encoder in enumerate(self.encoders, 1):
            fingerprints[encoder.key] = encoder.fingerprint
            if progress is not None:
                progress(done, len(self.encoders))
        return fingerprints


class MemoryHost:
    """A hosts.port.Host with a model in memory and a folder of embeddings.

    saved: the files that were passed to `embedding_saved` and not removed since, in order.
    """

    chooser = None
    pictures: PictureMaker | None = None
    parts = ()
    recipes_follow = False

    def __init__(self, model: MemoryModel, embeddings_folder: Path, title: str = "memory") -> None:
        """embeddings_folder: need not exist yet. If it does, texts name its embeddings and not those of the model."""
        self.title = title
        self.program = "a test"
        self.embeddings_folder = embeddings_folder
        self.saved: list[Path] = []
        self._model = model
        self._library: EmbeddingFolder | None = None

    def checkpoints(self) -> dict[str, Path]:
        """Empty, because the model is not read from a file."""
        return {}

    def active(self) -> ActiveModel:
        """The model. Texts may name the embeddings of the folder."""
        try:
            model = replace(self._model, embeddings=self.library())
        except StorageError:  # the folder does not exist yet
            model = self._model
        return ActiveModel(model, "memory")

    def library(self) -> EmbeddingFolder:
        """The embeddings folder, read again if it has changed. StorageError if it is missing."""
        if self._library is None:
            self._library = EmbeddingFolder(self.embeddings_folder, self._model.encoders[0].tokenizer)
        self._library.refresh_if_changed()
        return self._library

    def before_replacing(self, path: Path) -> None:
        """Do nothing: no other program has the file open."""

    def embedding_saved(self, path: Path) -> None:
        """Add the file to `saved`."""
        self.saved.append(path)

    def embedding_removed(self, path: Path) -> None:
        """Remove the file from `saved`."""
        self.saved = [saved for saved in self.saved if saved != path]
