"""From weighted tokens, vector by vector, back to the texts with one weight each that were added. Pure, no torch.

Texts are added from their first vectors on, so the longest alone reaches the last vector. Going backwards from there,
every text goes on with a token of its weight, tokens of other weights are the ends of shorter texts, and where several
texts have the same token, their weights are added. Where that takes more texts than it saves, a segment begins: the
whole is the segments one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import add, sub

Tokens = Mapping[int, float]
"""Token id -> its weight in one vector."""

StartsWell = Callable[[Sequence[int]], bool]
"""Whether the first word of some token ids is what a tokenizer makes of a word."""

_SAME = 5e-4
"""Weights that differ by less than this share of the greatest one are the same."""

_MAX_TEXTS = 8
"""Of one segment."""

_MAX_WAYS = 256
"""Ways to share out the tokens of one vector among the texts that are looked through."""

_KEPT = 16
"""Of these ways, and of the states that they lead to, the ones that are kept."""


@dataclass(frozen=True)
class WeightedText:
    """A text as token ids, one or more, and its weight in a sum."""

    ids: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Segment:
    """A run of vectors: the sum of some texts, none longer than the run; of none where the vectors are zero."""

    count: int
    texts: tuple[WeightedText, ...] = ()


_Cost = tuple[int, ...]


@dataclass(frozen=True)
class _State:
    """What the last vectors are made of.

    first: their first segment, which may go on.  later: the segments behind it.
    cost: number of all texts, of their tokens, and of texts that start amid a word; the less the better.
    """

    first: Segment
    later: tuple[Segment, ...]
    cost: _Cost


def find_segments(vectors: Sequence[Tokens], starts_well: StartsWell) -> list[Segment]:
    """The segments that make these vectors, one or more, in order: of the fewest texts that are found.

    Where equal weights leave open which token belongs to which text, those that can be written as words do.
    """
    same = _SAME * max((abs(weight) for tokens in vectors for weight in tokens.values()), default=0.0)
    start = _State(Segment(0), (), (0, 0, 0))
    states = [start]
    for tokens in reversed(vectors):
        # What comes before depends on the first segment alone: of those that have the same one, the best is enough.
        found: dict[Segment, _State] = {}
        for state in states:
            for longer in _longer(state, tokens, same, starts_well):
                known = found.get(longer.first)
                if known is None or longer.cost < known.cost:
                    found[longer.first] = longer
        states = sorted(found.values(), key=lambda state: state.cost)[:_KEPT]
    return [states[0].first, *states[0].later]


def _longer(state: _State, tokens: Tokens, same: float, starts_well: StartsWell) -> Iterator[_State]:
    """The states with one vector more before them: it goes on with the first segment, or is one of its own."""
    first, later = state.first, state.later
    closed = tuple(map(sub, state.cost, _cost(first.texts, starts_well)))

    def after(segment: Segment, before: _Cost, behind: tuple[Segment, ...]) -> _State:
        return _State(segment, behind, tuple(map(add, before, _cost(segment.texts, starts_well))))

    new = tuple(WeightedText((token,), weight) for token, weight in tokens.items())
    if first.count == 0 or (not tokens and not first.texts):
        yield after(Segment(first.count + 1, new), closed, later)
        return
    yield after(Segment(1, new), state.cost, (first, *later))
    if tokens and first.texts:
        for texts in _continued(first.texts, tokens, same):
            ordered = tuple(sorted(texts, key=lambda text: (text.ids, text.weight)))
            yield after(Segment(first.count + 1, ordered), closed, later)


def _cost(texts: Sequence[WeightedText], starts_well: StartsWell) -> _Cost:
    return len(texts), sum(len(text.ids) for text in texts), sum(not starts_well(text.ids) for text in texts)


def _continued(texts: Sequence[WeightedText], tokens: Tokens, same: float) -> list[tuple[WeightedText, ...]]:
    """The ways in which every text goes on, backwards, with one of these tokens, and as few new ones as can be begin.

    None where a segment of its own takes fewer texts.
    """
    ways = list(_ways(texts, tokens, same))
    fewest = min(map(len, ways), default=0)
    if fewest > min(len(texts) + len(tokens), _MAX_TEXTS):
        return []
    return [way for way in ways if len(way) == fewest][:_KEPT]


def _ways(texts: Sequence[WeightedText], tokens: Tokens, same: float) -> Iterator[tuple[WeightedText, ...]]:
    """Every way to give each text a token; what of a token's weight they leave is the end of a new text.

    Where there are too many ways, only the one in which each text takes the token whose weight is closest.
    """
    choices = [list(tokens)] * len(texts)
    if len(tokens) ** len(texts) > _MAX_WAYS:
        choices = [[_closest(tokens, text.weight)] for text in texts]
    for chosen in product(*choices):
        left = dict(tokens)
        for text, token in zip(texts, chosen, strict=True):
            left[token] -= text.weight
        longer = [WeightedText((token, *text.ids), text.weight) for text, token in zip(texts, chosen, strict=True)]
        new = [WeightedText((token,), weight) for token, weight in left.items() if abs(weight) > same]
        yield (*longer, *new)


def _closest(tokens: Tokens, weight: float) -> int:
    return min(tokens, key=lambda token: abs(tokens[token] - weight))
