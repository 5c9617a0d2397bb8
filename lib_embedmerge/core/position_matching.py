"""Which position of one prompt corresponds to which of another, when tokens were left out.

A cross-attention does not know the order of the states that it reads. So two prompts are compared with the kept tokens
beside each other, wherever they moved to, and with what was left out beside padding.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher

from lib_embedmerge.core.architecture import MAX_VECTORS

_POSITIONS = MAX_VECTORS + 2

Chunks = Sequence[Sequence[Hashable]]
"""For each chunk what its vectors are, such as token ids: at most 75 each."""


def match_positions(ours: Chunks, theirs: Chunks) -> list[int]:
    """For each position of our chunks, 77 of each, its partner among those of their chunks: a permutation.

    Both have the same number of chunks. Start and end tokens belong together chunk by chunk. Equal vectors belong
    together in order, and everything else to what is left.
    """
    our_places, their_places = _list_places(ours), _list_places(theirs)
    our_keys, their_keys = ([key for chunk in chunks for key in chunk] for chunks in (ours, theirs))
    partners = {chunk * _POSITIONS: chunk * _POSITIONS for chunk in range(len(ours))}
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        partners[number * _POSITIONS + len(mine) + 1] = number * _POSITIONS + len(other) + 1
    for block in SequenceMatcher(None, our_keys, their_keys, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            partners[our_places[block.a + step]] = their_places[block.b + step]
    taken = set(partners.values())
    free = iter(position for position in range(len(theirs) * _POSITIONS) if position not in taken)
    return [partners[position] if position in partners else next(free) for position in range(len(ours) * _POSITIONS)]


def _list_places(chunks: Chunks) -> list[int]:
    """The positions of all vectors, in order."""
    return [number * _POSITIONS + 1 + index for number, chunk in enumerate(chunks) for index in range(len(chunk))]
