"""What the text before the cursor may be completed to: names of embeddings, and functions of the language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from lib_embedmerge.embeddings.embedding import open_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import StorageError, format_count
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.functions import SIGNATURES

MOST = 10
"""Completions that are offered at once."""

_WORD = re.compile(r"[^\s,()'\"<>{}\[\]*+=/:|]+\Z")
"""The beginning of a name or a function, before the cursor."""

_LEAST = 2
"""So many characters of a name must be typed in a prompt. In quotes, where names are expected, none is needed."""

_EXPRESSION = re.compile(r"\s*(?:[-(]\s*)*(?:'|[A-Za-z]+\()")
"""How a text begins that is an expression as a whole. Outside quotes it names no embeddings."""

_CALLABLE = re.compile(r"(?:^|[(<{,+*/=:-])\s*\Z")
"""What may stand before the name of a function, outside quotes."""


@dataclass(frozen=True)
class Completion:
    """One way to complete a text.

    kind: of what is inserted.  typed: the end of the text that `inserted` replaces.
    back: by how many characters the cursor moves back after `inserted`.
    label, detail: for people.
    """

    kind: Literal["embedding", "function"]
    typed: str
    inserted: str
    label: str
    detail: str
    back: int = 0


def complete(host: Host, before: str) -> list[Completion]:
    """The best completions, at most MOST, functions first.

    before: the text from its beginning to the cursor.
    StorageError if the folder of embeddings cannot be read.
    """
    is_quoted = before.count("'") % 2 == 1
    found = _WORD.search(before)
    typed = found.group() if found else ""
    head = before[: len(before) - len(typed)]
    functions: list[Completion] = []
    if is_quoted:
        has_names = bool(typed) or before.endswith("'")
    else:
        functions = list(_find_functions(head, typed))
        has_names = len(typed) >= _LEAST and not _EXPRESSION.match(before)
    names = _find_embeddings(host.library(), typed) if has_names else ()
    return [*functions, *islice(names, MOST - len(functions))]


def _find_functions(head: str, typed: str) -> Iterator[Completion]:
    """The functions that begin with what was typed. head: the text before that."""
    if not typed or not _CALLABLE.search(head):
        return
    for name, signature in SIGNATURES.items():
        if name.startswith(typed) or (len(typed) >= _LEAST and name.lower().startswith(typed.lower())):
            yield Completion("function", typed, f"{name}()", signature.usage, signature.help, back=1)


def _find_embeddings(library: EmbeddingFolder, typed: str) -> Iterator[Completion]:
    """The embeddings whose names begin with what was typed, then those that contain it."""
    wanted = typed.casefold()
    names = [(name.casefold(), name) for name in library.names()]
    beginning = (name for folded, name in names if folded.startswith(wanted))
    containing = (name for folded, name in names if wanted in folded and not folded.startswith(wanted))
    for name in (*beginning, *containing):
        if name != typed:
            yield Completion("embedding", typed, name, name, _describe(library, name))


def _describe(library: EmbeddingFolder, name: str) -> str:
    """What the header of an embedding's file says; empty if the file cannot be read."""
    try:
        embedding = open_embedding(library.path(name))
    except StorageError:
        return ""
    made_for = embedding.tag.made_for if embedding.tag else None
    count = format_count(embedding.count, "vector")
    return ", ".join(filter(None, [count, embedding.architecture.title, made_for and f"made for {made_for}"]))
