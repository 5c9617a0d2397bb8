"""Byte-pair merging of one word in O(n log n), on token ids only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

_POSITION_BITS = 32
_POSITION_MASK = (1 << _POSITION_BITS) - 1
_MERGED_AWAY = -1
_NO_MERGE = 1 << 32
"""Greater than every id."""
_MAX_SHORT = 16
"""Number of symbols up to which a search through all pairs after each merge is faster than a heap."""

PAIR_SHIFT = 16
"""A pair of ids is one integer, left << PAIR_SHIFT | right. It is faster to look up than a tuple, and Python's garbage
collector ignores it, which takes as long for 48,894 tuples as to make them."""


def merge(symbols: Sequence[int], merges: Mapping[int, int]) -> list[int]:
    """The token ids of one word. symbols: the ids of its bytes, of which the last one ends the word.

    merges: left id << PAIR_SHIFT | right id -> id of both together. A merge learned earlier has a lower id, and its id
    is higher than the two ids that it merges.

    The reference (OpenAI's CLIP, `bpe` in simple_tokenizer.py) finds the pair with the lowest rank in the whole word,
    merges all of its occurrences from left to right, and starts again: O(n²) in the number of different pairs. Here
    single occurrences come from a heap, lowest rank first and leftmost first among equals. The tokens are the same:
    every pair with the id of a merge merges into a still higher id, so no new pair comes before, or among, the
    occurrences of the pair that is being merged.
    """
    ids = list(symbols)
    if len(ids) <= _MAX_SHORT:
        return _merge_short(ids, merges)
    after = list(range(1, len(ids) + 1))
    before = list(range(-1, len(ids) - 1))
    # (merged id, position) as one integer, which sorts like the pair.
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
        # The entry is out of date if one of its two symbols was merged with another one in the meantime.
        if right >= len(ids) or merges.get(ids[left] << PAIR_SHIFT | ids[right]) != merged:
            continue
        ids[left], ids[right] = merged, _MERGED_AWAY
        beyond = after[left] = after[right]
        if beyond < len(ids):
            before[beyond] = left
            if (following := merges.get(merged << PAIR_SHIFT | ids[beyond])) is not None:
                heappush(heap, following << _POSITION_BITS | left)
        previous = before[left]
        if previous >= 0 and (preceding := merges.get(ids[previous] << PAIR_SHIFT | merged)) is not None:
            heappush(heap, preceding << _POSITION_BITS | previous)
    return [symbol for symbol in ids if symbol != _MERGED_AWAY]


def _merge_short(ids: list[int], merges: Mapping[int, int]) -> list[int]:
    """The token ids of a short word, as in the reference: merge the leftmost pair of the lowest rank, repeatedly."""
    # What each symbol merges into with the one after it, or _NO_MERGE.
    merged = [merges.get(left << PAIR_SHIFT | right, _NO_MERGE) for left, right in pairwise(ids)]
    while merged and (lowest := min(merged)) != _NO_MERGE:
        index = merged.index(lowest)
        ids[index : index + 2] = (lowest,)
        del merged[index]
        if index < len(merged):
            merged[index] = merges.get(lowest << PAIR_SHIFT | ids[index + 1], _NO_MERGE)
        if index > 0:
            merged[index - 1] = merges.get(ids[index - 1] << PAIR_SHIFT | lowest, _NO_MERGE)
    return ids
