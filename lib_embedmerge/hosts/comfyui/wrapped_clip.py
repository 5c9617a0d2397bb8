"""A clone of a CLIP whose tokenizer reads expressions, and whose own clones read them with their own tables.

Nodes such as LoraLoader and CLIPMergeSimple clone a CLIP and patch the clone. A clone gets a reader of its own, so that
expressions are made of the rows of the very CLIP that encodes.
"""

from __future__ import annotations

from typing import Any

from lib_embedmerge.hosts.comfyui.prompt_reading import PromptReader, ReadingChoices, Surroundings
from lib_embedmerge.hosts.comfyui.wrapped_tokenizer import find_reader, wrap_tokenizer

_classes: dict[object, Any] = {}
"""Class of CLIPs -> its subclass that reads expressions."""


def wrap_clip(clip: Any, choices: ReadingChoices, around: Surroundings) -> Any:
    """A clone of a CLIP that reads expressions. The CLIP itself is not changed.

    HostError if the CLIP has no text encoder that embeddings can be made for.
    """
    clone = clip.clone()
    _attach(clone, PromptReader(clone.patcher, choices, around))
    return clone


def find_clip_reader(clip: Any) -> PromptReader | None:
    """The reader of a CLIP that was made by `wrap_clip` or is a clone of one; None for any other."""
    reader = find_reader(clip.tokenizer)
    return reader if isinstance(reader, PromptReader) else None


def _attach(clip: Any, reader: PromptReader) -> None:
    """Give a CLIP, which nothing else uses yet, a tokenizer with this reader."""
    clip.tokenizer = wrap_tokenizer(clip.tokenizer, reader)
    if not getattr(clip, "_embedmerge_clones", False):
        clip.__class__ = _find_class(type(clip))


def _find_class(base: object) -> Any:
    """The one subclass of a class for CLIPs that read expressions."""
    if base not in _classes:
        _classes[base] = _make_class(base)
    return _classes[base]


def _make_class(base: Any) -> Any:
    """A subclass of ComfyUI's class CLIP whose clones read expressions too."""

    class ReadingClip(base):  # type: ignore[misc] # known only when ComfyUI runs
        """A CLIP that reads expressions."""

        _embedmerge_clones = True

        def clone(self, *args: Any, **kwargs: Any) -> Any:
            """As ComfyUI's, with a reader of its own for the clone."""
            clone = super().clone(*args, **kwargs)
            reader = find_clip_reader(self)
            if reader is not None:
                _attach(clone, reader.for_clone(clone.patcher))
            return clone

    return ReadingClip
