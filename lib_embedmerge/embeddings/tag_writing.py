"""Writing a tag: what an embedding comes from, as the metadata of its file. tag.py reads it back.

Source of the standard keys: ModelSpec 1.0.1. docs/model-tags.md says what each key means.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from lib_embedmerge.core.ports import Fingerprint, ModelFacts
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.tag import UsedEmbedding
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.version import __version__

MAX_HEADER = 1 << 20
"""Bytes of a whole file header: ComfyUI shows no metadata beyond."""

_TENSORS_ROOM = 1024
"""Bytes of the header that the tensors' own entries and the padding take, with plenty to spare."""

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Origin:
    """Where an embedding comes from: all that its tag is made of.

    name: the embedding's.  model: what it was made on.  fingerprints: encoder key -> of that model, may be empty.
    date: with a time zone.  recipe: the source text as typed, None where there is none.
    uses: name in the recipe -> that embedding.  notes: the user's.  negative: None where the user did not say.
    variant_of: the name of the embedding that this is a variant of, made from its recipe for another model.
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


def make_metadata(origin: Origin, *, payload_sha256: str | None = None) -> dict[str, str]:
    """The tag of a new embedding. payload_sha256: sha256 hex of what follows the header; saving fills it in anew.

    Equal origins give equal metadata. StorageError where a text cannot be stored or all together are too long.
    """
    if origin.date.tzinfo is None:
        raise ValueError("a tag's date needs a time zone")
    for text, what in ((origin.name, "name"), (origin.recipe or "", "recipe"), (origin.notes, "notes")):
        check_text(text, what)
    metadata = {**_standard_keys(origin), **_own_keys(origin)}
    if payload_sha256:
        metadata[keys.PAYLOAD_HASH] = f"0x{payload_sha256}"
    check_size(metadata)
    return metadata


def update_metadata(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """`new` over `old`: our keys are replaced as a set, so nothing stale stays; every foreign key survives."""
    kept = {key: value for key, value in old.items() if not key.startswith(keys.PREFIX) and key not in keys.REPLACED}
    return {**kept, **new}


def with_payload_hash(metadata: Mapping[str, str], sha256: str) -> dict[str, str]:
    """The metadata with modelspec.hash_sha256 for a payload of that sha256 hex."""
    return {**metadata, keys.PAYLOAD_HASH: f"0x{sha256}"}


_TEXTS = {keys.NOTES: "the notes", keys.RECIPE: "the text that it is made from"}
"""What users call texts of a tag."""


def check_size(metadata: Mapping[str, str]) -> None:
    """StorageError where the header of a file with these metadata would not stay under MAX_HEADER bytes."""
    # JSON takes six bytes for a character at most: texts far from the bound need no exact look.
    if 6 * sum(len(key) + len(value) + 2 for key, value in metadata.items()) + _TENSORS_ROOM < MAX_HEADER:
        return
    sizes = {key: _json_size(value) + _json_size(key) + 2 for key, value in metadata.items()}
    total = sum(sizes.values()) + _TENSORS_ROOM
    if total >= MAX_HEADER:
        largest = max(sizes, key=lambda key: (sizes[key], key))
        shown = math.ceil(total / 100_000) / 10
        message = f"The notes and other texts in this file take {shown} MB. Web UIs refuse more than 1 MB."
        raise StorageError(message, hint=f"Shorten {_TEXTS.get(largest, f'the entry {quote(largest)}')}.")


def _standard_keys(origin: Origin) -> dict[str, str]:
    model = origin.model
    title = _clean(model.title)
    metadata = {
        keys.SPEC: keys.SPEC_VERSION,
        keys.ARCHITECTURE: f"{model.architecture.modelspec}/textual-inversion",
        keys.IMPLEMENTATION: keys.REFERENCE_CODE,
        keys.TITLE: origin.name,
        keys.DATE: origin.date.isoformat(timespec="seconds"),
        keys.TRIGGER: origin.name,
        keys.USAGE_HINT: f"made for {title}" + (" from text" if origin.recipe else ""),
        keys.MERGED_FROM: title,
        keys.MODEL_FILE: _clean(model.file_name),
        keys.BASE_VERSION: model.architecture.base_version,
    }
    if model.sha256:
        metadata[keys.MODEL_HASH] = model.sha256
    if model.prediction_type in {"v", "epsilon"}:  # the standard knows no others
        metadata[keys.PREDICTION] = model.prediction_type
    if origin.negative is not None:
        metadata[keys.NEGATIVE] = "true" if origin.negative else "false"
    return metadata


def _own_keys(origin: Origin) -> dict[str, str]:
    metadata = {keys.SCHEMA: keys.SCHEMA_VERSION, keys.PROGRAM_VERSION: __version__}
    if origin.recipe:
        metadata[keys.RECIPE] = origin.recipe
    if origin.uses:
        metadata[keys.USES] = _json(_uses_as_json(origin.uses))
    if origin.model.text_encoder_files:
        metadata[keys.TEXT_ENCODER_FILES] = _json([_clean(name) for name in origin.model.text_encoder_files])
    if origin.notes:
        metadata[keys.NOTES] = origin.notes
    if origin.variant_of:
        metadata[keys.VARIANT_OF] = origin.variant_of
    for key, fingerprint in origin.fingerprints.items():
        metadata[keys.TOKEN_TABLE + key] = fingerprint.token_table
        if fingerprint.text_encoder:
            metadata[keys.TEXT_ENCODER + key] = fingerprint.text_encoder
    return metadata


def _uses_as_json(uses: Mapping[str, UsedEmbedding]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for name, used in uses.items():
        entry: dict[str, object] = {"hash": used.hash}
        if used.recipe:
            check_text(used.recipe, f"recipe of {quote(name)}")
            entry["recipe"] = used.recipe
        if used.uses:
            entry["uses"] = _uses_as_json(used.uses)
        if used.count:
            entry["vectors"] = used.count
        if used.made_for:
            entry["made_for"] = _clean(used.made_for)
        if used.follows:
            entry["follows"] = True
        entries[_clean(name)] = entry
    return entries


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _json_size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def check_text(text: str, what: str) -> None:
    """StorageError where no file can hold the text. what: to call it by, `notes`."""
    if "\0" in text or _SURROGATES.search(text):
        message = f"There is a broken character in the {what}, which cannot be saved."
        raise StorageError(message, hint="Remove it. Often it is a cut emoji.")


def _clean(text: str) -> str:
    """A file's name or title as a text that can be stored: on Linux a name may hold bytes that are no text."""
    return _SURROGATES.sub("�", text).replace("\0", "")
