"""Token ids back to a source that gives them: a text where one does, else token by token."""

from __future__ import annotations

from collections.abc import Sequence

from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.lang.printer import print_text


def find_token_of_row(row: int, tokenizer: Tokenizer) -> str:
    """A row of a token table by its token, `cat</w>`; `#49408` for one that was added to the table, which has none."""
    return tokenizer.token(row) if row < tokenizer.vocabulary_size else f"#{row}"


def spell(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """An expression whose vectors are exactly the rows of these ids: `'photo of a cat'`, or `'',1836,85`."""
    text = tokenizer.spell(ids)
    return print_text(text) if text is not None else "''" + "".join(f",{token}" for token in ids)
