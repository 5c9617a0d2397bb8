"""Axes for the web UI's script X/Y/Z plot: an embedding of the library, and whether recipes follow the model.

The script is a module of the web UI without a name in `modules`, so it is found among the scripts that are loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from lib_embedmerge.hosts.webui.settings import FOLLOW

_SCRIPT = "xyz_grid.py"
_TITLE = "[EmbedMerge]"
EMBEDDING_AXIS = f"{_TITLE} Embedding"
NONE = "none"
_ON, _OFF = "on", "off"


def add_axes(list_names: Callable[[], Sequence[str]]) -> None:
    """Add the axes. Does nothing if the web UI has no such script.

    list_names: returns the names of the embeddings of the library.
    """
    script = _find_script()
    if script is None:
        return

    def list_choices() -> list[str]:
        return [NONE, *list_names()]

    def check_names(_: Any, names: Sequence[str]) -> None:
        """RuntimeError, which the script shows, for a name that is no embedding."""
        if unknown := [name for name in names if name not in list_choices()]:
            raise RuntimeError(f"There is no embedding {unknown[0]!r}. Write {NONE!r} for a picture without one.")

    remove_axes()
    script.axis_options += [
        script.AxisOption(EMBEDDING_AXIS, str, use_embedding, confirm=check_names, choices=list_choices),
        script.AxisOption(
            f"{_TITLE} Recipes follow the model", str, _follow, confirm=_check_switch, choices=lambda: [_ON, _OFF]
        ),
    ]


def remove_axes() -> None:
    """Remove the axes, if they are there."""
    script = _find_script()
    if script is not None:
        script.axis_options[:] = [axis for axis in script.axis_options if not axis.label.startswith(_TITLE)]


def find_axis_labels() -> list[str]:
    """The labels of all axes of the script; empty if the web UI has no such script."""
    script = _find_script()
    return [axis.label for axis in script.axis_options] if script is not None else []


def use_embedding(p: Any, name: str, names: Sequence[str]) -> None:
    """Put an embedding into the prompts of a cell, in place of any other one of the axis, or remove that for `none`.

    If none of the axis' embeddings is in the prompts, it is added at the end of the prompt.
    p: the StableDiffusionProcessing.  names: the values of the axis.
    """
    from lib_embedmerge.core.prompt_frames import PromptFrame  # not when a web UI starts

    others = [other for other in names if other != NONE]
    if others:
        frame = PromptFrame(p.prompt, p.negative_prompt)
        p.prompt, p.negative_prompt = frame.put(None if name == NONE else name, others)


def _follow(p: Any, switch: str, _: Sequence[str]) -> None:
    p.override_settings[FOLLOW] = switch == _ON


def _check_switch(_: Any, switches: Sequence[str]) -> None:
    """RuntimeError, which the script shows, for a value that is not a switch."""
    if wrong := [switch for switch in switches if switch not in (_ON, _OFF)]:
        raise RuntimeError(f"{wrong[0]!r} is neither {_ON!r} nor {_OFF!r}.")


def _find_script() -> Any:
    """The module of the script, or None."""
    loaded = getattr(sys.modules.get("modules.scripts"), "scripts_data", None) or ()
    modules = (data.module for data in loaded if PurePath(data.path).name == _SCRIPT)
    return next(
        (module for module in modules if hasattr(module, "axis_options") and hasattr(module, "AxisOption")), None
    )
