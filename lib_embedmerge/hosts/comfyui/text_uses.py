"""The user's choices for reading texts, and what a text names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lib_embedmerge.core.texts import TextReader
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.files.stamps import read_stamp
from lib_embedmerge.hosts.comfyui.name_calls import NameCall, NameFinder, Names
from lib_embedmerge.lang.nodes import Inline, PromptText
from lib_embedmerge.lang.source import Source, read_prompt
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass(frozen=True)
class ReadingChoices:
    """The user's choices for reading texts.

    names: which names are found.  follow: whether embeddings with recipes are made again on the model at hand.
    stops: whether a mistake stops the queue; else the expression stays as typed.
    """

    names: Names = Names.BARE
    follow: bool = False
    stops: bool = True


@dataclass(frozen=True)
class Surroundings:
    """What a reader needs besides the CLIP.

    library: returns the embeddings that texts may name.
    find_file: returns the file that ComfyUI finds for the word after `embedding:`, or None.
    title: of the model, for people.  note: called with each text that is read and what it names (`find_uses`).
    """

    library: Callable[[], EmbeddingFolder]
    find_file: Callable[[str], Path | None]
    title: str = "the loaded model"
    note: Callable[[str, object], None] = field(default=lambda _, __: None)


def find_calls(text: str, around: Surroundings, choices: ReadingChoices) -> list[NameCall]:
    """The places in a text without expressions where an embedding is called that exists."""
    finder = NameFinder(around.library(), clip_tokenizer(), choices.names, around.find_file)
    return [call for call in finder.find(text) if isinstance(call, NameCall)]


def find_uses(text: str, around: Surroundings, choices: ReadingChoices) -> tuple[object, ...]:
    """What a text names, with the state of the files: equal only if nothing of that has changed."""
    library = around.library()
    uses: list[object] = [read_stamp(path) for path in library.files()] if choices.follow else []
    reader = TextReader(clip_tokenizer(), library)
    for part in read_prompt(text):
        if isinstance(part, PromptText):
            calls = find_calls(part.text, around, choices)
            uses += ((call.name, _describe_file(call.file or library.path(call.name))) for call in calls)
        elif isinstance(part, Inline):
            names = reader.find_names(Source("prompt", "", (part,)).texts())
            uses += ((name, _describe_file(library.path(name))) for name in names)
    return tuple(uses)


def _describe_file(file: Path) -> object:
    return str(file), read_stamp(file)
