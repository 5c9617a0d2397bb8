"""Find the checkpoint that is selected in SD.Next, and whether it is in memory. Nothing here loads a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.selection import SelectedCheckpoint

_HASH = re.compile(r"\s*\[.*?\]")
"""The short hash that SD.Next puts after a title as soon as it knows it."""

_SHA256 = re.compile("[0-9a-f]{64}")


def find_chosen_checkpoint() -> SelectedCheckpoint:
    """The checkpoint with which SD.Next will encode its next prompt. HostError if it has no checkpoint at all.

    SD.Next's own `select_checkpoint` is not used, because it writes to the log and may ask Hugging Face for a model.
    """
    loaded = getattr(find_loaded_pipeline(), "sd_checkpoint_info", None)
    chosen = _find_chosen(loaded)
    is_same = loaded is not None and loaded.filename == chosen.filename
    return SelectedCheckpoint(
        title=find_title(chosen),
        file=Path(chosen.filename).absolute(),
        sha256=_find_sha256(chosen),
        modules=tuple(_find_text_encoder_files(chosen)),
        model=find_loaded_pipeline() if is_same else None,
        other=_make_distinct_title(loaded, chosen) if loaded is not None and not is_same else None,
    )


def find_loaded_pipeline() -> Any:
    """SD.Next's model object, or None if no model is loaded. `shared.sd_model` would load one."""
    from modules import modeldata

    return modeldata.model_data.sd_model


def find_loaded_refiner() -> Any:
    """SD.Next's model object of the refiner, or None if none is loaded. `shared.sd_refiner` would load it."""
    from modules import modeldata

    return modeldata.model_data.sd_refiner


def find_title(info: Any) -> str:
    """The name of a checkpoint without its folder. info: SD.Next's CheckpointInfo."""
    title: str = info.model_name
    return title


def list_checkpoints() -> dict[str, Path]:
    """Title -> file or folder of the checkpoints that SD.Next has on disk."""
    from modules import sd_checkpoint

    paths = {info.title: Path(info.filename).absolute() for info in list(sd_checkpoint.checkpoints_list.values())}
    return {title: path for title, path in paths.items() if path.exists()}


def _make_distinct_title(other: Any, chosen: Any) -> str:
    """The title of another checkpoint, with its folder if the chosen one has the same name in another folder."""
    return find_title(other) if find_title(other) != find_title(chosen) else other.title


def _find_chosen(loaded: Any) -> Any:
    """SD.Next's CheckpointInfo of the selected checkpoint; else of the loaded one, else of the first."""
    from modules import sd_checkpoint, shared

    name = getattr(shared.opts, "sd_model_checkpoint", None) or ""
    infos = list(sd_checkpoint.checkpoints_list.values())
    same_title = (info for info in infos if _HASH.sub("", info.title) == _HASH.sub("", name))
    chosen = sd_checkpoint.checkpoint_aliases.get(name) or next(same_title, None) or loaded or next(iter(infos), None)
    if chosen is None:
        raise HostError("No checkpoint was found.", hint="Put one into the models folder and refresh the list.")
    return chosen


def _find_sha256(info: Any) -> str | None:
    """The hash of the file, if SD.Next knows it. That of a folder is the hash of a commit."""
    sha256 = info.sha256
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None


def _find_text_encoder_files(chosen: Any) -> list[Path]:
    """The file that the setting "Text encoder" has in place of one of the checkpoint's own, if there is one."""
    from modules import shared

    label = getattr(shared.opts, "sd_text_encoder", None)
    if label in {None, "", "Default", "None"}:
        return []
    from modules import model_te

    file = model_te.te_dict.get(label)
    return [Path(file).absolute()] if file and file != chosen.filename else []
