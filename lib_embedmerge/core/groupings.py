"""How a source can be taken apart for people (parts.py does it). By itself, for menus need the words alone."""

from __future__ import annotations

from typing import Literal, get_args

Grouping = Literal["none", "comma", "parts", "words", "tokens", "vectors"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
"""EM's groupings: the whole; between commas; at embeddings and expressions; at spaces; characters; vectors."""
