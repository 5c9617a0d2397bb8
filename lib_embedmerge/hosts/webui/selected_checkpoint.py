"""Which checkpoint a web UI has selected and which it has in memory, and what replaces its text encoders.

Asked of the web UI's own modules by what they have, never by a name or version; nothing here loads a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_embedmerge.errors import HostError


@dataclass(frozen=True)
class SelectedCheckpoint:
    """The checkpoint that the next generation will use.

    title: the web UI's name for it.  file: the checkpoint.  sha256: of the whole file, where the web UI knows it.
    modules: files that may hold text encoders in place of its own.
    model: the web UI's model object, where that checkpoint with these files is in memory; else None.
    other: title of another checkpoint that is in memory, else None.
    """

    title: str
    file: Path
    sha256: str | None
    modules: tuple[Path, ...]
    model: Any  # whatever class the web UI has
    other: str | None


def find_selected_checkpoint(sd_models: Any, shared: Any) -> SelectedCheckpoint:
    """What the web UI will encode its next prompt with. HostError where it has no checkpoint at all.

    That is what is selected. Hires fix and the refiner leave another model in memory, which the next generation does
    away with before it encodes anything.
    sd_models, shared: the web UI's modules of these names.
    """
    model = getattr(sd_models.model_data, "sd_model", None)
    loaded = getattr(model, "sd_checkpoint_info", None)  # Forge's stand-in before the first load has none
    selected = _selected(sd_models, shared)
    parameters = getattr(sd_models.model_data, "forge_loading_parameters", None)
    # Forge loads when it generates, and only where its parameters are not those of the last load.
    is_current = parameters is None or sd_models.model_data.forge_hash == str(parameters)
    is_same = loaded is not None and loaded.filename == selected.filename
    return SelectedCheckpoint(
        title=selected.name_for_extra,
        file=Path(selected.filename),
        sha256=selected.sha256,
        modules=tuple(_modules(parameters, shared, selected)),
        model=model if is_same and is_current else None,
        other=_title_beside(selected, loaded) if loaded is not None and not is_same else None,
    )


def _title_beside(selected: Any, other: Any) -> str:
    """What the other one is called where both are named: two folders can hold files of one name."""
    title: str = other.name_for_extra
    return title if title != selected.name_for_extra else other.title


def _selected(sd_models: Any, shared: Any) -> Any:
    """As the web UIs' own `select_checkpoint`, which prints a line each time it falls back to the first one."""
    parameters = getattr(sd_models.model_data, "forge_loading_parameters", None)
    if parameters and parameters.get("checkpoint_info") is not None:
        return parameters["checkpoint_info"]
    chosen = sd_models.checkpoint_aliases.get(getattr(shared.opts, "sd_model_checkpoint", None))
    chosen = chosen or next(iter(sd_models.checkpoints_list.values()), None)
    if chosen is None:
        raise HostError("No checkpoint was found.", hint="Put one into the models folder and refresh the list.")
    return chosen


def _modules(parameters: Any, shared: Any, selected: Any) -> Iterator[Path]:
    """Files beside the checkpoint: Forge's additional modules, and reForge's text encoder of another checkpoint."""
    yield from map(Path, (parameters or {}).get("additional_modules") or ())
    label = getattr(shared.opts, "sd_text_encoder", None)
    if label not in {None, "Automatic", "None"}:
        from modules import sd_text_encoder

        for option in sd_text_encoder.text_encoder_options:
            file = getattr(getattr(option, "te_info", None), "filename", None)
            if option.label == label and file and file != selected.filename:
                yield Path(file)
