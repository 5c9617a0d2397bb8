"""Put temporary embeddings into a web UI's databases, so that its text encoders find them for a moment.

They are added to `ids_lookup` alone, in which prompts are looked up, and not to `word_embeddings`, which pages and the
API list.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from string import digits
from typing import Any

import torch

from lib_embedmerge.core.arrays import Array, to_tensor
from lib_embedmerge.core.inline import InlineEmbedding
from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.hosts.patching import Patches
from lib_embedmerge.hosts.webui.embedding_database import find_model_hijack, list_databases
from lib_embedmerge.hosts.webui.token_tables import find_clip_engines
from lib_embedmerge.lang.stand_ins import PREFIX, STAND_IN
from lib_embedmerge.tokenizer import clip_tokenizer

_INFOTEXT_KEY = "TI"
"""Key of the infotext parameter in which Forge lists the embeddings of a prompt."""

_SAID = "last_extra_generation_params"
"""The parameters for the infotext that Forge's engines leave until the prompts are encoded: an attribute of their
module, in Forge Neo of the class `dynamic_args`, which that module imports."""

_INFOTEXT_INDEX = 2
"""Index of the infotext parameters in Forge's caches of encoded prompts: (key, encoded prompts, infotext)."""

_COMMENT_PREFIX = "Used embeddings: "
"""Beginning of the comment in which A1111's old emphasis implementation lists the embeddings of a prompt."""


class TemporaryEmbedding:
    """An embedding with all attributes that web UIs use of their class Embedding, but without a file or a hash."""

    step = None
    hash = shorthash = ""
    filename = ""
    sd_checkpoint = sd_checkpoint_name = None

    def __init__(self, name: str, vectors: Mapping[str, Array], device: torch.device | None) -> None:
        """vectors: encoder key -> float32 [n, width].  device: where web UIs want them; None for where they are."""
        tensors = {key: to_tensor(rows).to(device) for key, rows in vectors.items()}
        first = next(iter(tensors.values()))
        self.name = name
        # A bare tensor for one encoder, as in web UIs, which would look up those of SD2 by the key of SD1.
        self.vec: Any = tensors if len(tensors) > 1 else first
        self.vectors = first.shape[0]
        self.shape = sum(rows.shape[-1] for rows in tensors.values())

    def checksum(self) -> str:
        """The short hash, which is empty. A1111's old emphasis implementation shows it."""
        return self.shorthash


@contextmanager
def replace_followed(model: Any, embeddings: Collection[NamedEmbedding]) -> Iterator[None]:
    """In this block, give the web UI's own embeddings with these names the vectors of `embeddings`.

    Other objects replace them in its lookup, with the same names, hashes and files, so that the infotext is the same.
    model: the web UI's model object.
    """
    if not embeddings:
        yield
        return
    engines = find_clip_engines(model)
    device = _find_device(engines)
    by_name = {embedding.name.casefold(): embedding for embedding in embeddings}
    changed: list[tuple[dict[int, list[Any]], int, list[Any], list[Any]]] = []
    try:
        for database in list_databases(engines):
            for first, entries in list(database.ids_lookup.items()):
                replaced = [(ids, _replace_vectors(embedding, by_name, device)) for ids, embedding in entries]
                if any(new is not old for (_, new), (_, old) in zip(replaced, entries, strict=True)):
                    changed.append((database.ids_lookup, first, entries, replaced))
                    database.ids_lookup[first] = replaced
        yield
    finally:
        for lookup, first, entries, replaced in changed:
            if lookup.get(first) is replaced:  # else the web UI has read its files again meanwhile
                lookup[first] = entries


def _replace_vectors(embedding: Any, by_name: Mapping[str, NamedEmbedding], device: torch.device | None) -> Any:
    """The web UI's embedding, or if `by_name` has one with its name, another object with the vectors of that."""
    followed = by_name.get(embedding.name.casefold())
    if followed is None:
        return embedding
    replacement = TemporaryEmbedding(followed.name, followed.vectors, device)
    for name in ("name", "hash", "shorthash", "filename", "step"):
        setattr(replacement, name, getattr(embedding, name, None))
    return replacement


@contextmanager
def register_temporaries(
    model: Any, temporaries: Collection[InlineEmbedding], caches: Iterable[Sequence[Any]]
) -> Iterator[None]:
    """In this block, make the web UI's loaded model find these embeddings in prompts.

    model: the web UI's model object.
    caches: its caches of the prompts that are encoded in the block. Forge keeps the names of embeddings in them, and
        those of temporary embeddings are removed.
    """
    if not temporaries:  # nothing to do; the model may not even have CLIP encoders
        yield
        return
    engines = find_clip_engines(model)
    device = _find_device(engines)
    entries = [temporary.made.get(device) or _make_entry(temporary, device) for temporary in temporaries]
    first = entries[0][0][0]  # of the letters with which all names begin
    lookups: list[dict[int, list[Any]]] = [database.ids_lookup for database in list_databases(engines)]
    engine_modules = [sys.modules[name] for name in {type(engine).__module__ for engine in engines or ()}]
    patches = Patches()
    try:
        for lookup in lookups:
            lookup[first] = [*entries, *lookup.get(first, ())]
        for module in engine_modules:
            patches.wrap(module, "print", _print_without_stand_ins)
        yield
    finally:
        patches.undo()
        for lookup in lookups:
            _remove_entries(lookup, first, entries)
        _remove_from_infotext(model, engine_modules, caches)


def _make_entry(temporary: InlineEmbedding, device: torch.device | None) -> tuple[list[int], TemporaryEmbedding]:
    """An entry of a database's `ids_lookup`: (token ids of the name, embedding). It is kept with the embedding."""
    entry = _encode_name(temporary.name), TemporaryEmbedding(temporary.name, temporary.vectors, device)
    temporary.made[device] = entry
    return entry


def _print_without_stand_ins(original: Any, *args: Any, **kwargs: Any) -> None:
    """Print as Forge's engines do, which print each embedding in a prompt, but nothing about temporary embeddings."""
    if not any(isinstance(text, str) and STAND_IN.search(text) for text in args):
        original(*args, **kwargs)


def _remove_from_infotext(model: Any, engine_modules: Iterable[Any], caches: Iterable[Sequence[Any]]) -> None:
    """Remove the names of temporary embeddings from the infotext and from the comments below the picture."""
    infotexts = [getattr(model, "extra_generation_params", None)]
    for module in engine_modules:
        infotexts += [getattr(owner, _SAID, None) for owner in (module, getattr(module, "dynamic_args", None))]
    infotexts += [cache[_INFOTEXT_INDEX] for cache in caches if len(cache) > _INFOTEXT_INDEX]
    for infotext in infotexts:
        if isinstance(infotext, dict) and isinstance(infotext.get(_INFOTEXT_KEY), str):
            infotext[_INFOTEXT_KEY] = _remove_names(infotext[_INFOTEXT_KEY])
            if not infotext[_INFOTEXT_KEY]:
                del infotext[_INFOTEXT_KEY]
    comments = getattr(find_model_hijack(), "comments", None)
    if isinstance(comments, list):
        comments[:] = filter(None, map(_remove_names_from_comment, comments))


def _remove_names_from_comment(comment: str) -> str:
    """The comment without temporary names; empty if it lists no other names."""
    if not comment.startswith(_COMMENT_PREFIX):
        return comment
    remaining = _remove_names(comment.removeprefix(_COMMENT_PREFIX))
    return remaining and _COMMENT_PREFIX + remaining


def _remove_names(names: str) -> str:
    """A comma-separated list of names without those of temporary embeddings."""
    return ", ".join(name for name in names.split(", ") if not STAND_IN.match(name))


def _encode_name(name: str) -> list[int]:
    """The token ids of a stand-in, as the web UI's tokenizer gives them: of its letters, and one for each digit."""
    letters, by_digit = _encode_pieces()
    return [*letters, *map(by_digit.__getitem__, name[len(PREFIX) :])]


@cache
def _encode_pieces() -> tuple[list[int], dict[str, int]]:
    """Token ids of the letters of stand-ins, and digit -> its token id."""
    encode = clip_tokenizer().encode
    return encode(PREFIX), {digit: encode(digit)[0] for digit in digits}


def _find_device(engines: Sequence[Any] | None) -> torch.device | None:
    """The device that vectors must be on; None for Forge, which moves them itself. engines: of the model."""
    if engines:
        return None
    from modules import devices

    return torch.device(devices.device)


def _remove_entries(
    lookup: dict[int, list[Any]], first: int, entries: list[tuple[list[int], TemporaryEmbedding]]
) -> None:
    """Remove (token ids, embedding) entries, whose names begin with the token `first`, from a database's lookup."""
    if lookup.get(first) == entries:  # as long as no other name begins with that token
        del lookup[first]
        return
    temporary_ids = {id(entry[1]) for entry in entries}
    remaining = [entry for entry in lookup.get(first, ()) if id(entry[1]) not in temporary_ids]
    if remaining:
        lookup[first] = remaining
    else:
        lookup.pop(first, None)
