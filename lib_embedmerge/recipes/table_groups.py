"""Group the embeddings of a folder by the token table that they must come from, without any checkpoint.

Two files made on one model have the same row for the same token. Two tables have hardly ever one row in common to the
last bit, unless one was made from the other and a token was never trained. So files with equal vectors belong together,
whatever their names say. Where the tokens of the vectors are known, files with different vectors for one token do not.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from lib_embedmerge.core.arrays import to_float16
from lib_embedmerge.errors import format_count

_LABELS = (
    ("Pony", r"pony(xl)?|pdxl"),
    ("Illustrious", r"illustrious(xl)?|ilxl|\bil\b"),
    ("NoobAI", r"noob(ai)?(xl)?"),
    ("Animagine", r"animagine"),
    ("SD1", r"sd[ _-]?1([._-]?[0-5])?|sd15|stable[ _-]?diffusion[ _-]?(v)?1"),
    ("SD2", r"sd[ _-]?2([._-]?[01])?|stable[ _-]?diffusion[ _-]?(v)?2"),
    ("SDXL", r"sdxl|sd[ _-]?xl|\bxl\b"),
)
"""Label of a family of models -> how names of files spell it. The first that a name contains counts."""

_PATTERNS = [(label, re.compile(rf"(?<![a-z])(?:{pattern})(?![a-z])", re.IGNORECASE)) for label, pattern in _LABELS]


@dataclass(frozen=True)
class TableGroups:
    """The groups of some files.

    groups: for each file the number of its group, from 1 on, the largest group first; None for a file with no vector in
    common with another.  contradictions: index of a file -> one sentence, if its label is not that of its group.
    """

    groups: tuple[int | None, ...]
    contradictions: Mapping[int, str]


def hash_rows(vectors: Mapping[str, numpy.ndarray]) -> frozenset[bytes]:
    """What identifies each vector of a file, of each encoder: float16 values, without zero vectors."""
    found = set()
    for key, rows in vectors.items():
        halves = to_float16(rows)
        for row in halves:
            if row.any() and numpy.isfinite(row).all():
                found.add(hashlib.blake2b(row.tobytes(), digest_size=12, person=key.encode()[:16]).digest())
    return frozenset(found)


def group_by_table(
    names: Sequence[str], rows: Sequence[frozenset[bytes]], tokens: Sequence[Mapping[Any, bytes]] | None = None
) -> TableGroups:
    """Group files by equal vectors.

    names: of the files, for their labels.  rows: of each file, from `hash_rows`.
    tokens: for each file token -> what identifies its vector, if the tokens are known. Files with different vectors for
        one token are not joined.
    """
    forest = _Forest([dict(of_file) for of_file in tokens] if tokens else [{} for _ in rows])
    holders: dict[bytes, list[int]] = {}
    for index, of_file in enumerate(rows):
        for row in sorted(of_file):
            others = holders.setdefault(row, [])
            for other in others:
                forest.join(other, index)
            if forest.find(index) not in {forest.find(other) for other in others}:
                others.append(index)
    members: dict[int, list[int]] = {}
    for index in range(len(rows)):
        members.setdefault(forest.find(index), []).append(index)
    largest = sorted((group for group in members.values() if len(group) > 1), key=lambda group: (-len(group), group[0]))
    numbers: list[int | None] = [None] * len(rows)
    contradictions: dict[int, str] = {}
    for number, group in enumerate(largest, 1):
        for index in group:
            numbers[index] = number
        contradictions.update(_find_contradictions(names, group))
    return TableGroups(tuple(numbers), contradictions)


class _Forest:
    """Sets of files that are joined (union-find). known: for each file token -> what identifies its vector."""

    def __init__(self, known: list[dict[Any, bytes]]) -> None:
        self._parents = list(range(len(known)))
        self._known = known

    def find(self, index: int) -> int:
        """One file of the set that a file is in, the same one for all of them."""
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index

    def join(self, first: int, second: int) -> None:
        """Join the sets of two files, unless they have different vectors for one token."""
        left, right = self.find(first), self.find(second)
        if left != right and not _contradict(self._known[left], self._known[right]):
            few, many = sorted((left, right), key=lambda index: len(self._known[index]))
            self._parents[few] = many
            self._known[many].update(self._known[few])


def _contradict(left: Mapping[Any, bytes], right: Mapping[Any, bytes]) -> bool:
    """Whether two files have different vectors for one token."""
    few, many = sorted((left, right), key=len)
    return any(many.get(token, row) != row for token, row in few.items())


def find_label(name: str) -> str | None:
    """The family of models that the name of a file says it is for, or None."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " "))
    for text in (name.replace("_", " "), spaced):
        for label, pattern in _PATTERNS:
            if pattern.search(text):
                return label
    return None


def _find_contradictions(names: Sequence[str], group: Iterable[int]) -> dict[int, str]:
    """Index of each file of a group whose label is not the most frequent one -> a sentence. All files on a tie."""
    labels = {index: label for index in group if (label := find_label(names[index]))}
    counts = Counter(labels.values())
    if len(counts) < 2:
        return {}
    (usual, most), (_, second) = counts.most_common(2)
    is_tie = most == second
    sentences = {}
    for index, label in labels.items():
        if label == usual and not is_tie:
            continue
        others = [names[other] for other, found in labels.items() if found != label]
        shown = others[0] + (f" and {format_count(len(others) - 1, 'other')}" if len(others) > 1 else "")
        sentences[index] = (
            f"It is called {label}, but its vectors were made with the same model as those of {shown}, "
            f"which is called {find_label(others[0])}."
        )
    return sentences
