"""A copy of one of ComfyUI's tokenizers that reads expressions. The original is not changed.

A CLIP's tokenizer has a tokenizer for each text encoder, whose `tokenize_with_weights` reads weights and asks
`_try_get_embedding` for the vectors of `embedding:NAME`. The copies replace both, and keep everything else.
"""

from __future__ import annotations

import copy
from typing import Any, Protocol

from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.hosts.comfyui.prompt_reading import ReadText

_READER, _ORIGINAL = "_embedmerge_reader", "_embedmerge_original"


_classes: dict[object, Any] = {}
"""(class of tokenizers, whether it is for a CLIP encoder) -> its subclass that reads expressions."""


class Reader(Protocol):
    """Reads texts for tokenizers."""

    def read(self, text: str) -> ReadText:
        """A text for tokenizers of CLIP encoders."""
        ...

    def write_words(self, text: str) -> str:
        """A text for other tokenizers."""
        ...


def wrap_tokenizer(tokenizer: Any, reader: Reader) -> Any:
    """A copy of a CLIP's tokenizer that reads texts with `reader`.

    A copy that was made here before is replaced, not wrapped again.
    """
    original = getattr(tokenizer, _ORIGINAL, tokenizer)
    wrapped = copy.copy(original)
    for name, part in vars(original).items():
        if hasattr(part, "tokenize_with_weights") and hasattr(part, "embedding_key"):
            setattr(wrapped, name, wrap_part(part, reader))
    setattr(wrapped, _ORIGINAL, original)
    setattr(wrapped, _READER, reader)
    return wrapped


def find_reader(tokenizer: Any) -> Any:
    """The reader of a tokenizer that was made here, or None."""
    return getattr(tokenizer, _READER, None)


def wrap_part(part: Any, reader: Reader) -> Any:
    """A copy of the tokenizer of one text encoder."""
    takes_vectors = part.embedding_key in WIDTHS and part.embedding_directory is not None
    wrapped = copy.copy(part)
    wrapped.__class__ = _find_class(type(part), takes_vectors=takes_vectors)
    setattr(wrapped, _READER, reader)
    return wrapped


def _find_class(base: object, *, takes_vectors: bool) -> Any:
    """The one subclass of the class of a text encoder's tokenizer. takes_vectors: whether it is for a CLIP encoder."""
    key = base, takes_vectors
    if key not in _classes:
        _classes[key] = _make_reading_class(base) if takes_vectors else _make_wording_class(base)
    return _classes[key]


def _make_reading_class(base: Any) -> Any:
    """A subclass of a tokenizer's class for a CLIP encoder."""

    class ReadingTokenizer(base):  # type: ignore[misc] # known only when ComfyUI runs
        """Looks up the vectors of expressions and names."""

        def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
            """As ComfyUI's, with vectors in place of expressions."""
            read = getattr(self, _READER).read(text)
            self._embedmerge_vectors = read.vectors
            return super().tokenize_with_weights(read.text, *args, **kwargs)

        def _try_get_embedding(self, embedding_name: str) -> Any:
            """(vectors, rest of the text) for the text after `embedding:`."""
            words = embedding_name.split()
            if not words:
                return None, ""
            vectors = self._embedmerge_vectors.get(words[0])
            if vectors is None:
                return super()._try_get_embedding(embedding_name)
            # An encoder that the model does not have still reads texts; ComfyUI gives it any vectors of a file.
            rows = vectors.get(self.embedding_key, next(iter(vectors.values())))
            return rows, " ".join(words[1:])

    return ReadingTokenizer


def _make_wording_class(base: Any) -> Any:
    """A subclass of a tokenizer's class for a text encoder that is not a CLIP encoder."""

    class WordingTokenizer(base):  # type: ignore[misc] # known only when ComfyUI runs
        """Reads the words of expressions."""

        def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
            """As ComfyUI's, with words in place of expressions."""
            return super().tokenize_with_weights(getattr(self, _READER).write_words(text), *args, **kwargs)

    return WordingTokenizer
