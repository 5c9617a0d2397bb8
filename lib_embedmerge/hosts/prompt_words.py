"""Replace expressions by words while other code takes prompts apart, and put the expressions back afterwards.

A word has no bracket, comma or colon that such code could take for its own syntax. This module is imported when a web
UI starts, so it imports nothing heavy, and the parser at the first expression.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.stand_ins import DIGEST_SIZE, PREFIX, STAND_IN, make_stand_in

if TYPE_CHECKING:
    from lib_embedmerge.lang.nodes import BrokenInline, Inline

_INSIDE_WORD = re.compile(r"\w\w")

_MAX_CHARACTERS = 4_000_000
"""Most characters of all expressions that are remembered: more than the prompts of any generation have."""


class StandInWords:
    """Replaces expressions by words, and remembers the expression for each word. Equal expressions get equal words."""

    def __init__(self) -> None:
        self._typed: OrderedDict[str, str] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def cover(self, text: str) -> str:
        """The text with words in place of its expressions. Expressions with a mistake stay as typed.

        If a letter or digit is next to a word, a space is put between them, because the expression's bracket separated
        them too.
        """
        if not may_have_expressions(text):
            return text
        from lib_embedmerge.lang.nodes import PromptText
        from lib_embedmerge.lang.source import read_prompt

        covered, is_after_word = "", False
        for part in read_prompt(text):
            word = None if isinstance(part, PromptText) else self._make_word(text, part)
            piece = word or text[part.start : part.end]
            if (is_after_word or word) and _INSIDE_WORD.fullmatch(covered[-1:] + piece[:1]):
                covered += " "
            covered += piece
            is_after_word = word is not None
        return covered

    def uncover(self, text: str) -> str:
        """The text with the expressions, as typed, in place of their words. Unknown words stay."""
        return STAND_IN.sub(lambda match: self._typed.get(match[0], match[0]), text) if PREFIX in text else text

    def uncover_all(self, texts: Sequence[str]) -> list[str]:
        """The texts with the expressions in place of their words, as from `uncover`."""
        return [self.uncover(text) for text in texts]

    def are_used_in(self, text: str) -> bool:
        """Whether a text contains a word of one of the remembered expressions."""
        return PREFIX in text and any(word in self._typed for word in STAND_IN.findall(text))

    def _make_word(self, text: str, part: Inline | BrokenInline) -> str | None:
        """The word for an expression, which is remembered; None for a broken one."""
        from lib_embedmerge.lang.nodes import BrokenInline

        if isinstance(part, BrokenInline):
            return None
        typed = text[part.start : part.end]
        # `person` makes it differ from the names of temporary embeddings, which have the same form.
        digest = hashlib.blake2b(typed.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE, person=b"typed")
        word = make_stand_in(digest.digest())
        with self._lock:
            if word not in self._typed:
                self._characters += len(typed)
            self._typed[word] = typed
            self._typed.move_to_end(word)
            while self._characters > _MAX_CHARACTERS:
                self._characters -= len(self._typed.popitem(last=False)[1])
        return word
