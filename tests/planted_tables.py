"""Two token tables with the manners of real ones: the second has drifted from the first token by token.

Measured on public files: rows of the same token in two models are 0.08 to 0.51 of their length apart, median 0.40, and
their lengths are equal. A third of the rows here are near another row (cosine 0.6 to 0.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy
from memory_model import MemoryEncoder, MemoryModel

from lib_embedmerge.tokenizer import clip_tokenizer

WIDTHS = {"clip_l": 768, "clip_g": 1280}
LENGTHS = {"clip_l": (0.36, 0.39, 0.48), "clip_g": (0.29, 0.57, 0.69)}
ROWS = 8000

Tables = dict[str, numpy.ndarray]


@dataclass(frozen=True)
class Planted:
    """A table, and for each row the row that it is near to, or -1."""

    tables: Tables
    near: numpy.ndarray

    @property
    def model(self) -> MemoryModel:
        return MemoryModel([MemoryEncoder(key, rows) for key, rows in self.tables.items()])


def unit(rows: numpy.ndarray) -> numpy.ndarray:
    return rows / numpy.linalg.norm(rows, axis=-1, keepdims=True)


def plant(rows: int = ROWS, seed: int = 0) -> Planted:
    chance = numpy.random.default_rng(seed)
    order = chance.permutation(rows)
    followers, leaders = order[: rows // 3], chance.choice(order[rows // 3 :], rows // 3)
    near = numpy.full(rows, -1)
    near[followers], near[leaders] = leaders, followers
    tables = {}
    for key, width in WIDTHS.items():
        table = unit(chance.standard_normal((rows, width), dtype=numpy.float32))
        cosine = chance.uniform(0.6, 0.9, (len(followers), 1)).astype(numpy.float32)
        other = unit(chance.standard_normal((len(followers), width), dtype=numpy.float32))
        table[followers] = cosine * table[leaders] + numpy.sqrt(1 - cosine**2) * other
        lengths = chance.triangular(*LENGTHS[key], (rows, 1)).astype(numpy.float32)
        tables[key] = unit(table).astype(numpy.float32) * lengths
    return Planted(tables, near)


def drift(
    planted: Planted,
    least: float,
    most: float,
    *,
    towards: float = 0.0,
    seed: int = 1,
    how: Literal["turned", "added"] = "turned",
) -> Tables:
    """The table of another model: each row is `least` to `most` of its length away from the one of `planted`.

    towards: how much of the direction is that of the row's neighbour, 0 to 1; the rest is random.
    how: `turned` keeps the lengths, as real tables do.
    """
    chance = numpy.random.default_rng(seed)
    drifted = {}
    for key, table in planted.tables.items():
        lengths = numpy.linalg.norm(table, axis=1, keepdims=True)
        direction = unit(chance.standard_normal(table.shape, dtype=numpy.float32))
        has = planted.near >= 0
        to_neighbour = unit(table[planted.near[has]] - table[has])
        direction[has] = unit(towards * to_neighbour + numpy.sqrt(1 - towards**2) * direction[has])
        size = chance.uniform(least, most, (len(table), 1)).astype(numpy.float32)
        if how == "added":
            drifted[key] = table + size * lengths * direction
            continue
        along = unit(table)
        across = unit(direction - (direction * along).sum(axis=1, keepdims=True) * along)
        cosine = 1 - size**2 / 2
        drifted[key] = (lengths * (cosine * along + numpy.sqrt(1 - cosine**2) * across)).astype(numpy.float32)
    return drifted


def words(rows: int = ROWS) -> list[int]:
    """Tokens of the table that are words by themselves."""
    tokenizer = clip_tokenizer()
    whole = (token for token in range(300, rows) if tokenizer.ends_word(token))
    return [token for token in whole if (tokenizer.spell([token]) or "").isalpha()]


def choose_text(chance: numpy.random.Generator, pool: Sequence[int], count: int) -> list[int]:
    """Tokens that read as themselves together."""
    while True:
        ids: list[int] = chance.choice(pool, count).tolist()
        if clip_tokenizer().spell(ids) is not None:
            return ids


def vectors_of(tables: Tables, ids: Sequence[int]) -> Tables:
    return {key: table[list(ids)] for key, table in tables.items()}


def add(parts: Sequence[tuple[Tables, float]]) -> Tables:
    """A weighted sum of texts, all of which begin at the first vector."""
    count = max(len(part["clip_l"]) for part, _ in parts)
    total = {key: numpy.zeros((count, width), numpy.float32) for key, width in WIDTHS.items()}
    for part, weight in parts:
        for key, rows in part.items():
            total[key][: len(rows)] += numpy.float32(weight) * rows
    return total
