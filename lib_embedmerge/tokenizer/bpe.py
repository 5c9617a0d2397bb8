"""Byte-pair merging of one word in O(n log n); knows ids only, nothing of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

_POSITION_BITS = 32
_POSITION_MASK = (1 << _POSITION_BITS) - 1
_GONE = -1
_SHORT = 16
"""Symbols up to which looking through all pairs again after each merge is quicker than keeping them in a heap."""

PAIR_SHIFT = 16
"""A pair of ids is one integer, left << PAIR_SHIFT | right: quicker to look up than a tuple, and no work for Python's
garbage collector, which doubles the time that making 48,894 tuples takes."""


def merge(symbols: Sequence[int], merges: Mapping[int, int]) -> list[int]:
    """The tokens that a word of `symbols` becomes.

    merges: left id << PAIR_SHIFT | right id -> id of both together. A merge learned earlier has a lower id, and is made
    from ids lower than its own.

    The reference (OpenAI's CLIP, `bpe` in simple_tokenizer.py) looks for the pair of the lowest rank in the whole word,
    merges all of its occurrences from left to right, and starts again: O(n²) in the number of different pairs.
    Taking single occurrences off a heap, lowest rank first and leftmost first among equals, gives the same tokens:
    a merge puts a new id beside its neighbours, and any pair with that id merges into a still higher id, so nothing
    that a merge creates can come before, or among, the occurrences of the pair that is being merged.
    """
    ids = list(symbols)
    if len(ids) <= _SHORT:
        return _merge_short(ids, merges)
    after = list(range(1, len(ids) + 1))
    before = list(range(-1, len(ids) - 1))
    # One integer for (merged id, position) sorts as the pair would.
    heap = [
        merged << _POSITION_BITS | position
        for position, (left, right) in enumerate(pairwise(ids))
        if (merged := merges.get(left << PAIR_SHIFT | right)) is not None
    ]
    heapify(heap)
    while heap:
        entry = heappop(heap)
        merged, left = entry >> _POSITION_BITS, entry & _POSITION_MASK
        right = after[left]
        # An entry is out of date when one of its two symbols has been merged with another since.
        if right >= len(ids) or merges.get(ids[left] << PAIR_SHIFT | ids[right]) != merged:
            continue
        ids[left], ids[right] = merged, _GONE
        beyond = after[left] = after[right]
        if beyond < len(ids):
            before[beyond] = left
            if (following := merges.get(merged << PAIR_SHIFT | ids[beyond])) is not None:
                heappush(heap, following << _POSITION_BITS | left)
        previous = before[left]
        if previous >= 0 and (preceding := merges.get(ids[previous] << PAIR_SHIFT | merged)) is not None:
            heappush(heap, preceding << _POSITION_BITS | previous)
    return [symbol for symbol in ids if symbol != _GONE]


def _merge_short(ids: list[int], merges: Mapping[int, int]) -> list[int]:
    """The same for a few symbols, as the reference does it: again and again the leftmost pair of the lowest rank."""
    while True:
        found = [
            (merged, position)
            for position, (left, right) in enumerate(pairwise(ids))
            if (merged := merges.get(left << PAIR_SHIFT | right)) is not None
        ]
        if not found:
            return ids
        merged, position = min(found)
        ids[position : position + 2] = (merged,)
