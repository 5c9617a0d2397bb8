"""ComfyUI's folders of embeddings, read from its files without starting it.

ComfyUI has models/embeddings, and the folders that extra_model_paths.yaml adds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib_embedmerge.errors import HostError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault

_OWN, _EXTRA = "folder_paths.py", "extra_model_paths.yaml"
_SUFFIXES = (".yaml", ".yml")
_KIND = "embeddings"


def find_listed_folders(place: Path) -> list[Path] | None:
    """The folders of embeddings that ComfyUI uses, first the one in which it saves; None if `place` is not ComfyUI's.

    place: the folder of ComfyUI, or its extra_model_paths.yaml under any name.
    HostError if the file cannot be read or names no folder of embeddings.
    """
    is_file = place.suffix.lower() in _SUFFIXES and not place.is_dir()
    home = place.parent if is_file else place
    extra = place if is_file else place / _EXTRA
    is_home = (home / _OWN).is_file() and (home / "models").is_dir()
    if not is_file and not is_home:
        return None
    folders = [home / "models" / _KIND] if is_home else []
    if is_file or extra.is_file():
        for folder, is_first in _read_folders(extra):
            if is_first:
                folders.insert(0, folder)
            else:
                folders.append(folder)
    if not folders:
        raise HostError(
            f"{quote(place.name)} names no folder of embeddings.", hint="Add a line with “embeddings:” and the folder."
        )
    return list(dict.fromkeys(folders))


def _read_folders(file: Path) -> Iterator[tuple[Path, bool]]:
    """(folder of embeddings, whether it is to come first) for each in the file."""
    for section in _read_sections(file).values():
        if not isinstance(section, dict) or not isinstance(section.get(_KIND), str):
            continue
        base = _expand(str(section["base_path"])) if section.get("base_path") else ""
        for line in section[_KIND].splitlines():
            if line.strip():
                folder = file.absolute().parent / base / line.strip()
                yield Path(os.path.normpath(folder)), bool(section.get("is_default"))


def _expand(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111 -- as ComfyUI does


def _read_sections(file: Path) -> dict[str, Any]:
    """The sections of the file. HostError if it cannot be read."""
    try:
        import yaml
    except ModuleNotFoundError as error:
        message = "The Python package PyYAML is missing. EmbedMerge needs it to read ComfyUI's folders."
        raise HostError(message, hint="Install it: pip install pyyaml") from error
    try:
        sections = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise HostError(f"{quote(file)} cannot be read: {describe_disk_fault(error)}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        hint = "Correct it as ComfyUI's extra_model_paths.yaml.example shows."
        raise HostError(f"{quote(file)} is not a valid YAML file.", hint=hint) from error
    return sections if isinstance(sections, dict) else {}
