"""Words that every fine-tune knows: common ones of one token each, which two models can be compared by."""

from __future__ import annotations

from lib_embedmerge.core.ports import Tokenizer

_FIRST = 512
"""The ids below are single bytes."""


def list_common_words(tokenizer: Tokenizer, count: int) -> list[int]:
    """Token ids of the first `count` words of 4 to 12 letters. CLIP's vocabulary is sorted: common ones come first."""
    found: list[int] = []
    for token in range(_FIRST, min(tokenizer.start_id, tokenizer.end_id)):
        if len(found) == count:
            break
        spelling = tokenizer.token(token)
        word = spelling.removesuffix("</w>")
        if word != spelling and word.isascii() and word.isalpha() and 4 <= len(word) <= 12:
            found.append(token)
    return found
