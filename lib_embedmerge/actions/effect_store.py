"""Effects of embeddings that were measured before, kept between runs by what they were measured of.

They are in one JSON file in the folder `effect` of the cache: the models, and for each embedding the numbers of two of
them with their effect. Nothing here raises: a damaged file counts as empty, and one that cannot be written only means
that the effects are measured again.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.atomic_file import write_atomically
from lib_embedmerge.files.cache import cache_folder
from lib_embedmerge.files.stamps import read_state

_SCHEMA = 3
"""Number of the meter's definitions and of the form of this file. Effects of another number are not used."""

_MOST = 50_000
"""How many embeddings have their effects kept; those that were measured last."""

_PAUSE = 10.0
"""Seconds between two times that the file is written while effects are kept one after the other."""


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
    """The kept effects, for any thread. Reads the file again only if another program has changed it."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: None means the folder `effect` of the cache folder, looked up again at each use."""
        self._chosen = folder
        self._lock = threading.RLock()
        self._state: object = None
        self._effects: dict[str, tuple[StoredEffect, ...]] = {}
        self._models: set[str] = set()
        self._unwritten: list[tuple[str, tuple[StoredEffect, ...]]] = []
        self._written_at = -math.inf

    def is_empty(self) -> bool:
        """Whether no effects are kept."""
        with self._lock:
            return not self._load()

    def has_model(self, identity: str) -> bool:
        """Whether an effect between a model and another one is kept."""
        with self._lock:
            self._load()
            return identity in self._models

    def find(self, embedding: str) -> tuple[StoredEffect, ...]:
        """The effects of an embedding. embedding: what `identify_embedding` gives for it."""
        with self._lock:
            return self._load().get(embedding, ())

    def keep(self, embedding: str, effects: Sequence[StoredEffect]) -> None:
        """Keep effects of an embedding, in place of earlier ones between the same two models.

        They are in the file some seconds later, or when `write` is called.
        """
        if not effects:
            return
        with self._lock:
            self._load()
            self._unwritten.append((embedding, tuple(effects)))
            self._add(embedding, effects)
            if time.monotonic() - self._written_at >= _PAUSE:
                self.write()

    def write(self) -> None:
        """Write what is not in the file yet."""
        with self._lock:
            effects = self._load()
            if not self._unwritten:
                return
            self._unwritten.clear()
            self._written_at = time.monotonic()
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._path, _encode_all(effects), overwrite=True)
                self._state = self._path, read_state(self._path)
            except (OSError, ValueError, StorageError):
                self._state = None  # what could not be written is forgotten

    @property
    def _path(self) -> Path:
        return (self._chosen or cache_folder() / "effect") / "library.json"

    def _load(self) -> dict[str, tuple[StoredEffect, ...]]:
        state = self._path, read_state(self._path)
        if self._state != state:
            self._effects, self._state = _decode_all(self._path), state
            self._models = set().union(*map(_list_models, self._effects.values()))
            for embedding, effects in self._unwritten:
                self._add(embedding, effects)
        return self._effects

    def _add(self, embedding: str, effects: Sequence[StoredEffect]) -> None:
        new = {_find_key(effect) for effect in effects}
        before = [effect for effect in self._effects.pop(embedding, ()) if _find_key(effect) not in new]
        self._effects[embedding] = (*before, *effects)
        self._models |= _list_models(effects)
        while len(self._effects) > _MOST:
            del self._effects[next(iter(self._effects))]


def _list_models(effects: Iterable[StoredEffect]) -> set[str]:
    return {model.identity for effect in effects for model in (effect.first, effect.second)}


def _find_key(effect: StoredEffect) -> tuple[frozenset[str], bool]:
    return frozenset((effect.first.identity, effect.second.identity)), effect.remade


def _encode_all(kept: Mapping[str, Sequence[StoredEffect]]) -> bytes:
    numbers: dict[MeasuredOn, int] = {}

    def encode(effect: StoredEffect) -> list[object]:
        first, second = (numbers.setdefault(model, len(numbers)) for model in (effect.first, effect.second))
        return [first, second, effect.remade, effect.effect]

    effects = {name: [encode(one) for one in some] for name, some in kept.items()}
    models = [[model.identity, model.title] for model in numbers]
    return json.dumps({"schema": _SCHEMA, "models": models, "effects": effects}).encode("utf-8")


def _decode_all(path: Path) -> dict[str, tuple[StoredEffect, ...]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
        return {}
    models, effects = content.get("models"), content.get("effects")
    if not isinstance(models, list) or not isinstance(effects, dict):
        return {}
    measured_on = [_decode_model(model) for model in models]
    return {
        name: decoded
        for name, some in effects.items()
        if isinstance(some, list)
        and (decoded := tuple(effect for one in some if (effect := _decode(one, measured_on))))
    }


def _decode_model(values: object) -> MeasuredOn | None:
    if not isinstance(values, list) or [type(value) for value in values] != [str, str]:
        return None
    return MeasuredOn(*values)


def _decode(values: object, models: Sequence[MeasuredOn | None]) -> StoredEffect | None:
    if not isinstance(values, list) or [type(value) for value in values] != [int, int, bool, float]:
        return None
    *numbers, remade, effect = values
    if not (math.isfinite(effect) and effect >= 0 and all(0 <= number < len(models) for number in numbers)):
        return None
    first, second = (models[number] for number in numbers)
    return StoredEffect(first, second, remade, effect) if first and second else None
