"""Prompts whose tokens can be counted by a program that knows nothing of expressions. Nothing is evaluated."""

from __future__ import annotations

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import read_prompt, replace_expressions

_WORD = "the"
"""One token, and nothing that a web UI acts on; nobody calls an embedding so."""


def make_countable(prompt: str, outliner: Outliner) -> str:
    """The prompt with a word of one token for each vector of an expression. A mistaken one counts nothing.

    Web UIs start a new chunk for an embedding that does not fit whole into one, which words do not need: there the
    count can be lower than what the encoders get.
    """

    def words(part: Inline | BrokenInline) -> str:
        try:
            return " ".join([_WORD] * len(outliner.part(prompt, part)))
        except ExpressionError:
            return ""

    return replace_expressions(prompt, read_prompt(prompt), words)
