"""What the sidecars of a library's embeddings say, kept between runs, so that a listing reads none twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from lib_embedmerge.embeddings.sidecars import ENDINGS, SidecarFacts, join_facts, read_sidecar
from lib_embedmerge.files.folder_cache import FolderCache, Value

_KIND = "sidecars"


def read_all_sidecars(folder: Path, paths: Iterable[Path], makers: Iterable[Path]) -> dict[Path, SidecarFacts]:
    """Embedding's file -> what its sidecars say, for those that have some.

    folder: of the library, to which the cache belongs.  makers: the modules that decide what is found in a file.
    """
    listed: dict[str, frozenset[str]] = {}
    sidecars: dict[Path, list[Path]] = {}
    for path in paths:  # with texts only, because there are thousands
        name = path.name
        parent = os.fspath(path)[: -len(name)]  # with the separator at its end
        if parent not in listed:
            listed[parent] = _list_names(parent)
        if names := listed[parent]:
            stem = name.rpartition(".")[0]
            existing = [stem + ending for ending in ENDINGS if stem + ending in names]
            if existing:
                sidecars[path] = [Path(parent, each) for each in existing]
    if not sidecars:
        return {}
    cache = FolderCache(folder, makers, _KIND)
    found = {path: join_facts([_find(cache, sidecar) for sidecar in own]) for path, own in sidecars.items()}
    cache.save()
    return {path: facts for path, facts in found.items() if facts}


def _list_names(folder: str) -> frozenset[str]:
    """The names of the JSON files in a folder, which are few where there are no sidecars."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.name.endswith((".json", ".info")))
    except OSError:
        return frozenset()


def _find(cache: FolderCache, sidecar: Path) -> SidecarFacts | None:
    """What a sidecar says, from the cache if it has not changed."""
    text = str(sidecar)
    _, value = cache.get(text)
    if value is not None:
        try:
            return _decode(value.own, sidecar)
        except (ValueError, TypeError):  # not what `_encode` writes
            cache.drop(text)
    facts = read_sidecar(sidecar)
    cache.put(text, Value("", _encode(facts)))
    return facts


def _encode(facts: SidecarFacts | None) -> str:
    return json.dumps(asdict(facts) if facts else None)


def _decode(text: str, sidecar: Path) -> SidecarFacts | None:
    content = json.loads(text)
    if content is None:
        return None
    words = tuple(content.pop("trigger_words"))
    return SidecarFacts(**{**content, "trigger_words": words, "files": (sidecar.name,)})
