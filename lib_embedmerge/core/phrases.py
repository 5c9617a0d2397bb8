"""A prompt in phrases between commas, and the choice of those that are left out to make it shorter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.source import Source


def split_phrases(source: Source) -> list[str]:
    """The phrases of a prompt, without the commas between them. An inline expression is never cut."""
    phrases = [""]
    for node in source.parts:
        text = source.text[node.start : node.end]
        first, *others = text.split(",") if isinstance(node, PromptText) else [text]
        phrases[-1] += first
        phrases += others
    return [phrase.strip() for phrase in phrases if phrase.strip()]


def split_words(source: Source) -> list[str]:
    """The words of a prompt, with the marks that are written to them. An inline expression counts as one word."""
    words: list[str] = []
    glued = False
    for node in source.parts:
        text = source.text[node.start : node.end]
        if not isinstance(node, PromptText):
            words = [*words[:-1], words[-1] + text] if glued and words else [*words, text]
            glued = True
            continue
        for number, word in enumerate(text.split()):
            begins = number == 0 and glued and not text[0].isspace()
            words = [*words[:-1], words[-1] + word] if begins else [*words, word]
        glued = bool(text) and not text[-1].isspace()
    return words


def choose_to_drop(sizes: Sequence[int], costs: Sequence[float], excess: int) -> list[int]:
    """Which pieces to leave out so that at least `excess` vectors go and the sum of the costs is smallest: indices.

    sizes: of the pieces, in vectors.  costs: what leaving out each of them costs, at least 0.
    Of equal choices the one that drops fewer vectors is taken. Empty if all pieces together are too small.
    """
    # best[n]: (cost, vectors, pieces) of the cheapest choice that drops n vectors, where n stops at `excess`.
    best: list[tuple[float, int, tuple[int, ...]] | None] = [(0.0, 0, ()), *[None] * max(0, excess)]
    for index, (size, cost) in enumerate(zip(sizes, costs, strict=True)):
        for dropped in reversed(range(len(best))):
            if (base := best[dropped]) is None:
                continue
            reached = min(excess, dropped + size)
            candidate = base[0] + cost, base[1] + size, (*base[2], index)
            if reached > dropped and candidate < (best[reached] or (math.inf, 0, ())):
                best[reached] = candidate
    found = best[-1]
    return [] if found is None else list(found[2])


def list_kept(count: int, dropped: Sequence[int]) -> Iterator[int]:
    """The indices below `count` that are not dropped."""
    return (index for index in range(count) if index not in set(dropped))
