"""Read texts as runs of token ids and named embeddings, which are found as in the web UIs. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lib_embedmerge.core.ports import EmbeddingNames, NamedEmbedding, Tokenizer
from lib_embedmerge.errors import StorageError, quote

if TYPE_CHECKING:
    from pathlib import Path

    from lib_embedmerge.core.arrays import Array


class TokenRun(NamedTuple):
    """Tokens between names of embeddings. Their vectors are rows of the model's token table."""

    ids: tuple[int, ...]


class EmbeddingRun(NamedTuple):
    """The name of an embedding, whose vectors replace those of the name. ids: the tokens of the name in the text."""

    name: str
    ids: tuple[int, ...]


Run = TokenRun | EmbeddingRun


@dataclass(frozen=True, eq=False)
class PlainEmbedding:
    """An embedding in memory (core.ports.NamedEmbedding).

    vectors: encoder key -> float32 [n, width].  metadata, path: of its file, if it has one.
    follows_recipe: whether the vectors were made from its recipe on the model at hand.
    """

    name: str
    vectors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    follows_recipe: bool = False


class NoEmbeddings:
    """The EmbeddingNames of a model without embeddings."""

    state = None

    def find(self, ids: Sequence[int], position: int) -> None:
        """None: there is no name."""

    def load(self, name: str) -> NoReturn:
        """Raises StorageError: there is no embedding."""
        raise StorageError(
            f"No embedding is called {quote(name)}.", hint="Name the embeddings folder when opening the model."
        )

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> None:
        """No embedding has any vectors."""


class TextReader:
    """Reads texts with one tokenizer and one set of names. Each text is read once and cached.

    has_names: whether any text that was read so far has the name of an embedding.
    """

    def __init__(self, tokenizer: Tokenizer, names: EmbeddingNames) -> None:
        self.tokenizer = tokenizer
        self.has_names = False
        self._names = names
        self._runs: dict[str, tuple[Run, ...]] = {}

    def runs(self, text: str) -> tuple[Run, ...]:
        """The runs of a text in order. At each token the longest name that begins there is taken, else the token."""
        runs = self._runs.get(text)
        if runs is None:
            runs = self._runs[text] = self._read(text)
        return runs

    def find_names(self, texts: Iterable[str]) -> list[str]:
        """The names of embeddings in some texts, each once, in order."""
        runs = (run for text in texts for run in self.runs(text))
        return list(dict.fromkeys(run.name for run in runs if isinstance(run, EmbeddingRun)))

    def embedding(self, name: str) -> NamedEmbedding:
        """The embedding with a name that `runs` has found. StorageError if its file cannot be used."""
        return self._names.load(name)

    def _read(self, text: str) -> tuple[Run, ...]:
        ids = self.tokenizer.encode(text)
        runs: list[Run] = []
        first = position = 0
        while position < len(ids):
            match = self._names.find(ids, position)
            if match is None:
                position += 1
                continue
            if first < position:
                runs.append(TokenRun(tuple(ids[first:position])))
            self.has_names = True
            name, length = match
            runs.append(EmbeddingRun(name, tuple(ids[position : position + length])))
            first = position = position + length
        if first < len(ids):
            runs.append(TokenRun(tuple(ids[first:])))
        return tuple(runs)
