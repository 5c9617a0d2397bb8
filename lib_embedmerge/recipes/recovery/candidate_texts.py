"""Find the weighted texts whose sum gives some vectors, each of which is known as a weighted sum of tokens.

All texts of a sum begin at its first vector, so only the longest reach the last one. The search goes backwards from
there: each text continues with a token of its weight, a token of another weight is the end of a shorter text, and if
several texts have the same token, its weight is the sum of theirs. If that takes more texts than it saves, a new
segment begins. The result is the segments, one after the other. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import add, sub

Tokens = Mapping[int, float]
"""Token id -> its weight, in one vector."""

BeginsWithWord = Callable[[Sequence[int]], bool]
"""A function that returns whether the first tokens of a text can be written as a word, given the text's token ids."""

_SAME = 5e-4
"""Weights count as equal if they differ by less than this share of the greatest weight."""

_MAX_TEXTS = 8
"""Most texts in one segment."""

_MAX_WAYS = 256
"""Most ways to assign the tokens of one vector to the texts that are all tried."""

_KEPT = 16
"""Most of these ways that are kept, and most states."""


@dataclass(frozen=True)
class WeightedText:
    """A text in a sum. ids: its tokens, at least one.  weight: what it is multiplied by."""

    ids: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Segment:
    """Some neighbouring vectors that are the sum of some texts.

    count: number of vectors.  texts: none of them longer than `count`; empty if the vectors are zero.
    """

    count: int
    texts: tuple[WeightedText, ...] = ()


_Cost = tuple[int, ...]
"""Number of texts, number of their tokens, and number of texts that begin inside a word; the smallest is best."""


@dataclass(frozen=True)
class _State:
    """One explanation of the vectors that the search has passed: those from some vector to the last one.

    first: their first segment, which may still grow.  later: the segments after it.  cost: of all segments.
    """

    first: Segment
    later: tuple[Segment, ...]
    cost: _Cost


def find_segments(vectors: Sequence[Tokens], begins_with_word: BeginsWithWord) -> list[Segment]:
    """The segments, in order, that give these vectors with the fewest texts that the search finds.

    vectors: the tokens of each vector, one vector or more.
    begins_with_word: decides which text a token belongs to if equal weights leave that open.
    """
    tolerance = _SAME * max((abs(weight) for tokens in vectors for weight in tokens.values()), default=0.0)
    states = [_State(Segment(0), (), (0, 0, 0))]
    for tokens in reversed(vectors):
        # The vectors before depend on the first segment alone, so for each first segment the best state is enough.
        best: dict[Segment, _State] = {}
        for state in states:
            for longer in _prepend_vector(state, tokens, tolerance, begins_with_word):
                rival = best.get(longer.first)
                if rival is None or longer.cost < rival.cost:
                    best[longer.first] = longer
        states = sorted(best.values(), key=lambda state: state.cost)[:_KEPT]
    return [states[0].first, *states[0].later]


def _prepend_vector(
    state: _State, tokens: Tokens, tolerance: float, begins_with_word: BeginsWithWord
) -> Iterator[_State]:
    """The states with one more vector before the others: in the first segment, or in a segment of its own.

    tolerance: difference up to which two weights count as equal.
    """
    first, later = state.first, state.later
    later_cost = tuple(map(sub, state.cost, _compute_cost(first.texts, begins_with_word)))

    def prepend(segment: Segment, cost: _Cost, following: tuple[Segment, ...]) -> _State:
        return _State(segment, following, tuple(map(add, cost, _compute_cost(segment.texts, begins_with_word))))

    new_texts = tuple(WeightedText((token,), weight) for token, weight in tokens.items())
    if first.count == 0 or (not tokens and not first.texts):
        yield prepend(Segment(first.count + 1, new_texts), later_cost, later)
        return
    yield prepend(Segment(1, new_texts), state.cost, (first, *later))
    if tokens and first.texts:
        for texts in _extend_texts(first.texts, tokens, tolerance):
            ordered = tuple(sorted(texts, key=lambda text: (text.ids, text.weight)))
            yield prepend(Segment(first.count + 1, ordered), later_cost, later)


def _compute_cost(texts: Sequence[WeightedText], begins_with_word: BeginsWithWord) -> _Cost:
    return len(texts), sum(len(text.ids) for text in texts), sum(not begins_with_word(text.ids) for text in texts)


def _extend_texts(texts: Sequence[WeightedText], tokens: Tokens, tolerance: float) -> list[tuple[WeightedText, ...]]:
    """The ways to put one of the tokens before each text, with as few new texts as possible.

    Empty if a segment of its own would take fewer texts, or if there would be too many texts.
    """
    ways = list(_assign_tokens(texts, tokens, tolerance))
    fewest = min(map(len, ways), default=0)
    if fewest > min(len(texts) + len(tokens), _MAX_TEXTS):
        return []
    return [way for way in ways if len(way) == fewest][:_KEPT]


def _assign_tokens(
    texts: Sequence[WeightedText], tokens: Tokens, tolerance: float
) -> Iterator[tuple[WeightedText, ...]]:
    """Every way to put one of the tokens before each text. A token whose weight is not used up also ends a new text.

    If there are too many ways, only the one in which each text gets the token with the closest weight.
    """
    choices = [list(tokens)] * len(texts)
    if len(tokens) ** len(texts) > _MAX_WAYS:
        choices = [[_find_closest(tokens, text.weight)] for text in texts]
    for chosen in product(*choices):
        unused = dict(tokens)
        for text, token in zip(texts, chosen, strict=True):
            unused[token] -= text.weight
        longer = [WeightedText((token, *text.ids), text.weight) for text, token in zip(texts, chosen, strict=True)]
        new_texts = [WeightedText((token,), weight) for token, weight in unused.items() if abs(weight) > tolerance]
        yield (*longer, *new_texts)


def _find_closest(tokens: Tokens, weight: float) -> int:
    """The token with the weight closest to this one."""
    return min(tokens, key=lambda token: abs(tokens[token] - weight))
