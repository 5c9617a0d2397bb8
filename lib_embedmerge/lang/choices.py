"""How a text that is typed can be read (typed.py does it). By itself, for the command line needs the words alone."""

from __future__ import annotations

from typing import Literal, get_args

Attention = Literal["drop", "scale", "keep"]
ATTENTION: tuple[Attention, ...] = get_args(Attention)
"""What becomes of attention brackets: removed; written as expressions, `<'masterpiece'*1.2>`; or kept as characters,
as Embedding Merge does, and then nothing else of a prompt is rewritten either."""

ReadAs = Literal["auto", "prompt", "expression"]
"""Whether a text is an expression or a prompt: told by how it begins, or by the user."""
