"""Write a source for given token ids: a text if one has these ids, else token by token."""

from __future__ import annotations

from collections.abc import Sequence

from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.lang.printer import print_text


def find_token_of_row(row: int, tokenizer: Tokenizer) -> str:
    """The token of a row of a token table, `cat</w>`; `#49408` for a row after the vocabulary, which has no token."""
    return tokenizer.token(row) if row < tokenizer.vocabulary_size else f"#{row}"


def spell(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """An expression whose vectors are those of exactly these tokens: `'photo of a cat'`, or `'',1836,85`."""
    text = tokenizer.spell(ids)
    return print_text(text) if text is not None else "''" + "".join(f",{token}" for token in ids)
