"""Handle expressions in prompts that other extensions parse and encode without calling `get_conds_with_caching`.

Such extensions call the web UI's `prompt_parser`, a model or a text encoder. All these calls go through a few
functions, which are wrapped here. Functions that take prompts apart get words in place of expressions, and return
expressions. Functions that turn texts into tokens get names of temporary embeddings. This module is imported when a web
UI starts, so it imports nothing heavy.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lib_embedmerge.hosts.patching import Patches
from lib_embedmerge.hosts.prompt_words import StandInWords
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.lang.openings import may_have_expressions

if TYPE_CHECKING:
    from lib_embedmerge.hosts.webui.generation import PromptReplacer

_ENCODERS = (
    ("modules.sd_hijack_clip", "TextConditionalModel", "forward"),
    ("modules.sd_hijack_clip", "FrozenCLIPEmbedderWithCustomWordsBase", "forward"),
    ("backend.text_processing.classic_engine", "ClassicTextProcessingEngine", "__call__"),
)
"""(module, class, encoding method) of the CLIP text encoders: AUTOMATIC1111's and reForge's, their base class, and
Forge's."""

_TOKENIZE = "tokenize_line"
"""The method by which all of them turn one text into tokens, also to count them."""


class EncodingHooks:
    """Wraps the web UI's functions that parse and encode prompts, and replaces the expressions in their arguments."""

    def __init__(self, words: StandInWords, get_replacer: Callable[[], PromptReplacer]) -> None:
        """words: those that prompt_readers.py puts into prompts.  get_replacer: called at the first expression."""
        self._words = words
        self._get_replacer = get_replacer
        self._thread = threading.local()

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Replace nothing in this block, in which the web UI encodes prompts of its own that have no expressions.

        Prompt editing can turn such a prompt into a text that looks like the beginning of one: `{['::2]`.
        """
        before = getattr(self._thread, "is_bypassed", False)
        self._thread.is_bypassed = True
        try:
            yield
        finally:
            self._thread.is_bypassed = before

    def install(self, patches: Patches) -> None:
        """Wrap the functions. To be called when the web UI's modules are loaded."""
        parser = sys.modules.get("modules.prompt_parser")
        wrapped: list[tuple[Any, str, Callable[..., Any]]] = [
            # The parser's other functions call these, so extensions that imported the others earlier are covered too.
            (parser, "get_learned_conditioning_prompt_schedules", self._parse_schedules),
            (parser, "get_multicond_prompt_list", self._split_prompts),
            *((owner, encode, self._encode) for owner, encode in _find_encoders()),
            *((owner, _TOKENIZE, self._tokenize) for owner, _ in _find_encoders()),
        ]
        for owner, name, around in wrapped:
            if owner is not None and name in vars(owner):  # an inherited function is wrapped in its own class
                patches.wrap(owner, name, around)

    def _parse_schedules(self, original: Callable[..., Any], prompts: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        """Parse prompt editing and alternation, `[a:b:0.5]`: for each prompt a list of [last step, text]."""
        if not self._handles_expressions(prompts):
            return original(prompts, *args, **kwargs)
        words = StandInWords()  # not self._words, so that words that the prompts already have stay
        schedules = original(_copy_like(prompts, map(words.cover, prompts)), *args, **kwargs)
        return [[[end, words.uncover(text)] for end, text in schedule] for schedule in schedules]

    def _split_prompts(self, original: Callable[..., Any], prompts: Sequence[str]) -> Any:
        """Split prompts at AND: (indices with weights for each prompt, texts, text -> index)."""
        if not self._handles_expressions(prompts):
            return original(prompts)
        words = StandInWords()
        indices, texts, index_by_text = original(_copy_like(prompts, map(words.cover, prompts)))
        texts[:] = words.uncover_all(texts)
        return indices, texts, {words.uncover(text): index for text, index in index_by_text.items()}

    def _encode(self, original: Callable[..., Any], encoder: Any, texts: Any, *args: Any, **kwargs: Any) -> Any:
        """Encode texts, with names of temporary embeddings in place of their expressions."""
        if not self._needs_replacing(texts):
            return original(encoder, texts, *args, **kwargs)
        uncovered = _copy_like(texts, self._words.uncover_all(texts))
        with self._get_replacer().replace_expressions(uncovered) as replaced:
            return original(encoder, replaced, *args, **kwargs)

    def _tokenize(self, original: Callable[..., Any], encoder: Any, line: str, *args: Any, **kwargs: Any) -> Any:
        """Turn one text into tokens, mostly to count them. An expression with a mistake stays as typed."""
        if not self._needs_replacing([line]):
            return original(encoder, line, *args, **kwargs)
        uncovered = self._words.uncover(line)
        with self._get_replacer().replace_expressions([uncovered], stop_on_mistake=False) as replaced:
            return original(encoder, replaced[0], *args, **kwargs)

    def _needs_replacing(self, texts: Any) -> bool:
        """Whether something in these texts may have to be replaced.

        That is an expression or a word for one; or, if recipes follow the model, the name of any embedding.
        """
        if getattr(self._thread, "is_bypassed", False) or not _are_texts(texts):
            return False
        return (
            recipes_follow_model()
            or self._handles_expressions(texts)
            or (handles_inline() and any(map(self._words.are_used_in, texts)))
        )

    @staticmethod
    def _handles_expressions(texts: Any) -> bool:
        """Whether the texts may have expressions and EmbedMerge handles them."""
        return _are_texts(texts) and any(map(may_have_expressions, texts)) and handles_inline()


def _find_encoders() -> Iterator[tuple[Any, str]]:
    """(class, encoding method) of the text encoders that this web UI has."""
    for module, name, encode in _ENCODERS:
        owner = getattr(sys.modules.get(module), name, None)
        if owner is not None:
            yield owner, encode


def _are_texts(texts: Any) -> bool:
    return isinstance(texts, (list, tuple)) and all(isinstance(text, str) for text in texts)


def _copy_like(prompts: Any, texts: Any) -> Any:
    """The texts in a copy of the list `prompts`: its class also holds image sizes and whether prompts are negative."""
    if not isinstance(prompts, list):
        return list(texts)
    copied = copy.copy(prompts)
    copied[:] = texts
    return copied
