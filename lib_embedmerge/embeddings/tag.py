"""The model tag: information about the model, the recipe and the maker of an embedding, read from its file's metadata.

tag_keys.py has the keys, and tag_writing.py writes tags. Specification: docs/model-tags.md. The keys of other tools are
those of ModelSpec 1.0.1 and kohya sd-scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from lib_embedmerge.core.architecture import ARCHITECTURES, WIDTHS, Architecture
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.model_notes import NO_NOTES, ModelNotes, read_model_notes

_MAX_NESTING = 16
"""How deep embeddings that recipes of embeddings name are read."""
_HEX = re.compile(r"(?:0x)?([0-9a-f]{64})")
_LONGEST_KEPT = 100
"""Longest text whose meaning is kept for the next file: thousands of embeddings of one model name the same hashes."""


@dataclass(frozen=True)
class UsedEmbedding:
    """An embedding that a recipe names.

    hash: sha256 hex of its vectors (embedding.hash_vectors), empty if not known. It is not that of its file, which
        changes with notes and names. In tags of early versions, which have no `count`, it may be that of the file.
    recipe: its own recipe, or None.  uses: the embeddings that its recipe names, by name.
    count: number of vectors for each text encoder.
    made_for: the title of the model that it was made for, if the recipe that names it ran on another model.
    follows: whether the recipe that names it used the vectors that this one's recipe gives on that model, not the
        vectors in its file.
    """

    hash: str
    recipe: str | None = None
    uses: Mapping[str, UsedEmbedding] = field(default_factory=lambda: MappingProxyType({}))
    count: int | None = None
    made_for: str | None = None
    follows: bool = False


@dataclass(frozen=True)
class ModelTag:
    """The tag in a file's metadata. Fields are None or empty if the metadata do not tell, or contain nonsense.

    made_for, file_name, sha256: the title, file name and sha256 hex of the checkpoint that it was made for.
    prediction_type: `epsilon`, `v`, `edm` or `flow`.
    token_tables, text_encoders: encoder key -> sha256 hex, see core.ports.Fingerprint.
    text_encoder_files: names of files whose encoders replaced those of the checkpoint.
    recipe: the source text.  uses: the embeddings that it names, by name.
    notes: the user's notes.  notes_by_model: those about single models.
    negative: whether it is meant for negative prompts.
    variant_of: name of the embedding from which this one was made for another model.
    method: how its vectors were made if not from a recipe: `compress`, `port`, `repair`.
    tool, version: the program that wrote the file.
    """

    made_for: str | None = None
    file_name: str | None = None
    sha256: str | None = None
    architecture: Architecture | None = None
    prediction_type: str | None = None
    token_tables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    text_encoders: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    text_encoder_files: tuple[str, ...] = ()
    recipe: str | None = None
    uses: Mapping[str, UsedEmbedding] = field(default_factory=lambda: MappingProxyType({}))
    notes: str | None = None
    notes_by_model: ModelNotes = field(default_factory=lambda: NO_NOTES)
    negative: bool | None = None
    date: str | None = None
    variant_of: str | None = None
    method: str | None = None
    tool: str | None = None
    version: str | None = None


def read_tag_or_empty(metadata: Mapping[str, str]) -> ModelTag:
    """The tag in metadata, or one that says nothing."""
    return read_tag(metadata) or ModelTag()


def read_tag(metadata: Mapping[str, str]) -> ModelTag | None:
    """Read the tag in metadata of any tool; None if they contain none. Never raises; nonsense is ignored."""
    texts = _keep_texts(metadata)
    tool = _find_tool(texts)
    if tool is None and not any(key.startswith((keys.PREFIX, "modelspec.", "ss_", "sshs_")) for key in texts):
        return None
    negative = {"true": True, "false": False}.get(texts.get(keys.NEGATIVE, "").strip().lower())
    own = tool == "EmbedMerge"
    return ModelTag(
        made_for=_read_text(texts.get(keys.MERGED_FROM)),
        file_name=_read_file_name(texts.get(keys.MODEL_FILE)),
        sha256=_read_sha256(texts.get(keys.MODEL_HASH)),
        architecture=_find_architecture(texts),
        prediction_type=_find_prediction(texts),
        token_tables=_find_hashes(texts, keys.TOKEN_TABLE),
        text_encoders=_find_hashes(texts, keys.TEXT_ENCODER),
        text_encoder_files=_read_file_names(texts.get(keys.TEXT_ENCODER_FILES)),
        recipe=texts.get(keys.RECIPE) or None,
        uses=read_uses(texts.get(keys.USES)),
        notes=texts.get(keys.NOTES) or None,
        notes_by_model=read_model_notes(texts.get(keys.NOTES_BY_MODEL)),
        negative=negative,
        date=_read_text(texts.get(keys.DATE)),
        variant_of=_read_text(texts.get(keys.VARIANT_OF)),
        method=_read_method(texts.get(keys.MADE_BY)),
        tool=tool,
        version=_read_text(texts.get(keys.PROGRAM_VERSION) if own else texts.get("modelspec.implementation_version")),
    )


def _keep_texts(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """The entries whose keys and values are texts; from a pickle they can be anything."""
    if {*map(type, metadata), *map(type, metadata.values())} <= {str}:
        return metadata
    return {key: value for key, value in metadata.items() if isinstance(key, str) and isinstance(value, str)}


def read_uses(text: str | None) -> Mapping[str, UsedEmbedding]:
    """The used embeddings in the text that a tag has for them, by name; none if it says nothing or nonsense."""
    return _read_uses(_parse_json(text), 0) if text else _NONE_USED


_NONE_USED: Mapping[str, UsedEmbedding] = MappingProxyType({})


def _read_uses(content: object, depth: int) -> Mapping[str, UsedEmbedding]:
    """The used embeddings in a parsed JSON value, which may be anything. depth: how deep it is nested."""
    uses: dict[str, UsedEmbedding] = {}
    for name, entry in content.items() if isinstance(content, dict) and depth < _MAX_NESTING else ():
        if not isinstance(entry, dict):
            continue
        recipe, count, made_for = entry.get("recipe"), entry.get("vectors"), entry.get("made_for")
        # Then its recipe is left out, because embeddings that the recipe names would be missing.
        is_cut_off = bool(entry.get("uses")) and depth + 1 >= _MAX_NESTING
        uses[name] = UsedEmbedding(
            hash=_read_sha256(entry.get("hash")) or "",
            recipe=recipe if isinstance(recipe, str) and recipe and not is_cut_off else None,
            uses=_read_uses(entry.get("uses"), depth + 1),
            count=count if type(count) is int and count > 0 else None,
            made_for=_read_text(made_for) if isinstance(made_for, str) else None,
            follows=entry.get("follows") is True,
        )
    return MappingProxyType(uses)


def _find_tool(texts: Mapping[str, str]) -> str | None:
    """The program that wrote the metadata, by its keys; None if they do not tell.

    `embedmerge.notes` alone does not tell, because users add notes to files of other programs.
    """
    if keys.SCHEMA in texts:
        return "EmbedMerge"
    if any(key.startswith("ot_") for key in texts):
        return "OneTrainer"
    if texts.get("modelspec.implementation_version", "").startswith("sd-scripts/"):
        return "kohya sd-scripts"
    if "modelspec.predict_key" in texts or {"prompt", "workflow"} <= texts.keys():
        return "ComfyUI"
    if any(key.startswith(("ss_", "sshs_")) for key in texts):
        return "kohya sd-scripts"
    return None


def _find_architecture(texts: Mapping[str, str]) -> Architecture | None:
    """The architecture by the id of ModelSpec, else by that of kohya; None if neither is known.

    Both have longer ids for variants, such as `stable-diffusion-v2-768-v`.
    """
    stated, version = texts.get(keys.ARCHITECTURE, ""), texts.get(keys.BASE_VERSION, "")
    is_short = len(stated) <= _LONGEST_KEPT and len(version) <= _LONGEST_KEPT
    return (_find_architecture_once if is_short else _find_stated_architecture)(stated, version)


def _find_stated_architecture(stated: str, version: str) -> Architecture | None:
    """The architecture by its ids. stated: that of ModelSpec.  version: that of kohya."""
    stated = stated.strip().lower().partition("/")[0]
    version = version.strip().lower()
    by_id = (a for a in ARCHITECTURES if _begins_with_id(stated, a.modelspec))
    by_version = (a for a in ARCHITECTURES if _begins_with_id(version, a.base_version))
    return next(by_id, None) or next(by_version, None)


_find_architecture_once = lru_cache(maxsize=64)(_find_stated_architecture)


def _begins_with_id(text: str, start: str) -> bool:
    """Whether a text is the id `start`, or `start` with the name of a variant."""
    return text == start or text.startswith((f"{start}-", f"{start}_"))


def _find_prediction(texts: Mapping[str, str]) -> str | None:
    """The prediction type, or None."""
    stated = texts.get(keys.PREDICTION) or texts.get("modelspec.predict_key", "")  # the second is ComfyUI's
    other = texts.get(keys.OTHER_PREDICTION, "")
    return stated if stated in keys.STANDARD_PREDICTIONS else other if other in keys.OTHER_PREDICTIONS else None


def _find_hashes(texts: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    """Encoder key -> sha256 hex, from the keys that begin with a prefix."""
    stated = tuple((key, texts[prefix + key]) for key in WIDTHS if prefix + key in texts)
    is_short = all(len(value) <= _LONGEST_KEPT for _, value in stated)
    return (_read_hashes_once if is_short else _read_hashes)(stated)


def _read_hashes(stated: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Encoder key -> sha256 hex, for the values that are one."""
    hashes = {key: _read_sha256(value) for key, value in stated}
    return MappingProxyType({key: value for key, value in hashes.items() if value})


_read_hashes_once = lru_cache(maxsize=256)(_read_hashes)


def _read_sha256(value: object) -> str | None:
    """The sha256 hex in a value, without `0x`; None if it is none."""
    if not isinstance(value, str):
        return None
    return _read_sha256_once(value) if len(value) <= _LONGEST_KEPT else _find_sha256(value)


def _find_sha256(text: str) -> str | None:
    match = _HEX.fullmatch(text.strip().lower())
    return match[1] if match else None


_read_sha256_once = lru_cache(maxsize=256)(_find_sha256)


def _read_file_names(value: str | None) -> tuple[str, ...]:
    """The file names in a JSON list."""
    content = _parse_json(value)
    names: Iterable[object] = content if isinstance(content, list) else ()
    return tuple(name for name in (_read_file_name(name) for name in names) if name)


def _read_file_name(value: object) -> str | None:
    """A file name without folders. Some tools store whole paths, which are private and useless on other computers."""
    return _read_text(value.replace("\\", "/").rpartition("/")[2]) if isinstance(value, str) else None


def _read_method(value: str | None) -> str | None:
    """The name of the method in a JSON object; None if it is none that EmbedMerge writes."""
    content = _parse_json(value)
    method = content.get("method") if isinstance(content, dict) else None
    return method if isinstance(method, str) and method in keys.METHODS else None


def _read_text(value: str | None) -> str | None:
    """The text without spaces around it; None if it is empty."""
    return (value or "").strip() or None


def _parse_json(value: str | None) -> object:
    """The JSON value in a text; None if it is not valid JSON."""
    try:
        content: object = json.loads(value) if value else None
    except (ValueError, RecursionError):
        return None
    return content
