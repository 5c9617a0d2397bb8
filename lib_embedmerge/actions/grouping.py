"""Add to a list of embeddings the token table that each must come from, by its vectors alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.recipes.table_groups import group_by_table, hash_rows

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import GroupedEmbedding, ListedEmbedding


def add_groups(listed: Sequence[ListedEmbedding]) -> list[GroupedEmbedding]:
    """The same list with `group` and `warnings`. All vectors are read."""
    rows = [_hash_file(entry) for entry in listed]
    groups = group_by_table([entry["name"] for entry in listed], rows)
    return [
        {
            **entry,
            "group": groups.groups[index],
            "warnings": [groups.contradictions[index]] if index in groups.contradictions else [],
        }
        for index, entry in enumerate(listed)
    ]


def _hash_file(entry: ListedEmbedding) -> frozenset[bytes]:
    """What identifies each vector of a file; nothing if it cannot be read."""
    try:
        return hash_rows(load_embedding(entry["file"]).vectors)
    except StorageError:
        return frozenset()
