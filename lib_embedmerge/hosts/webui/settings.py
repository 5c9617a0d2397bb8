"""EmbedMerge's settings in a web UI: their keys, defaults and labels, and the functions that read them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from lib_embedmerge.hosts.webui import embedding_merge

INLINE, MISTAKES, FOLLOW, PRECISION = (
    "embedmerge_inline", "embedmerge_mistakes", "embedmerge_follow", "embedmerge_precision",
)  # fmt: skip

STOP, LITERAL = "Stop, and say what is wrong", "Use the text as it stands, with a warning"
FLOAT32, FLOAT16 = "float32", "float16"

DEFAULTS = {INLINE: True, MISTAKES: STOP, FOLLOW: False, PRECISION: FLOAT32}


def read_setting(key: str) -> Any:
    """The value of a setting, or its default if the web UI runs without a page and so has not called `add_settings`."""
    shared: Any = sys.modules.get("modules.shared")
    if shared is None:  # a prompt asks for eight settings, for each of which an import statement would take longer
        shared = import_module("modules.shared")
    return getattr(shared.opts, key, DEFAULTS[key])


def handles_inline() -> bool:
    """Whether EmbedMerge handles inline expressions in prompts."""
    return bool(read_setting(INLINE))


def recipes_follow_model() -> bool:
    """Whether the recipe of an embedding is used on the model in use, in place of the vectors in its file."""
    return bool(read_setting(FOLLOW))


def saves_float16() -> bool:
    """Whether the tab saves embeddings as float16 unless the user chooses otherwise."""
    return bool(read_setting(PRECISION) == FLOAT16)


def add_settings(radio: type) -> None:
    """Add the section "EmbedMerge" to the web UI's settings. radio: gradio's class Radio."""
    from modules import shared

    section = ("embedmerge", "EmbedMerge")
    other = ""
    if embedding_merge.is_installed():
        title = embedding_merge.TITLE
        other = f" When this is off, the extension {title}, which is also installed, handles them."
    choices = {
        MISTAKES: ("When an inline expression has a mistake", (STOP, LITERAL)),
        PRECISION: ("Usual precision of saved embeddings (applies after Reload UI)", (FLOAT32, FLOAT16)),
    }
    inline = shared.OptionInfo(
        DEFAULTS[INLINE], "Inline expressions in prompts, such as <'cat'+'dog'>", section=section
    )
    shared.opts.add_option(INLINE, inline.info(f"See the page Help of the tab EmbedMerge.{other}"))
    following = shared.OptionInfo(
        DEFAULTS[FOLLOW], "In prompts, use the recipes of embeddings, not their saved vectors", section=section
    )
    about = (
        "When an embedding was made from text, use its text with the current model instead of the saved vectors. "
        "Files are not changed."
    )
    shared.opts.add_option(FOLLOW, following.info(about))
    for key, (label, values) in choices.items():
        info = shared.OptionInfo(DEFAULTS[key], label, radio, {"choices": values}, section=section)
        shared.opts.add_option(key, info)
