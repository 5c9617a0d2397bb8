"""The prompts in which vectors are improved, and those in which the result is measured."""

from __future__ import annotations

from lib_embedmerge.core.effect_texts import BARE, Template

USED = (
    BARE,
    Template("a photo of"),
    Template("", ", best quality"),
    Template("masterpiece, best quality,", ", highly detailed"),
    Template("a painting of", "in the background"),
    Template("", ", low quality, bad, ugly"),
)
"""The prompts in which vectors are improved."""

HELD_OUT = (
    Template("a picture of"),
    Template("portrait,", ", cinematic lighting"),
    Template("worst quality, blurry,"),
    Template("", "standing, front view, beautiful"),
)
"""The prompts in which the result is measured."""

CROWDED_USED = (
    Template("", "in a forest, blue sky"),
    Template("a photo of", "standing next to a red car"),
    Template("a painting of", ", snow, mountains, best quality"),
)
"""Prompts with other subjects, which an embedding may drown: those in which it is repaired."""

CROWDED_HELD_OUT = (
    Template("a picture of", "with a dog and flowers"),
    Template("portrait,", ", night, city lights, rain"),
    Template("", "holding a book, wooden table"),
)
"""The same for measuring the result."""
