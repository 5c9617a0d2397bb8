"""EmbedMerge's settings in a web UI: their keys, defaults and words, and how they are read."""

from __future__ import annotations

from typing import Any

from lib_embedmerge.hosts import webui_rival

INLINE, MISTAKES, PRECISION = "embedmerge_inline", "embedmerge_mistakes", "embedmerge_precision"

STOP, LITERAL = "Stop, and say what is wrong", "Use the text as it stands, with a warning"
FLOAT32, FLOAT16 = "float32", "float16"

DEFAULTS = {INLINE: True, MISTAKES: STOP, PRECISION: FLOAT32}


def read(key: str) -> Any:
    """A setting's value; its default where the web UI, run without a page, has not asked for our settings."""
    from modules import shared

    return getattr(shared.opts, key, DEFAULTS[key])


def saves_half() -> bool:
    """Whether the tab's choice of float16 is on at first."""
    return bool(read(PRECISION) == FLOAT16)


def add_settings(radio: type) -> None:
    """Add the section "EmbedMerge". radio: gradio's."""
    from modules import shared

    section = ("embedmerge", "EmbedMerge")
    rival = webui_rival.TITLE if webui_rival.is_installed() else ""
    other = f" While this is off, {rival} handles them, which is installed too." if rival else ""
    choices = {
        MISTAKES: ("A mistake in an inline expression", (STOP, LITERAL)),
        PRECISION: ("Precision of saved embeddings, where nothing else is chosen; after Reload UI", (FLOAT32, FLOAT16)),
    }
    inline = shared.OptionInfo(DEFAULTS[INLINE], "Inline expressions in prompts, <'cat'+'dog'>", section=section)
    shared.opts.add_option(INLINE, inline.info(f"the Help page of the tab has all forms.{other}"))
    for key, (label, values) in choices.items():
        info = shared.OptionInfo(DEFAULTS[key], label, radio, {"choices": values}, section=section)
        shared.opts.add_option(key, info)
