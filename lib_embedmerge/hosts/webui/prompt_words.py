"""Words in place of expressions, for those who take prompts apart: no bracket, comma or colon of an expression is
in their way, and what they give can be turned back. Light: it is in place from the start.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence

from lib_embedmerge.lang.nodes import BrokenInline, Inline, PromptText
from lib_embedmerge.lang.source import may_have_expressions, read_prompt
from lib_embedmerge.lang.stand_ins import DIGEST_SIZE, PREFIX, STAND_IN, make_stand_in

_IN_WORDS = re.compile(r"\w\w")

_MAX_CHARACTERS = 4_000_000
"""Of the expressions that are remembered: those of more prompts than any generation has."""


class StandInWords:
    """A word for each expression, the same one each time, and what was typed there."""

    def __init__(self) -> None:
        self._typed: OrderedDict[str, str] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def covered(self, text: str) -> str:
        """The text with words in place of its expressions. Mistaken ones stay as they were typed.

        A space is put between such a word and a letter or digit, for what ended beside a bracket still ends there.
        """
        if not may_have_expressions(text):
            return text
        covered, is_word = "", False
        for part in read_prompt(text):
            word = None if isinstance(part, PromptText) else self._word(text, part)
            piece = word or text[part.start : part.end]
            if (is_word or word) and _IN_WORDS.fullmatch(covered[-1:] + piece[:1]):
                covered += " "
            covered += piece
            is_word = word is not None
        return covered

    def uncovered(self, text: str) -> str:
        """The text with expressions, as they were typed, in place of words."""
        return STAND_IN.sub(lambda match: self._typed.get(match[0], match[0]), text) if PREFIX in text else text

    def uncovered_all(self, texts: Sequence[str]) -> list[str]:
        """The same for several."""
        return [self.uncovered(text) for text in texts]

    def are_in(self, text: str) -> bool:
        """Whether any of these words stands in a text."""
        return PREFIX in text and any(word in self._typed for word in STAND_IN.findall(text))

    def _word(self, text: str, part: Inline | BrokenInline) -> str | None:
        if isinstance(part, BrokenInline):
            return None
        typed = text[part.start : part.end]
        # Another hash than that of the names of temporary embeddings, which look the same.
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
