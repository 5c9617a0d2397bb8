"""What the core asks of the world: protocols only, no implementation.

A host (a checkpoint file, later each web UI) implements `Model` and `TextEncoder`. They are narrow on purpose: rows of
a token table by id, a tokenizer, and facts that a tag records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from lib_embedmerge.core.architecture import Architecture
    from lib_embedmerge.core.statistics import LengthBand

Progress = Callable[[int, int], None]
"""Called with (done, total), in any unit, while something slow runs."""


@dataclass(frozen=True)
class NearestToken:
    """A token of the vocabulary and its cosine with a vector, -1..1."""

    id: int
    token: str
    cosine: float


class Tokenizer(Protocol):
    """Text to token ids and back, with the ids that the model was trained on."""

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

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens: a space after every token that ends a word, U+FFFD for broken bytes."""
        ...

    def ends_word(self, token_id: int) -> bool:
        """Whether a space follows this token."""
        ...

    def groups(self, ids: Sequence[int]) -> list[list[int]]:
        """The ids in order, those that make up one character together."""
        ...

    def spell(self, ids: Sequence[int]) -> str | None:
        """A text whose token ids are exactly these, or None where no text has them."""
        ...


class TextEncoder(Protocol):
    """One text encoder's token table: its rows are the vectors that text becomes."""

    key: str
    """clip_l, clip_g or clip_h."""
    width: int
    vocabulary_size: int
    """Rows of the table."""
    padding_id: int
    """What the web UIs fill a short chunk with: 49407 for CLIP-L, 0 for CLIP-G and CLIP-H."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    def vectors(self, ids: Sequence[int]) -> torch.Tensor:
        """float32 [len(ids), width] on the model's device; only these rows are read. ids are within the vocabulary."""
        ...

    def mean_length(self) -> float:
        """The mean L2 length of the table's rows that are finite, rounded to float32."""
        ...

    def length_band(self) -> LengthBand:
        """How long the table's rows are, by which a vector is seen to be out of the usual. Reads the whole table."""
        ...

    def nearest(self, vectors: torch.Tensor, count: int = 1) -> list[list[NearestToken]]:
        """For each row of vectors [n, width] the `count` closest tokens by cosine, best first, ties by id; none for
        a zero vector."""
        ...

    def rows_equal_to(self, vectors: torch.Tensor) -> list[int | None]:
        """For each row of vectors [n, width] the lowest id whose row is the same in float16, or None."""
        ...


class NamedEmbedding(Protocol):
    """An embedding that texts may name."""

    @property
    def name(self) -> str: ...

    @property
    def vectors(self) -> Mapping[str, torch.Tensor]:
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
    """The embeddings that texts may name, found by token ids as the web UIs find them."""

    @property
    def state(self) -> object:
        """Another object, told by `is`, once a text may name others than before."""
        ...

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest name whose tokens stand at ids[position:], with its number of tokens."""
        ...

    def load(self, name: str) -> NamedEmbedding:
        """The embedding of that name. StorageError where its file cannot be used."""
        ...

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> NamedEmbedding | None:
        """The embedding with these vectors, whatever it is called now, or None.

        sha256: hash of its vectors, or of its file if `count` is None.  count: how many vectors it has.
        encoders: keys of the text encoders that it has vectors for, at least.
        """
        ...


@dataclass(frozen=True)
class Fingerprint:
    """What tells one text encoder from another, whatever file, layout or precision it was stored in.

    token_table: sha256 hex over the table's float16 little-endian bytes.
    text_encoder: sha256 hex over all its weights in one canonical naming, None where they are not known.
    mean_length: the mean L2 length of the table's rows, rounded to float32.
    """

    token_table: str
    text_encoder: str | None
    mean_length: float


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without running it.

    title: for people, the checkpoint's name.  file_name: of the checkpoint, no folder.
    architecture: which embeddings it takes.  prediction_type: `epsilon`, `v`, `edm`, `flow`, or None for not known.
    sha256: of the whole checkpoint file, hex, None where not known.
    text_encoder_files: names of the files whose encoders stand in for the checkpoint's own.
    layout: how the weights are stored, for people.  variant: `base`, `inpainting`, `instruct-pix2pix`, `refiner`, ...
    warnings: what a user should know before relying on the model, one sentence each.
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


class Model(Protocol):
    """A model whose token tables texts are looked up in."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def encoders(self) -> Sequence[TextEncoder]:
        """In the order of facts.architecture.encoders."""
        ...

    @property
    def embeddings(self) -> EmbeddingNames:
        """What texts may name."""
        ...

    @property
    def fingerprints_known(self) -> bool:
        """Whether `fingerprints` answers at once."""
        ...

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. Slow the first time for a model, then cached."""
        ...
