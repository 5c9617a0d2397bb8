"""What files of other tools beside an embedding say of it: the model it is for, trigger words, a weight, its source.

These files are read and never changed. They come from anywhere, so each value is taken only if it has the right type,
and texts are cut. docs/embedding-files.md lists the files and the fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from lib_embedmerge.core.answers import SidecarAnswer
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.opening import check_regular, open_regular

_MAX_SIZE = 4 * 1024 * 1024
"""Bytes of the largest file that is read. Those of Civitai hold the prompts of many pictures."""
_MAX_WORDS = 20
_MAX_SHORT = 200
_MAX_NOTES = 1000
_MAX_ADDRESS = 500
_MAX_WEIGHT = 10.0

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class SidecarFacts:
    """What the files say; None or empty if they do not.

    base_model: the model, or the kind of model, that the embedding was made for: `Pony`, `SDXL 1.0`.
    trigger_words: words that are used with it.  weight: the preferred one in prompts.
    notes: for people, of the user or the maker.  address: of the page that it comes from; http or https.
    files: the names of the files that say something, the one that counts first in front.
    """

    base_model: str | None = None
    trigger_words: tuple[str, ...] = ()
    weight: float | None = None
    notes: str | None = None
    address: str | None = None
    files: tuple[str, ...] = ()

    def as_json(self) -> SidecarAnswer:
        """All fields as plain values."""
        return {
            "base_model": self.base_model,
            "trigger_words": list(self.trigger_words),
            "weight": self.weight,
            "notes": self.notes,
            "address": self.address,
            "files": list(self.files),
        }


_NOTHING = SidecarFacts()
_Fields = Mapping[str, object]


def list_sidecars(path: Path) -> list[Path]:
    """The files of other tools that an embedding's file can have, whether they exist or not."""
    return [path.with_name(path.stem + ending) for ending in _READERS]


def read_sidecars(path: Path) -> SidecarFacts | None:
    """What the files beside an embedding's file say; None if there are none, or they say nothing. Never raises."""
    return join_facts(read_sidecar(sidecar) for sidecar in list_sidecars(path))


def join_facts(found: Iterable[SidecarFacts | None]) -> SidecarFacts | None:
    """The facts of several files in one. Of two that say something different, the first counts."""
    joined = _NOTHING
    for facts in found:
        if facts:
            joined = SidecarFacts(
                joined.base_model or facts.base_model,
                joined.trigger_words or facts.trigger_words,
                facts.weight if joined.weight is None else joined.weight,
                joined.notes or facts.notes,
                joined.address or facts.address,
                joined.files + facts.files,
            )
    return joined if joined.files else None


def read_sidecar(path: Path) -> SidecarFacts | None:
    """What one file says; None if it says nothing, or is missing, too large or damaged."""
    reader = next((reader for ending, reader in _READERS.items() if path.name.endswith(ending)), None)
    content = _read_json(path) if reader else None
    if reader is None or not isinstance(content, dict):
        return None
    facts = reader(content)
    return replace(facts, files=(path.name,)) if facts != _NOTHING else None


def _read_json(path: Path) -> object:
    try:
        if check_regular(path) > _MAX_SIZE:
            return None
        with open_regular(path) as file:
            return json.loads(file.read(_MAX_SIZE).decode("utf-8-sig"))
    except (StorageError, OSError, ValueError, RecursionError, MemoryError):
        return None


def _read_civitai(content: _Fields) -> SidecarFacts:
    """An answer of Civitai about a version of a model, as Civitai Helper saves it."""
    return SidecarFacts(
        _text(content.get("baseModel")),
        _words(content.get("trainedWords")),
        notes=_text(content.get("description"), _MAX_NOTES, markup=True),
        address=_make_civitai_address(content.get("modelId"), content.get("id")),
    )


def _read_stability_matrix(content: _Fields) -> SidecarFacts:
    """`cm-info.json` of Stability Matrix."""
    return SidecarFacts(
        _text(content.get("BaseModel")),
        _words(content.get("TrainedWords")),
        address=_address(content.get("SourceUrl"))
        or _make_civitai_address(content.get("ModelId"), content.get("VersionId")),
    )


def _read_lora_manager(content: _Fields) -> SidecarFacts:
    """`metadata.json` of ComfyUI's LoRA Manager, with an answer of Civitai inside."""
    inner = content.get("civitai")
    civitai = _read_civitai(inner) if isinstance(inner, dict) else _NOTHING
    return SidecarFacts(
        _text(content.get("base_model")) or civitai.base_model,
        civitai.trigger_words,
        notes=_text(content.get("notes"), _MAX_NOTES) or civitai.notes,
        address=civitai.address,
    )


def _read_user_metadata(content: _Fields) -> SidecarFacts:
    """`name.json`: what a user wrote on the card of AUTOMATIC1111 or Forge, or in SD.Next an answer of Civitai."""
    versions = content.get("modelVersions")
    if isinstance(versions, list):
        first = next((version for version in versions if isinstance(version, dict)), {})
        return _read_civitai({"modelId": content.get("id"), **first})
    kind = _text(content.get("sd version"))
    return SidecarFacts(
        None if kind == "Unknown" else kind,
        _words(_split_words(content.get("activation text"))),
        _weight(content.get("preferred weight")),
        _text(content.get("notes"), _MAX_NOTES) or _text(content.get("description"), _MAX_NOTES),
    )


_READERS: Mapping[str, Callable[[_Fields], SidecarFacts]] = {
    ".civitai.info": _read_civitai,
    ".cm-info.json": _read_stability_matrix,
    ".metadata.json": _read_lora_manager,
    ".json": _read_user_metadata,
}
"""Ending in place of that of the embedding -> what reads the file. The first counts most."""

ENDINGS = tuple(_READERS)


def _text(value: object, limit: int = _MAX_SHORT, *, markup: bool = False) -> str | None:
    """A text on one line, cut to `limit` characters; None if there is none. markup: whether to leave out HTML tags."""
    if not isinstance(value, str):
        return None
    plain = re.sub(r"<[^<>]{0,1000}>", " ", value[: limit * 10]) if markup else value[: limit * 10]
    return _SPACE.sub(" ", plain).strip()[:limit] or None


def _words(value: object) -> tuple[str, ...]:
    words = [_text(word) for word in value[:_MAX_WORDS]] if isinstance(value, list) else []
    return tuple(dict.fromkeys(word for word in words if word))


def _split_words(value: object) -> list[object]:
    return list(value[: _MAX_SHORT * _MAX_WORDS].split(",")) if isinstance(value, str) else []


def _weight(value: object) -> float | None:
    """A weight; None for 0 too, which means that none was set."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MAX_WEIGHT:
        return None
    return float(value) if value and math.isfinite(value) else None


def _address(value: object) -> str | None:
    """An address of a page; None if the value is something else, or hides where it leads."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or len(value) > _MAX_ADDRESS:
        return None
    try:
        parts = urlsplit(value)
        is_plain = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return None
    return value if is_plain and " " not in value else None


def _make_civitai_address(model: object, version: object) -> str | None:
    if type(model) is not int or not 0 < model < 1 << 53:
        return None
    of_version = f"?modelVersionId={version}" if type(version) is int and 0 < version < 1 << 53 else ""
    return f"https://civitai.com/models/{model}{of_version}"
