"""Write prompts so that programs that do not know expressions count their tokens right. Nothing is evaluated."""

from __future__ import annotations

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import read_prompt, replace_expressions

_WORD = "the"
"""A word of one token that web UIs do not act on and that is no likely name of an embedding."""


def make_countable(prompt: str, outliner: Outliner) -> str:
    """The prompt with each expression replaced by as many one-token words as it has vectors; none if it has a mistake.

    A web UI starts a new chunk for an embedding that does not fit into the rest of one, but not for words. So the count
    can be lower than the number of tokens that the encoders get.
    """

    def words(part: Inline | BrokenInline) -> str:
        try:
            return " ".join([_WORD] * len(outliner.part(prompt, part)))
        except ExpressionError:
            return ""

    return replace_expressions(prompt, read_prompt(prompt), words)
