"""Expressions and prompts of 1 to 75 tokens, made of words of the vocabulary: always the same ones for a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy

from lib_embedmerge.tokenizer import clip_tokenizer

_MOST = 75
_END = "</w>"

Words = Callable[[int], str]

_FORMS: tuple[Callable[[Words, int, int], str], ...] = (
    lambda words, n, k: f"'{words(n)}'",
    lambda words, n, k: f"'{words(n)}'+'{words(k)}'*0.5",
    lambda words, n, k: f"'{words(n)}'-'{words(k)}'/3+'{words(k)}'*0.25",
    lambda words, n, k: f"'{words(n)}'/2:-1:{n}",
    lambda words, n, k: f"L('{words(n)}')+G('{words(k)}')*0.8",
    lambda words, n, k: f"cat('{words(max(1, n - k))}', '{words(k)}'*1.1):{_MOST}",
    lambda words, n, k: f"mean('{words(n)}', '{words(k)}', '{words(k)}')",
    lambda words, n, k: f"lerp('{words(n)}', '{words(n)}', 0.3)",
    lambda words, n, k: f"slerp('{words(n)}', '{words(n)}', 0.3)",
    lambda words, n, k: f"norm('{words(n)}'+'{words(k)}', 1.2)",
    lambda words, n, k: f"cat(avg('{words(n)}'), sum('{words(k)}'))",
    lambda words, n, k: f"orth('{words(n)}', '{words(2)}')",
    lambda words, n, k: words(n),
    lambda words, n, k: f"{words(max(1, n - 2 * k))}, <'{words(k)}'+'{words(k)}'*0.5>",
)
"""Makers of a source of `n` tokens at most; `k` is some smaller number. near() is not among them: it searches the
whole vocabulary, and is measured by itself."""


class Sources:
    """Makes sources without end."""

    def __init__(self, seed: int, *, rare: bool = False, most: int = _MOST, among: int | None = None) -> None:
        """most: tokens of the longest text.  among: how many words there are, the commonest; None for all.

        rare: every word alike. Otherwise the n-th most common one 1/n as often as the first, which is about how often
        words come in texts; the vocabulary stands in the order of how common they are.
        """
        self._generator = numpy.random.default_rng(seed)
        self._words = vocabulary_words()[:among]
        self._rare = rare
        self._most = most

    def __iter__(self) -> Iterator[str]:
        while True:
            for form in _FORMS:
                count = int(self._generator.integers(1, self._most + 1))
                less = int(self._generator.integers(1, max(2, count // 3)))
                yield form(self.words, count, less)

    def words(self, count: int) -> str:
        """So many words with spaces between, a token each."""
        shares = self._generator.random(count)
        scale = len(self._words)
        places = shares * scale if self._rare else scale**shares - 1
        return " ".join(self._words[int(place)] for place in places)


@lru_cache(maxsize=1)
def vocabulary_words() -> tuple[str, ...]:
    """Whole words of letters that are one token each, the commonest first."""
    tokenizer = clip_tokenizer()
    words = []
    for token_id in range(tokenizer.vocabulary_size):
        word = tokenizer.token(token_id).removesuffix(_END)
        if word.isascii() and word.isalpha() and tokenizer.ends_word(token_id) and tokenizer.encode(word) == [token_id]:
            words.append(word)
    return tuple(words)
