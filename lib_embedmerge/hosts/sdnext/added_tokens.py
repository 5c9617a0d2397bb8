"""The tokens that SD.Next adds to a pipeline's tokenizers for embeddings: `name`, `name_1`, `name_2` for three vectors.

A tokenizer has no function that removes a token. So a token that is to be found no more is renamed: its id, and with it
the row of the token table, stays, and the ids of the other tokens stay the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

_RETIRED = "\ue000"
"""Begins the new name of a token, which no prompt contains: a character that Unicode leaves to programs."""


def list_tokens(name: str, tokenizer: Any, first: int = 0) -> list[str]:
    """The tokens of an embedding that a tokenizer has, from the vector `first` on, as SD.Next finds them."""
    added = tokenizer.added_tokens_encoder
    tokens: list[str] = []
    while (token := f"{name}_{first + len(tokens)}" if first + len(tokens) else name) in added:
        tokens.append(token)
    return tokens


def retire_tokens(tokens: Collection[str], tokenizer: Any) -> None:
    """Make a tokenizer find these of its added tokens no more."""
    known = set(tokens) & set(tokenizer.added_tokens_encoder)
    if not known:
        return
    backend = tokenizer.backend_tokenizer
    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        if token["content"] in known:
            token["content"] = f"{_RETIRED}{token['id']}"
    tokenizer._tokenizer = type(backend).from_str(json.dumps(content))
