"""Concepts: an embedding and its variants for other models, which are one thing to the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lib_embedmerge.recipes.listing import Entry

_Place = TypeVar("_Place", str, int)


def find_concepts(entries: Mapping[_Place, Entry]) -> dict[_Place, tuple[_Place, ...]]:
    """The files of each concept: that of the embedding -> this file, then its variants, in the order of `entries`.

    A variant belongs to the embedding that its tag names. If that is not listed, all variants of it are one concept.
    """
    originals: dict[str, _Place] = {}
    variants: dict[_Place, str] = {}
    for place, entry in entries.items():
        base = entry.tag.variant_of if entry.tag else None
        # As `find_variants`, which renaming uses: by the tag and the name.
        if base and entry.name.startswith(f"{base}-"):
            variants[place] = base
        else:
            originals.setdefault(entry.name, place)
    concepts: dict[_Place, list[_Place]] = {}
    for place in entries:
        base = variants.get(place)
        head = place if base is None else originals.setdefault(base, place)
        concepts.setdefault(head, [head])
        if head != place:
            concepts[head].append(place)
    return {head: tuple(files) for head, files in concepts.items()}
