"""Temporary embeddings in a web UI's databases: found by the text encoders for a moment, listed nowhere, gone after.

They stand in `ids_lookup` alone, which prompts are read by, and not in `word_embeddings`, which pages and the API show.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from lib_embedmerge.core.inline import MAX_KEPT, InlineEmbedding
from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.hosts.webui.embedding_database import databases
from lib_embedmerge.hosts.webui.patching import Patches
from lib_embedmerge.hosts.webui.token_tables import find_clip_engines
from lib_embedmerge.lang.stand_ins import STAND_IN
from lib_embedmerge.tokenizer import clip_tokenizer

_USED = "TI"
"""Where Forge lists the embeddings of a prompt in its infotext."""

_CACHED_NAMES = 2
"""Where its cached conditionings have them: (parameters, conditioning, infotext)."""

_USED_OLD = "Used embeddings: "
"""How A1111's old emphasis implementation lists them among the comments."""


class TemporaryEmbedding:
    """What web UIs ask of an embedding (their class Embedding), without a file or a hash."""

    step = None
    hash = shorthash = ""
    filename = ""
    sd_checkpoint = sd_checkpoint_name = None

    def __init__(self, name: str, vectors: Mapping[str, torch.Tensor], device: torch.device | None) -> None:
        """vectors: encoder key -> float32 [n, width].  device: where the web UI wants them, None for where they are."""
        vectors = {key: rows if device is None else rows.to(device) for key, rows in vectors.items()}
        some = next(iter(vectors.values()))
        self.name = name
        # Of one encoder a bare tensor, as web UIs have it: they look SD2's up by the key of SD1's.
        self.vec: Any = vectors if len(vectors) > 1 else some
        self.vectors = some.shape[0]
        self.shape = sum(rows.shape[-1] for rows in vectors.values())

    def checksum(self) -> str:
        """For A1111's old emphasis implementation, which shows it."""
        return self.shorthash


@contextmanager
def replace_followed(model: Any, embeddings: Collection[NamedEmbedding]) -> Iterator[None]:
    """Let the web UI's own embeddings of these names have these vectors until the end of the block.

    In its lookup others stand in for them, with their name, hash and file, so that the infotext stays as it is.
    """
    if not embeddings:
        yield
        return
    device = _device(model)
    wanted = {one.name.casefold(): one for one in embeddings}
    changed: list[tuple[dict[int, list[Any]], int, list[Any], list[Any]]] = []
    try:
        for database in databases(model):
            for first, entries in list(database.ids_lookup.items()):
                standing = [(ids, _stand_in(one, wanted, device)) for ids, one in entries]
                if any(new is not old for (_, new), (_, old) in zip(standing, entries, strict=True)):
                    changed.append((database.ids_lookup, first, entries, standing))
                    database.ids_lookup[first] = standing
        yield
    finally:
        for lookup, first, entries, standing in changed:
            if lookup.get(first) is standing:  # else the web UI has read its files again meanwhile
                lookup[first] = entries


def _stand_in(embedding: Any, wanted: Mapping[str, NamedEmbedding], device: torch.device | None) -> Any:
    found = wanted.get(embedding.name.casefold())
    if found is None:
        return embedding
    standing = TemporaryEmbedding(found.name, found.vectors, device)
    for name in ("name", "hash", "shorthash", "filename", "step"):
        setattr(standing, name, getattr(embedding, name, None))
    return standing


@contextmanager
def register_temporaries(
    model: Any, temporaries: Collection[InlineEmbedding], caches: Iterable[Sequence[Any]]
) -> Iterator[None]:
    """Let the web UI's loaded model find these embeddings in prompts until the end of the block.

    caches: where it keeps the conditionings of the block; Forge with the embeddings' names, which are taken out.
    """
    if not temporaries:  # on a model without CLIP too
        yield
        return
    device = _device(model)
    entries = [(_ids(one.name), TemporaryEmbedding(one.name, one.vectors, device)) for one in temporaries]
    engine_modules = [sys.modules[name] for name in {type(engine).__module__ for engine in find_clip_engines(model)}]
    patches = Patches()
    try:
        for database in databases(model):
            for ids, embedding in entries:
                database.ids_lookup[ids[0]] = [(ids, embedding), *database.ids_lookup.get(ids[0], ())]
        for module in engine_modules:
            patches.wrap(module, "print", _quiet)
        yield
    finally:
        patches.undo()
        for database in databases(model):
            _take_out(database.ids_lookup, entries)
        _forget_names(model, engine_modules, caches)


def _quiet(original: Any, *args: Any, **kwargs: Any) -> None:
    """Forge's engines print each embedding that a prompt uses."""
    if not any(isinstance(text, str) and STAND_IN.search(text) for text in args):
        original(*args, **kwargs)


def _forget_names(model: Any, engine_modules: Iterable[Any], caches: Iterable[Sequence[Any]]) -> None:
    """Take temporary names out of what would go into the infotext, and below the picture."""
    places = [getattr(model, "extra_generation_params", None)]
    places += [getattr(module, "last_extra_generation_params", None) for module in engine_modules]
    places += [cache[_CACHED_NAMES] for cache in caches if len(cache) > _CACHED_NAMES]
    for place in places:
        if isinstance(place, dict) and isinstance(place.get(_USED), str):
            place[_USED] = _without_names(place[_USED])
            if not place[_USED]:
                del place[_USED]
    if not engine_modules:
        from modules import sd_hijack

        comments = sd_hijack.model_hijack.comments
        comments[:] = filter(None, map(_without_names_used, comments))


def _without_names_used(comment: str) -> str:
    if not comment.startswith(_USED_OLD):
        return comment
    left = _without_names(comment.removeprefix(_USED_OLD))
    return left and _USED_OLD + left


def _without_names(listed: str) -> str:
    return ", ".join(name for name in listed.split(", ") if not STAND_IN.match(name))


@lru_cache(maxsize=MAX_KEPT)
def _ids(name: str) -> list[int]:
    """What the web UI's tokenizer makes of a name; nobody changes it."""
    return clip_tokenizer().encode(name)


def _device(model: Any) -> torch.device | None:
    """Where vectors must be; None on Forge, which moves them to where they are needed."""
    if any(True for _ in find_clip_engines(model)):
        return None
    from modules import devices

    return torch.device(devices.device)


def _take_out(lookup: dict[int, list[Any]], entries: Collection[tuple[list[int], TemporaryEmbedding]]) -> None:
    ours = {id(embedding) for _, embedding in entries}
    for first in {ids[0] for ids, _ in entries}:
        left = [entry for entry in lookup.get(first, ()) if id(entry[1]) not in ours]
        if left:
            lookup[first] = left
        else:
            lookup.pop(first, None)
