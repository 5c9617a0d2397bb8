"""The model tag: what an embedding file's metadata say of its model, its recipe and its maker.

Metadata are texts by key; the keys are in tag_keys.py. Where they and the vectors lie in a file is not known here.
Specification: docs/model-tags.md. The keys of others are those of ModelSpec 1.0.1 and kohya sd-scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lib_embedmerge.core.architecture import ARCHITECTURES, WIDTHS, Architecture
from lib_embedmerge.embeddings import tag_keys as keys

_MAX_NESTING = 16
_HEX = re.compile(r"(?:0x)?([0-9a-f]{64})")


@dataclass(frozen=True)
class UsedEmbedding:
    """An embedding that a recipe names, and its own recipe with what that names.

    hash: sha256 hex of its vectors (embeddings.embedding.hash_vectors), empty where not known. Not of its file, which
    becomes another one with every note and every new name. Tags without `count`, of early versions, may have that of
    the file.
    count: how many vectors it has for each text encoder.
    made_for: the title of the model that its vectors are of, where that is another one than the recipe was run on.
    follows: whether the vectors are those that its recipe gives on that model, rather than those in its file.
    """

    hash: str
    recipe: str | None = None
    uses: Mapping[str, UsedEmbedding] = field(default_factory=lambda: MappingProxyType({}))
    count: int | None = None
    made_for: str | None = None
    follows: bool = False


@dataclass(frozen=True)
class ModelTag:
    """A file's metadata, understood as far as they can be; None or empty where they say nothing or nonsense.

    made_for, file_name, sha256: the checkpoint's title, file name and sha256 hex.  prediction_type: `v` or `epsilon`.
    token_tables, text_encoders: encoder key -> sha256 hex, see core.ports.Fingerprint.
    text_encoder_files: names of files whose encoders stood in for the checkpoint's own.
    variant_of: the embedding that this was made from for another model.
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
    negative: bool | None = None
    date: str | None = None
    variant_of: str | None = None
    tool: str | None = None
    version: str | None = None


def read_tag(metadata: Mapping[str, str]) -> ModelTag | None:
    """What metadata of any tool say, None where they hold no tag at all. Never raises: nonsense reads as nothing."""
    texts = {key: value for key, value in metadata.items() if isinstance(key, str) and isinstance(value, str)}
    tool = _tool(texts)
    if tool is None and not any(key.startswith((keys.PREFIX, "modelspec.", "ss_", "sshs_")) for key in texts):
        return None
    negative = {"true": True, "false": False}.get(texts.get(keys.NEGATIVE, "").strip().lower())
    ours = tool == "EmbedMerge"
    return ModelTag(
        made_for=_text(texts.get(keys.MERGED_FROM)),
        file_name=_file_name(texts.get(keys.MODEL_FILE)),
        sha256=_sha256(texts.get(keys.MODEL_HASH)),
        architecture=_architecture(texts),
        prediction_type=_prediction(texts),
        token_tables=_hashes(texts, keys.TOKEN_TABLE),
        text_encoders=_hashes(texts, keys.TEXT_ENCODER),
        text_encoder_files=_file_names(texts.get(keys.TEXT_ENCODER_FILES)),
        recipe=texts.get(keys.RECIPE) or None,
        uses=_read_uses(_parsed(texts.get(keys.USES)), 0),
        notes=texts.get(keys.NOTES) or None,
        negative=negative,
        date=_text(texts.get(keys.DATE)),
        variant_of=_text(texts.get(keys.VARIANT_OF)),
        tool=tool,
        version=_text(texts.get(keys.PROGRAM_VERSION) if ours else texts.get("modelspec.implementation_version")),
    )


def _read_uses(content: object, depth: int) -> Mapping[str, UsedEmbedding]:
    uses: dict[str, UsedEmbedding] = {}
    for name, entry in content.items() if isinstance(content, dict) and depth < _MAX_NESTING else ():
        if not isinstance(entry, dict):
            continue
        recipe, count, made_for = entry.get("recipe"), entry.get("vectors"), entry.get("made_for")
        is_cut_off = bool(entry.get("uses")) and depth + 1 >= _MAX_NESTING  # its recipe would name what is not known
        uses[name] = UsedEmbedding(
            hash=_sha256(entry.get("hash")) or "",
            recipe=recipe if isinstance(recipe, str) and recipe and not is_cut_off else None,
            uses=_read_uses(entry.get("uses"), depth + 1),
            count=count if type(count) is int and count > 0 else None,
            made_for=_text(made_for) if isinstance(made_for, str) else None,
            follows=entry.get("follows") is True,
        )
    return MappingProxyType(uses)


def _tool(texts: Mapping[str, str]) -> str | None:
    """The program that wrote the metadata, as far as its keys tell. Notes of ours stand in files of others too."""
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


def _architecture(texts: Mapping[str, str]) -> Architecture | None:
    """From ModelSpec's id, else from kohya's; both name variants with a longer text (`stable-diffusion-v2-768-v`)."""
    stated = texts.get(keys.ARCHITECTURE, "").strip().lower().partition("/")[0]
    version = texts.get(keys.BASE_VERSION, "").strip().lower()
    by_id = (a for a in ARCHITECTURES if _begins(stated, a.modelspec))
    by_version = (a for a in ARCHITECTURES if _begins(version, a.base_version))
    return next(by_id, None) or next(by_version, None)


def _begins(text: str, start: str) -> bool:
    return text == start or text.startswith((f"{start}-", f"{start}_"))


def _prediction(texts: Mapping[str, str]) -> str | None:
    stated = texts.get(keys.PREDICTION) or texts.get("modelspec.predict_key", "")  # the latter is ComfyUI's
    return stated if stated in {"v", "epsilon"} else None


def _hashes(texts: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    found = {key: _sha256(texts.get(prefix + key)) for key in WIDTHS}
    return MappingProxyType({key: value for key, value in found.items() if value})


def _sha256(value: object) -> str | None:
    match = _HEX.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    return match[1] if match else None


def _file_names(value: str | None) -> tuple[str, ...]:
    content = _parsed(value)
    names: Iterable[object] = content if isinstance(content, list) else ()
    return tuple(name for name in (_file_name(name) for name in names) if name)


def _file_name(value: object) -> str | None:
    """Without folders: some tools wrote a whole path, which is nobody's business and no use elsewhere."""
    return _text(re.split(r"[/\\]", value)[-1]) if isinstance(value, str) else None


def _text(value: str | None) -> str | None:
    return (value or "").strip() or None


def _parsed(value: str | None) -> object:
    try:
        content: object = json.loads(value) if value else None
    except (ValueError, RecursionError):
        return None
    return content
