"""Lend words of CLIP's vocabulary to vectors while a prompt is encoded.

A pipeline of diffusers has no place where an embedding could be put into one prompt alone: its tokenizers and tables
know names for all prompts, and only grow. So each vector gets a word that is one token, and that no text of the prompt
contains. The words stand in the prompt, every parser and tokenizer reads them as what they are, and a hook on the
embedding layers puts the vectors in the places of their rows. Only the calls of one thread, and only in one block.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from lib_embedmerge.core.arrays import to_tensor
from lib_embedmerge.core.inline import InlineEmbedding
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.sdnext.pipeline_encoders import PipelineEncoder
from lib_embedmerge.lang.stand_ins import STAND_IN
from lib_embedmerge.tokenizer import clip_tokenizer
from lib_embedmerge.tokenizer.vocabulary import END_OF_WORD, load_vocabulary

_WORD = re.compile("[a-z]{5,}")
"""Words that no prompt syntax knows. SD.Next's own are `BREAK`, `AND` and `TE2:`."""


@dataclass
class Lending:
    """The words that are lent in a block. tokens: name of an embedding -> (word, token id) for each of its vectors."""

    tokens: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        """The text with the words of embeddings in place of their names."""
        return STAND_IN.sub(lambda match: self._spell(match[0]), text)

    def _spell(self, name: str) -> str:
        lent = self.tokens.get(name)
        return name if lent is None else " ".join(word for word, _ in lent)


@contextmanager
def lend_tokens(
    embeddings: Mapping[str, InlineEmbedding], texts: Sequence[str], encoders: Sequence[PipelineEncoder]
) -> Iterator[Lending]:
    """In this block, make the text encoders read the words of the Lending as the vectors of these embeddings.

    embeddings: name -> embedding, which has vectors for every encoder.  texts: all that is encoded in the block.
    HostError if so many vectors are to be in the texts that no words are left.
    """
    free = _find_free_words(texts, [encoder.tokenizer for encoder in encoders])
    lending = Lending()
    for name, embedding in embeddings.items():
        count = len(next(iter(embedding.vectors.values())))
        lending.tokens[name] = [token for _, token in zip(range(count), free, strict=False)]
        if len(lending.tokens[name]) < count:
            raise HostError(
                "The prompt has more vectors than EmbedMerge can encode at once.",
                hint="Use fewer or shorter expressions.",
            )
    handles = []
    try:
        for encoder in encoders:
            hook = _LayerHook(_merge_rows(lending, embeddings, encoder.key))
            handles.append(encoder.layer.register_forward_hook(hook))
        yield lending
    finally:
        for handle in handles:
            handle.remove()


def _merge_rows(
    lending: Lending, embeddings: Mapping[str, InlineEmbedding], key: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The lent token ids in ascending order, and the vectors of one encoder in their places, float32 [n, width]."""
    ids = [token_id for lent in lending.tokens.values() for _, token_id in lent]
    rows = torch.cat([to_tensor(embeddings[name].vectors[key]) for name in lending.tokens])
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return torch.tensor(sorted(ids)), rows[order]


class _LayerHook:
    """A forward hook of an embedding layer that replaces the rows of some token ids, for the thread that made it."""

    def __init__(self, lent: tuple[torch.Tensor, torch.Tensor]) -> None:
        """lent: token ids in ascending order [n], and their vectors, float32 [n, width]."""
        self._ids, self._rows = lent
        self._thread = threading.get_ident()

    def __call__(self, _layer: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        """The output with the vectors in their places; None, which means unchanged, if there are none."""
        if threading.get_ident() != self._thread:
            return None
        ids = inputs[0].to(torch.int64)
        self._ids = self._ids.to(ids.device)
        self._rows = self._rows.to(output.device, output.dtype)
        places = torch.searchsorted(self._ids, ids.contiguous()).clamp(max=len(self._ids) - 1)
        is_lent = self._ids[places] == ids
        if not bool(is_lent.any()):
            return None
        return torch.where(is_lent[..., None], self._rows[places], output)


def _find_free_words(texts: Sequence[str], tokenizers: Iterable[Any]) -> Iterator[tuple[str, int]]:
    """(word, token id) of words that the texts do not contain and that every tokenizer reads as that one token.

    A tokenizer reads a word in another way if it contains the name of one of the program's embeddings.
    """
    tokenizers = list(tokenizers)
    used = {token_id for text in texts for token_id in clip_tokenizer().encode(text)}
    for word, token_id in _list_words():
        if token_id not in used and all(_read(word, tokenizer) == [token_id] for tokenizer in tokenizers):
            yield word, token_id


def _read(text: str, tokenizer: Any) -> list[int]:
    """The token ids of a text without start and end."""
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


@lru_cache(maxsize=1)
def _list_words() -> tuple[tuple[str, int], ...]:
    """The words of the vocabulary that may be lent, rare ones first, with their token ids."""
    words = [
        (token.removesuffix(END_OF_WORD), token_id)
        for token_id, token in enumerate(load_vocabulary().tokens)
        if token.endswith(END_OF_WORD) and _WORD.fullmatch(token.removesuffix(END_OF_WORD))
    ]
    return tuple(reversed(words))
