"""Find the checkpoint that is selected in a web UI, its other text encoder files, and whether it is in memory.

The web UI's modules are read by the attributes that they have, never by a name or version. Nothing here loads a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.selection import SelectedCheckpoint


def find_selected_checkpoint(sd_models: Any, shared: Any) -> SelectedCheckpoint:
    """The checkpoint with which the web UI will encode its next prompt. HostError if it has no checkpoint at all.

    That is the selected one. Hires fix and the refiner leave another model in memory, but the next generation replaces
    it before it encodes anything.
    sd_models, shared: the web UI's modules of these names.
    """
    model = getattr(sd_models.model_data, "sd_model", None)
    loaded = getattr(model, "sd_checkpoint_info", None)  # Forge's placeholder before the first load has none
    selected = _find_selected(sd_models, shared)
    parameters = getattr(sd_models.model_data, "forge_loading_parameters", None)
    # Forge loads a model when it generates, if its parameters differ from those of the last load.
    is_current = parameters is None or sd_models.model_data.forge_hash == str(parameters)
    is_same = loaded is not None and loaded.filename == selected.filename
    return SelectedCheckpoint(
        title=selected.name_for_extra,
        file=Path(selected.filename),
        sha256=selected.sha256,
        modules=tuple(_find_modules(parameters, shared, selected)),
        model=model if is_same and is_current else None,
        other=_make_distinct_title(loaded, selected) if loaded is not None and not is_same else None,
    )


def _make_distinct_title(other: Any, selected: Any) -> str:
    """The title of another checkpoint, with its folder if the selected one has the same name in another folder."""
    title: str = other.name_for_extra
    return title if title != selected.name_for_extra else other.title


def _find_selected(sd_models: Any, shared: Any) -> Any:
    """The web UI's object for the selected checkpoint, or for the first one. HostError if there is none.

    The web UIs' own `select_checkpoint` is not used, because it prints a line whenever it falls back to the first one.
    """
    parameters = getattr(sd_models.model_data, "forge_loading_parameters", None)
    if parameters and parameters.get("checkpoint_info") is not None:
        return parameters["checkpoint_info"]
    chosen = sd_models.checkpoint_aliases.get(getattr(shared.opts, "sd_model_checkpoint", None))
    chosen = chosen or next(iter(sd_models.checkpoints_list.values()), None)
    if chosen is None:
        raise HostError("No checkpoint was found.", hint="Put one into the models folder and refresh the list.")
    return chosen


def _find_modules(parameters: Any, shared: Any, selected: Any) -> Iterator[Path]:
    """Files used with the checkpoint: Forge's additional modules, and in reForge the checkpoint of the text encoder."""
    yield from map(Path, (parameters or {}).get("additional_modules") or ())
    label = getattr(shared.opts, "sd_text_encoder", None)
    if label not in {None, "Automatic", "None"}:
        from modules import sd_text_encoder

        for option in sd_text_encoder.text_encoder_options:
            file = getattr(getattr(option, "te_info", None), "filename", None)
            if option.label == label and file and file != selected.filename:
                yield Path(file)
