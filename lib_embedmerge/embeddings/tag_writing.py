"""Writing the model tag: where an embedding comes from, as metadata for its file. tag.py reads tags.

Source of the standard keys: ModelSpec 1.0.1. docs/model-tags.md says what each key means.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from lib_embedmerge.core.ports import Fingerprint, ModelFacts
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.tag import UsedEmbedding, read_tag_or_empty
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.version import __version__

MAX_HEADER = 1 << 20
"""Largest size of a file's header in bytes. ComfyUI does not show the metadata of files with a larger one."""

_TENSORS_SIZE = 1024
"""Upper bound for the bytes that the entries of tensors and the padding take in a header."""

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Origin:
    """Where an embedding comes from: everything that its tag is made of.

    name: of the embedding.  model: the model that it was made on.
    date: with a time zone.  fingerprints: encoder key -> fingerprint of the model; may be empty.
    recipe: the source text as typed, or None.  uses: the embeddings that the recipe names, by name.
    notes: the user's notes.  negative: whether it is meant for negative prompts; None if the user did not say.
    variant_of: name of the embedding from whose recipe this one was made for another model.
    made_by: how the vectors were made if not from a recipe, as JSON data: `method`, `objective` and so on.
    """

    name: str
    model: ModelFacts
    date: datetime
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=lambda: MappingProxyType({}))
    recipe: str | None = None
    uses: Mapping[str, UsedEmbedding] = field(default_factory=lambda: MappingProxyType({}))
    notes: str = ""
    negative: bool | None = None
    variant_of: str | None = None
    made_by: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


def make_metadata(origin: Origin, *, payload_sha256: str | None = None) -> dict[str, str]:
    """The tag of a new embedding. Equal origins give equal metadata.

    payload_sha256: sha256 hex of the bytes after the header. Saving an embedding sets it again.
    StorageError if a text cannot be stored, or if all together are too long.
    """
    if origin.date.tzinfo is None:
        raise ValueError("a tag's date needs a time zone")
    for text, what in ((origin.name, "name"), (origin.recipe or "", "recipe"), (origin.notes, "notes")):
        check_text(text, what)
    metadata = {**_make_standard_entries(origin), **_make_own_entries(origin)}
    if payload_sha256:
        metadata[keys.PAYLOAD_HASH] = f"0x{payload_sha256}"
    check_size(metadata)
    return metadata


def update_metadata(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The metadata `old` with the tag `new`.

    All keys of the old tag are removed, so that none stays that is no longer true. Keys of other tools are kept, and so
    are the user's notes by model, unless the new tag has some.
    """
    others = {key: value for key, value in old.items() if not key.startswith(keys.PREFIX) and key not in keys.REPLACED}
    kept = {key: old[key] for key in (keys.NOTES_BY_MODEL,) if key in old}
    return {**others, **kept, **new}


def retag(metadata: Mapping[str, str], origin: Origin) -> dict[str, str]:
    """The metadata of a file with the tag of an embedding that was made of it.

    The user's notes and what the user said about negative prompts are kept, in place of those of `origin`.
    StorageError as from `make_metadata`.
    """
    old = read_tag_or_empty(metadata)
    return update_metadata(metadata, make_metadata(replace(origin, notes=old.notes or "", negative=old.negative)))


def add_recipe(metadata: Mapping[str, str], recipe: str) -> dict[str, str]:
    """The metadata with a recipe, of an embedding whose model is not known.

    StorageError if the recipe cannot be stored, or if all texts together are too long.
    """
    check_text(recipe, "recipe")
    own = {keys.SCHEMA: keys.SCHEMA_VERSION, keys.PROGRAM_VERSION: __version__, keys.RECIPE: recipe}
    check_size({**metadata, **own})
    return {**metadata, **own}


def set_payload_hash(metadata: Mapping[str, str], sha256: str) -> dict[str, str]:
    """The metadata with modelspec.hash_sha256. sha256: hex digest of the bytes after the header."""
    return {**metadata, keys.PAYLOAD_HASH: f"0x{sha256}"}


_TEXT_TITLES = {keys.NOTES: "the notes", keys.RECIPE: "the text that it is made from"}
"""Keys of texts -> how messages call them."""


def check_size(metadata: Mapping[str, str]) -> None:
    """StorageError if the header of a file with these metadata would have MAX_HEADER bytes or more."""
    # JSON takes at most six bytes for a character, so short texts need no exact computation.
    if 6 * sum(len(key) + len(value) + 2 for key, value in metadata.items()) + _TENSORS_SIZE < MAX_HEADER:
        return
    sizes = {key: _measure_json(value) + _measure_json(key) + 2 for key, value in metadata.items()}
    total = sum(sizes.values()) + _TENSORS_SIZE
    if total >= MAX_HEADER:
        largest = max(sizes, key=lambda key: (sizes[key], key))
        shown = math.ceil(total / 100_000) / 10
        message = f"The notes and other texts in this file take {shown} MB. Web UIs refuse more than 1 MB."
        raise StorageError(message, hint=f"Shorten {_TEXT_TITLES.get(largest, f'the entry {quote(largest)}')}.")


def _make_standard_entries(origin: Origin) -> dict[str, str]:
    """The part of a tag with keys of ModelSpec and kohya."""
    model = origin.model
    title = _remove_broken(model.title)
    metadata = {
        keys.SPEC: keys.SPEC_VERSION,
        keys.ARCHITECTURE: f"{model.architecture.modelspec}/textual-inversion",
        keys.IMPLEMENTATION: keys.REFERENCE_CODE,
        keys.TITLE: origin.name,
        keys.DATE: origin.date.isoformat(timespec="seconds"),
        keys.TRIGGER: origin.name,
        keys.USAGE_HINT: f"made for {title}" + (" from text" if origin.recipe else ""),
        keys.MERGED_FROM: title,
        keys.MODEL_FILE: _remove_broken(model.file_name),
        keys.BASE_VERSION: model.architecture.base_version,
    }
    if model.sha256:
        metadata[keys.MODEL_HASH] = model.sha256
    if model.prediction_type in keys.STANDARD_PREDICTIONS:
        metadata[keys.PREDICTION] = model.prediction_type
    if origin.negative is not None:
        metadata[keys.NEGATIVE] = "true" if origin.negative else "false"
    return metadata


def _make_own_entries(origin: Origin) -> dict[str, str]:
    """The part of a tag with the keys of EmbedMerge."""
    metadata = {keys.SCHEMA: keys.SCHEMA_VERSION, keys.PROGRAM_VERSION: __version__}
    if origin.model.prediction_type in keys.OTHER_PREDICTIONS:
        metadata[keys.OTHER_PREDICTION] = origin.model.prediction_type
    if origin.recipe:
        metadata[keys.RECIPE] = origin.recipe
    if origin.uses:
        metadata[keys.USES] = _encode_json(_make_uses(origin.uses))
    if origin.model.text_encoder_files:
        names = [_remove_broken(name) for name in origin.model.text_encoder_files]
        metadata[keys.TEXT_ENCODER_FILES] = _encode_json(names)
    if origin.notes:
        metadata[keys.NOTES] = origin.notes
    if origin.variant_of:
        metadata[keys.VARIANT_OF] = origin.variant_of
    if origin.made_by:
        metadata[keys.MADE_BY] = _encode_json(dict(origin.made_by))
    for key, fingerprint in origin.fingerprints.items():
        metadata[keys.TOKEN_TABLE + key] = fingerprint.token_table
        if fingerprint.text_encoder:
            metadata[keys.TEXT_ENCODER + key] = fingerprint.text_encoder
    return metadata


def _make_uses(uses: Mapping[str, UsedEmbedding]) -> dict[str, object]:
    """The used embeddings as JSON data. StorageError if a recipe cannot be stored."""
    entries: dict[str, object] = {}
    for name, used in uses.items():
        entry: dict[str, object] = {"hash": used.hash}
        if used.recipe:
            check_text(used.recipe, f"recipe of {quote(name)}")
            entry["recipe"] = used.recipe
        if used.uses:
            entry["uses"] = _make_uses(used.uses)
        if used.count:
            entry["vectors"] = used.count
        if used.made_for:
            entry["made_for"] = _remove_broken(used.made_for)
        if used.follows:
            entry["follows"] = True
        entries[_remove_broken(name)] = entry
    return entries


def _encode_json(value: object) -> str:
    """A value as compact JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _measure_json(text: str) -> int:
    """Bytes of a text as JSON in a header."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def check_text(text: str, what: str) -> None:
    """StorageError if a text cannot be stored in a file. what: what the message calls it, such as `notes`."""
    if "\0" in text or _SURROGATES.search(text):
        message = f"There is a broken character in the {what}, which cannot be saved."
        raise StorageError(message, hint="Remove it. Often it is a cut emoji.")


def _remove_broken(text: str) -> str:
    """A file name or title without characters that cannot be stored: on Linux a name may contain any bytes."""
    return _SURROGATES.sub("�", text).replace("\0", "")
