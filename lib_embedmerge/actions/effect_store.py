"""Effects of embeddings that were measured before, kept between runs by what they were measured of.

They are in one JSON file in the folder `effect` of the cache. It never raises: a damaged file counts as empty, and one
that cannot be written only means that the effects are measured again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.atomic_file import write_atomically
from lib_embedmerge.files.cache import cache_folder
from lib_embedmerge.files.stamps import read_state

_SCHEMA = 1
"""Number of the meter's definitions and of the form of this file. Effects of another number are not used."""

_MOST = 5000
"""How many embeddings have their effects kept; those that were measured last."""


@dataclass(frozen=True)
class MeasuredOn:
    """A model that an effect was measured on. identity: of its weights.  title: the name of its file."""

    identity: str
    title: str


@dataclass(frozen=True)
class StoredEffect:
    """The effect of an embedding between two models.

    remade: whether each model had the vectors that the recipe of the embedding gives on it, not the stored ones.
    """

    first: MeasuredOn
    second: MeasuredOn
    remade: bool
    effect: float


class EffectStore:
    """The kept effects. Reads the file again only if it has changed."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: None means the folder `effect` of the cache folder, looked up again at each use."""
        self._chosen = folder
        self._read: tuple[object, dict[str, tuple[StoredEffect, ...]]] = None, {}

    def is_empty(self) -> bool:
        """Whether no effects are kept."""
        return not self._load()

    def find(self, embedding: str) -> tuple[StoredEffect, ...]:
        """The effects of an embedding. embedding: what `identify_embedding` gives for it."""
        return self._load().get(embedding, ())

    def keep(self, embedding: str, effects: Sequence[StoredEffect]) -> None:
        """Keep effects of an embedding, in place of earlier ones between the same two models."""
        if not effects:
            return
        kept = dict(self._load())
        new = {_find_key(effect) for effect in effects}
        before = [effect for effect in kept.pop(embedding, ()) if _find_key(effect) not in new]
        kept[embedding] = (*before, *effects)
        for oldest in list(kept)[: max(0, len(kept) - _MOST)]:
            del kept[oldest]
        content = {"schema": _SCHEMA, "effects": {name: [_encode(one) for one in some] for name, some in kept.items()}}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(content).encode("utf-8"), overwrite=True)
        except (OSError, ValueError, StorageError):
            return

    @property
    def _path(self) -> Path:
        return (self._chosen or cache_folder() / "effect") / "library.json"

    def _load(self) -> dict[str, tuple[StoredEffect, ...]]:
        state = self._path, read_state(self._path)
        known, effects = self._read
        if known != state:
            effects = _decode_all(self._path)
            self._read = state, effects
        return effects


def _find_key(effect: StoredEffect) -> tuple[frozenset[str], bool]:
    return frozenset((effect.first.identity, effect.second.identity)), effect.remade


def _encode(effect: StoredEffect) -> list[object]:
    first, second = effect.first, effect.second
    return [first.identity, first.title, second.identity, second.title, effect.remade, effect.effect]


def _decode_all(path: Path) -> dict[str, tuple[StoredEffect, ...]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        return {}
    effects = content.get("effects")
    if not isinstance(effects, dict):
        return {}
    return {
        name: tuple(effect for one in some if (effect := _decode(one)))
        for name, some in effects.items()
        if isinstance(some, list)
    }


def _decode(values: object) -> StoredEffect | None:
    if not isinstance(values, list) or [type(value) for value in values] != [str, str, str, str, bool, float]:
        return None
    first, first_title, second, second_title, remade, effect = values
    if not (math.isfinite(effect) and effect >= 0):
        return None
    return StoredEffect(MeasuredOn(first, first_title), MeasuredOn(second, second_title), remade, effect)
