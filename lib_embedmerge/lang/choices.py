"""The ways in which a typed text can be read by typed.py, in a module of their own so that the command line can list
them without importing the language."""

from __future__ import annotations

from typing import Literal, get_args

Attention = Literal["drop", "scale", "keep"]
ATTENTION: tuple[Attention, ...] = get_args(Attention)
"""What to do with attention brackets. `drop`: remove them. `scale`: write them as expressions, `<'masterpiece'*1.2>`.
`keep`: keep them as characters, like Embedding Merge; then nothing else in a prompt is rewritten either."""

ReadAs = Literal["auto", "prompt", "expression"]
"""Whether a text is read as an expression or as a prompt; `auto` decides by how it begins."""
