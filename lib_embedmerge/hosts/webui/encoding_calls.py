"""Prompts that other extensions have a web UI read and encode by themselves, past `get_conds_with_caching`.

They may call its `prompt_parser`, a model, or a text encoder. All of that comes through a few functions of the web UI,
and these are wrapped here: what takes prompts apart sees words in place of expressions and gives expressions back;
where texts become tokens, names of temporary embeddings take their place. Light: it is in place from the start.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lib_embedmerge.hosts.webui.patching import Patches
from lib_embedmerge.hosts.webui.prompt_words import StandInWords
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.lang.source import may_have_expressions

if TYPE_CHECKING:
    from lib_embedmerge.hosts.webui.generation import Generation

_ENCODERS = (
    ("modules.sd_hijack_clip", "TextConditionalModel", "forward"),
    ("modules.sd_hijack_clip", "FrozenCLIPEmbedderWithCustomWordsBase", "forward"),
    ("backend.text_processing.classic_engine", "ClassicTextProcessingEngine", "__call__"),
)
"""The classes of web UIs' CLIP text encoders, and what encodes: AUTOMATIC1111's and reForge's, its base; Forge's."""

_LINE = "tokenize_line"
"""What all of them cut one text into tokens with, and count it."""


class EncodingCalls:
    """What is wrapped, and what it does."""

    def __init__(self, words: StandInWords, generation: Callable[[], Generation]) -> None:
        """generation: asked at the first expression."""
        self._words = words
        self._generation = generation
        self._here = threading.local()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """In this block the web UI encodes prompts of its own that hold no expression, also where what prompt editing
        leaves of one looks like the beginning of one: `{['::2]`."""
        before = getattr(self._here, "is_passing", False)
        self._here.is_passing = True
        try:
            yield
        finally:
            self._here.is_passing = before

    def install(self, patches: Patches) -> None:
        """Take hold; when the web UI's modules are loaded."""
        parser = sys.modules.get("modules.prompt_parser")
        wrapped: list[tuple[Any, str, Callable[..., Any]]] = [
            # Those that the parser's other functions call, also where an extension holds these from before.
            (parser, "get_learned_conditioning_prompt_schedules", self._schedules),
            (parser, "get_multicond_prompt_list", self._split),
            *((owner, encode, self._encoded) for owner, encode in _encoders()),
            *((owner, _LINE, self._line) for owner, _ in _encoders()),
        ]
        for owner, name, around in wrapped:
            if owner is not None and name in vars(owner):  # inherited ones are wrapped where they are
                patches.wrap(owner, name, around)

    def _schedules(self, original: Callable[..., Any], prompts: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        """Editing and alternation, `[a:b:0.5]`: for each prompt a list of [last step, text]."""
        if not self._hold_expressions(prompts):
            return original(prompts, *args, **kwargs)
        words = StandInWords()  # those that stood there before stay
        found = original(_like(prompts, map(words.covered, prompts)), *args, **kwargs)
        return [[[end, words.uncovered(text)] for end, text in schedule] for schedule in found]

    def _split(self, original: Callable[..., Any], prompts: Sequence[str]) -> Any:
        """AND with weights: (indexes, texts, index by text)."""
        if not self._hold_expressions(prompts):
            return original(prompts)
        words = StandInWords()
        indexes, texts, places = original(_like(prompts, map(words.covered, prompts)))
        texts[:] = words.uncovered_all(texts)
        return indexes, texts, {words.uncovered(text): place for text, place in places.items()}

    def _encoded(self, original: Callable[..., Any], encoder: Any, texts: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._are_ours(texts):
            return original(encoder, texts, *args, **kwargs)
        with self._generation().standing(_like(texts, self._words.uncovered_all(texts))) as named:
            return original(encoder, named, *args, **kwargs)

    def _line(self, original: Callable[..., Any], encoder: Any, line: str, *args: Any, **kwargs: Any) -> Any:
        """Counting, mostly: a mistake is no matter here, and stays as it was typed."""
        if not self._are_ours([line]):
            return original(encoder, line, *args, **kwargs)
        with self._generation().standing([self._words.uncovered(line)], stops=False) as named:
            return original(encoder, named[0], *args, **kwargs)

    def _are_ours(self, texts: Any) -> bool:
        """Whether there are expressions in any of these, or words for them; or recipes follow the model, so that any
        name may stand for other vectors."""
        if getattr(self._here, "is_passing", False) or not _are_texts(texts):
            return False
        return (
            recipes_follow_model()
            or self._hold_expressions(texts)
            or (handles_inline() and any(map(self._words.are_in, texts)))
        )

    @staticmethod
    def _hold_expressions(texts: Any) -> bool:
        return _are_texts(texts) and any(map(may_have_expressions, texts)) and handles_inline()


def _encoders() -> Iterator[tuple[Any, str]]:
    for module, name, encode in _ENCODERS:
        owner = getattr(sys.modules.get(module), name, None)
        if owner is not None:
            yield owner, encode


def _are_texts(texts: Any) -> bool:
    return isinstance(texts, (list, tuple)) and all(isinstance(text, str) for text in texts)


def _like(prompts: Any, texts: Any) -> Any:
    """These texts as a list of the same class, which says more than they do: sizes, and whether they are negative."""
    if not isinstance(prompts, list):
        return list(texts)
    found = copy.copy(prompts)
    found[:] = texts
    return found
