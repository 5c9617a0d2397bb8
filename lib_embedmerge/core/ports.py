"""The interfaces that the core needs from outside: protocols and plain values, no implementation.

Checkpoint files and web UIs implement `Model` and `TextEncoder`. Both are small on purpose: rows of a token table by
id, a tokenizer, and the facts that a tag records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

    from lib_embedmerge.core.architecture import Architecture
    from lib_embedmerge.core.arrays import Array
    from lib_embedmerge.core.statistics import LengthBand

Progress = Callable[[int, int], None]
"""A function that is called with (done, total), in any unit, while something slow runs."""


@dataclass(frozen=True)
class NearestToken:
    """A token close to a vector. token: as the vocabulary spells it, `cat</w>`.  cosine: with the vector, -1 to 1."""

    id: int
    token: str
    cosine: float


@dataclass(frozen=True, eq=False)
class CloseRows:
    """Rows of a token table that are close to some vectors: pairs, sorted by vector, then from the closest row on.

    vectors: the index of each pair's vector.  ids: its row.  cosines: of the two, float32. All are arrays [pairs].
    """

    vectors: numpy.ndarray
    ids: numpy.ndarray
    cosines: numpy.ndarray


class Tokenizer(Protocol):
    """Converts text to the token ids that the model was trained on, and back."""

    vocabulary_size: int
    start_id: int
    end_id: int
    comma_id: int

    def __hash__(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without start and end. Never raises, whatever the text."""
        ...

    def token(self, token_id: int) -> str:
        """A token as the vocabulary spells it, `cat</w>`. IndexError outside the vocabulary."""
        ...

    def has_token(self, spelling: str) -> bool:
        """Whether the vocabulary has a token with this spelling, `cat</w>`."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens: a space after every token that ends a word, U+FFFD for broken bytes."""
        ...

    def ends_word(self, token_id: int) -> bool:
        """Whether a word ends after this token, so that `decode` puts a space there."""
        ...

    def groups(self, ids: Sequence[int]) -> list[list[int]]:
        """The ids in order, with the ids of one character in one group."""
        ...

    def spell(self, ids: Sequence[int]) -> str | None:
        """A text whose token ids are exactly these, or None if none was found."""
        ...


class TextEncoder(Protocol):
    """A text encoder's token table, whose rows are the vectors of the tokens in a text."""

    key: str
    """clip_l, clip_g or clip_h."""
    width: int
    vocabulary_size: int
    """Rows of the table."""
    padding_id: int
    """Token id with which the web UIs fill a short chunk: 49407 for CLIP-L, 0 for CLIP-G and CLIP-H."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    def vectors(self, ids: Sequence[int]) -> Array:
        """The rows for these token ids as float32 [len(ids), width] on the model's device. No other row is read.

        ids: all below `vocabulary_size`.  The result is a copy.
        """
        ...

    def mean_length(self) -> float:
        """Mean L2 length of all rows that are finite, rounded to float32."""
        ...

    def length_band(self) -> LengthBand:
        """The usual L2 lengths of the rows, to recognise vectors of an unusual length. Reads the whole table."""
        ...

    def nearest(self, vectors: Array, count: int = 1) -> list[list[NearestToken]]:
        """For each vector of [n, width] the `count` tokens with the largest cosine, largest first, equal ones by id.

        The list for a zero vector is empty.
        """
        ...

    def find_equal_rows(self, vectors: Array) -> list[int | None]:
        """For each vector of [n, width] the lowest token id whose row is equal to it in float16, or None."""
        ...

    def find_close_rows(self, vectors: Array, least: float, most: int) -> CloseRows:
        """The rows whose cosine with a vector of [n, width] is at least `least`, at most `most` for each vector.

        Goes through the table once for all vectors, however many they are.
        """
        ...


class NamedEmbedding(Protocol):
    """An embedding that texts may call by its name."""

    @property
    def name(self) -> str: ...

    @property
    def vectors(self) -> Mapping[str, Array]:
        """Encoder key -> float32 [n, width], the same n for each."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The texts of its file, the tag among them; empty without a file."""
        ...

    @property
    def path(self) -> Path | None:
        """Its file, if it was read from one."""
        ...

    @property
    def follows_recipe(self) -> bool:
        """Whether the vectors were made again from its recipe on the model at hand, and are not those of its file."""
        ...


class EmbeddingNames(Protocol):
    """The embeddings that texts may call by their names, which are found by token ids as in the web UIs."""

    @property
    def state(self) -> object:
        """An object that is replaced by another one (compare with `is`) when the set of names changes."""
        ...

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest name whose tokens ids[position:] begins with, and its number of tokens; None if there is none."""
        ...

    def load(self, name: str) -> NamedEmbedding:
        """The embedding with this name. StorageError if its file cannot be used."""
        ...

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> NamedEmbedding | None:
        """The embedding with these vectors, whatever it is called now, or None.

        sha256: hash of its vectors, or of its file if `count` is None.  count: how many vectors it has.
        encoders: keys of the text encoders that it has vectors for, at least.
        """
        ...


@dataclass(frozen=True)
class Fingerprint:
    """Identifies a text encoder by its weights, whatever the file, layout or precision in which they are stored.

    token_table: sha256, in hex, of the token table's float16 little-endian bytes.
    text_encoder: sha256, in hex, of all its weights under canonical names; None if they are not known.
    mean_length: mean L2 length of the rows of the token table, rounded to float32.
    """

    token_table: str
    text_encoder: str | None
    mean_length: float


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model that are known without running it.

    title: the checkpoint's name for people.  file_name: of the checkpoint, without a folder.
    architecture: decides which embeddings it takes.
    prediction_type: `epsilon`, `v`, `edm`, `flow`, or None if it is not known.
    zero_terminal_snr: whether it was trained with a noise schedule that ends in pure noise.
    variant: `base`, `inpainting`, `instruct-pix2pix`, `refiner`, ...
    layout: how the weights are stored, for people.
    sha256: of the whole checkpoint file, in hex, or None if it is not known.
    text_encoder_files: names of the files whose text encoders replace those of the checkpoint.
    warnings: problems that a user should know of, one sentence each.
    """

    title: str
    file_name: str
    architecture: Architecture
    prediction_type: str | None = None
    zero_terminal_snr: bool = False
    variant: str = "base"
    layout: str = ""
    sha256: str | None = None
    text_encoder_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def family(self) -> str:
        """The kind of model, for people: `SDXL`, `SDXL inpainting`."""
        return self.architecture.title + ("" if self.variant in {"base", "refiner"} else f" {self.variant}")


class Model(Protocol):
    """A model with its text encoders, and the embeddings that texts may name."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def encoders(self) -> Sequence[TextEncoder]:
        """In the order of facts.architecture.encoders."""
        ...

    @property
    def embeddings(self) -> EmbeddingNames:
        """The embeddings that texts may name."""
        ...

    @property
    def has_fingerprints(self) -> bool:
        """Whether the fingerprints are known already, so that `fingerprints` returns at once."""
        ...

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. The first call for a model is slow; the result is cached."""
        ...
