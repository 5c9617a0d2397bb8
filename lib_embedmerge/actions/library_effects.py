"""What the embeddings of a library do on other models than the active one: measured, kept, and found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lib_embedmerge.actions.active_checkpoint import find_active_checkpoint
from lib_embedmerge.actions.effect_store import EffectStore, MeasuredOn, StoredEffect
from lib_embedmerge.actions.measuring_effect import EffectRequest, measure_passing, open_metered
from lib_embedmerge.actions.meter import MeteredModel
from lib_embedmerge.checkpoints.cross_attention import TextReader, open_text_reader
from lib_embedmerge.checkpoints.meter_cache import MeterCache
from lib_embedmerge.core.effect_answers import LibraryEffectAnswer, OtherModelAnswer
from lib_embedmerge.core.ports import EmbeddingNames, Progress
from lib_embedmerge.core.staged_progress import StagedProgress
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors, load_embedding
from lib_embedmerge.errors import EmbedMergeError, StorageError
from lib_embedmerge.facade import CheckpointModel, open_checkpoint
from lib_embedmerge.files.stamps import Stamp, read_stamp
from lib_embedmerge.hosts.port import Host

STORE = EffectStore()
"""The effects that this user has measured."""


@dataclass(frozen=True)
class LibraryEffectRequest:
    """What is measured: each embedding on one model against each of the others.

    files: of the embeddings.  reference: the checkpoint of the one model.  others: checkpoints.
    remade: whether each model gets the vectors that the recipe of the embedding gives on it, as after a rebuild.
    embeddings: those that recipes may name.
    """

    files: Sequence[Path]
    reference: Path
    others: Sequence[Path]
    remade: bool = False
    embeddings: EmbeddingNames | None = None


@dataclass(frozen=True)
class KnownEffect:
    """A kept effect between the active model and another one. checkpoint: the name of its file.  remade: as above."""

    checkpoint: str
    effect: float
    remade: bool


def measure_library(request: LibraryEffectRequest, progress: Progress | None = None) -> Iterator[LibraryEffectAnswer]:
    """Measure the effects, and give an answer for each embedding as soon as it is measured. What is measured is kept.

    An embedding that cannot be measured gets a reason instead.
    progress: called with (done, in all). An exception that it raises ends the work; what is measured stays kept.
    """
    stages = StagedProgress(progress, [1] * max(1, len(request.files) * len(request.others)))
    models = _Models(request)
    try:
        for number, file in enumerate(request.files):
            first = number * len(request.others)
            steps = [stages.stage(first + index) for index in range(len(request.others))]
            yield {"name": file.stem, "file": str(file), "effects": _measure_file(request, models, file, steps)}
    finally:
        STORE.write()


def _measure_file(
    request: LibraryEffectRequest, models: _Models, file: Path, steps: Sequence[Progress]
) -> list[OtherModelAnswer]:
    answers: list[OtherModelAnswer] = []
    measured: list[StoredEffect] = []
    loaded = _load(file)
    try:
        for other, step in zip(request.others, steps, strict=True):
            try:
                if isinstance(loaded, StorageError):
                    raise loaded
                a, b = models.open(request.reference), models.open(other)
                effect = measure_passing(a, b, loaded, step, remake=request.remade)
                measured.append(StoredEffect(models.identify(a), models.identify(b), request.remade, effect))
                answers.append({"checkpoint": other.name, "effect": effect, "reason": None})
            except EmbedMergeError as error:
                answers.append({"checkpoint": other.name, "effect": None, "reason": error.message})
            step(1, 1)
    finally:
        if measured and not isinstance(loaded, StorageError):
            STORE.keep(identify_embedding(loaded), measured)
    return answers


def _load(file: Path) -> Embedding | StorageError:
    """The embedding in a file, read once, so that what is measured is what is kept; or why it cannot be read."""
    try:
        return load_embedding(file)
    except StorageError as error:
        return error


class _Models:
    """The checkpoints of a run. Each is opened and identified once, when it is first used."""

    def __init__(self, request: LibraryEffectRequest) -> None:
        self._wanted = EffectRequest(embeddings=request.embeddings)
        self._cache = MeterCache()
        self._opened: dict[Path, MeteredModel | EmbedMergeError] = {}
        self._identities: dict[MeteredModel, MeasuredOn] = {}

    def open(self, checkpoint: Path) -> MeteredModel:
        """The model in a checkpoint. CheckpointError as for `open_metered`."""
        if checkpoint not in self._opened:
            try:
                (self._opened[checkpoint],) = open_metered([checkpoint], self._wanted, self._cache)
            except EmbedMergeError as error:
                self._opened[checkpoint] = error
        found = self._opened[checkpoint]
        if isinstance(found, EmbedMergeError):
            raise found
        return found

    def identify(self, model: MeteredModel) -> MeasuredOn:
        """What its effects are kept for. Quick once it was measured."""
        if model not in self._identities:
            identity = _identify_model(model.reader, model.model, self._cache)
            self._identities[model] = MeasuredOn(identity, Path(model.label).name)
        return self._identities[model]


def find_known_effects(host: Host, files: Mapping[str, Path]) -> dict[str, tuple[KnownEffect, ...]]:
    """The kept effects of files between the active model and others. Measures nothing.

    files: place in the library -> file.  Files without any are left out.
    """
    if STORE.is_empty():
        return {}
    try:
        checkpoint = find_active_checkpoint(host)
        model = _find_identity(checkpoint, read_stamp(checkpoint))
    except EmbedMergeError:
        return {}
    if not model or not STORE.has_model(model):
        return {}
    found: dict[str, tuple[KnownEffect, ...]] = {}
    for place, file in files.items():
        embedding = _identify_file(file, read_stamp(file))
        if embedding and (known := tuple(_list_known(model, STORE.find(embedding)))):
            found[place] = known
    return found


def _list_known(model: str, effects: Sequence[StoredEffect]) -> Iterator[KnownEffect]:
    """The effects between a model and others."""
    for effect in effects:
        if effect.first.identity == model:
            yield KnownEffect(effect.second.title, effect.effect, effect.remade)
        elif effect.second.identity == model:
            yield KnownEffect(effect.first.title, effect.effect, effect.remade)


def identify_embedding(embedding: Embedding) -> str:
    """A name for what an effect depends on: the vectors and the recipe with what it names. sha256, in hex."""
    tag = embedding.tag
    uses = {name: used.hash for name, used in tag.uses.items()} if tag else {}
    content = [hash_vectors(embedding.vectors), tag.recipe if tag else None, uses]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


@lru_cache(maxsize=50_000)
def _identify_file(file: Path, _stamp: Stamp | None) -> str | None:
    """The same for a file; None if it cannot be read. _stamp: of the file, so that it is read again if it changes."""
    try:
        return identify_embedding(load_embedding(file))
    except StorageError:
        return None


def _identify_model(reader: TextReader, model: CheckpointModel, cache: MeterCache) -> str:
    """A name for what an effect depends on in a model: its text encoders and what reads text in its U-Net.

    Quick once it was measured. CheckpointError if the file cannot be read.
    """
    prints = model.fingerprints()
    encoders = [[key, prints[key].token_table, prints[key].text_encoder] for key in sorted(prints)]
    content = json.dumps([cache.fingerprint(reader), encoders])
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:32]


def _find_identity(checkpoint: Path, stamp: Stamp | None) -> str | None:
    """The name of a model if nothing has to be measured for it, else None."""
    reader, model = _open_again(checkpoint, stamp)
    is_known = MeterCache().has_fingerprint(reader) and model.has_fingerprints
    return _identify_again(checkpoint, stamp) if is_known else None


@lru_cache(maxsize=2)
def _open_again(checkpoint: Path, _stamp: Stamp | None) -> tuple[TextReader, CheckpointModel]:
    """What is read of the headers of a checkpoint. _stamp: of the file, which is opened again if it changes."""
    return open_text_reader(checkpoint), open_checkpoint(checkpoint)


@lru_cache(maxsize=16)
def _identify_again(checkpoint: Path, stamp: Stamp | None) -> str:
    return _identify_model(*_open_again(checkpoint, stamp), MeterCache())
