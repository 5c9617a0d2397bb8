"""The infotext that sets up X/Y/Z plot when it is pasted into txt2img: embeddings by checkpoints."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence

from lib_embedmerge.hosts.webui.xyz_axes import EMBEDDING_AXIS, NONE, find_axis_labels

_SCRIPT, _CHECKPOINTS = "X/Y/Z plot", "Checkpoint name"
"""What the web UIs call the script, and its axis of checkpoints."""

_FROM_TAB = {
    "steps": "Steps", "sampler": "Sampler", "scheduler": "Schedule type", "guidance": "CFG scale", "seed": "Seed",
}  # fmt: skip
"""Setting of the tab -> its key in an infotext, of which at least three are needed for the web UI to read it as one."""


def write_grid_infotext(tab: Mapping[str, str], embeddings: Sequence[str], checkpoints: Sequence[str]) -> str | None:
    """An infotext with the settings that the tab has and the axes of a grid. None if the script has no such axes.

    tab: the settings of txt2img, by the names of its fields as the page reads them.
    embeddings: names for the X axis, to which a picture without any is added.  checkpoints: titles for the Y axis.
    """
    if not {EMBEDDING_AXIS, _CHECKPOINTS} <= set(find_axis_labels()):
        return None
    parameters = {key: tab[name] for name, key in _FROM_TAB.items() if tab.get(name)}
    if tab.get("width") and tab.get("height"):
        parameters["Size"] = f"{tab['width']}x{tab['height']}"
    parameters |= {"Script": _SCRIPT, "X Type": EMBEDDING_AXIS, "X Values": _join([NONE, *embeddings])}
    parameters |= {"Y Type": _CHECKPOINTS, "Y Values": _join(checkpoints), "Z Type": "Nothing"}
    negative = tab.get("negative_prompt", "")
    prompts = tab.get("prompt", "") + (f"\nNegative prompt: {negative}" if negative else "")
    kept = _list_kept_options(f"{prompts}\n{_format(parameters)}")
    return f"{prompts}\n{_format({**parameters, **kept})}"


def _list_kept_options(infotext: str) -> dict[str, str]:
    """What the infotext must say so that the web UI's options stay as they are.

    The web UI takes an option that an infotext does not name for one with its default, which it then overrides.
    """
    utils = sys.modules.get("modules.infotext_utils")
    options = getattr(sys.modules.get("modules.shared"), "opts", None)
    parse = getattr(utils, "parse_generation_parameters", None)
    find_overrides = getattr(utils, "get_override_settings", None)
    if parse is None or find_overrides is None:
        return {}
    return {key: str(getattr(options, option)) for key, option, _ in find_overrides(parse(infotext))}


def _format(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {_quote(value)}" for key, value in parameters.items())


def _quote(value: str) -> str:
    """A value as the web UIs write it: in the quotes of JSON if it has a comma, a colon or a line break."""
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _join(values: Sequence[str]) -> str:
    """Values as the script separates them: as CSV."""
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(values)
    return written.getvalue()
