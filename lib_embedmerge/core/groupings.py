"""The groupings in which parts.py shows a source, in a module of their own so that menus can list them quickly."""

from __future__ import annotations

from typing import Literal, get_args

Grouping = Literal["none", "comma", "parts", "words", "tokens", "vectors"]
DEFAULT_GROUPING: Grouping = "comma"
"""The grouping in the tab at first: most prompts are lists of tags."""

GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
"""The groupings of Embedding Merge. A part is the whole source (`none`), the text between commas (`comma`), a text,
embedding or expression (`parts`), a word, the tokens of one character (`tokens`), or a vector."""
