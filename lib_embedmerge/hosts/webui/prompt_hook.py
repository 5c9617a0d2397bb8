"""Where EmbedMerge takes hold of a web UI, and lets go of it again. Light: it is in place from the start.

What it leads to is imported at the first prompt that holds an expression.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lib_embedmerge.hosts.webui import console, dynamic_prompts, embedding_merge, prompt_readers
from lib_embedmerge.hosts.webui.encoding_calls import EncodingCalls
from lib_embedmerge.hosts.webui.hires import HIRES
from lib_embedmerge.hosts.webui.patching import Patches
from lib_embedmerge.hosts.webui.prompt_words import StandInWords
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.lang.source import may_have_expressions

if TYPE_CHECKING:
    from lib_embedmerge.hosts.webui.generation import Generation
    from lib_embedmerge.hosts.webui.host import WebuiHost


class PromptHook:
    """Inline expressions in a web UI's prompts, from `install` to `remove`."""

    def __init__(self, host: Callable[[], WebuiHost]) -> None:
        """host: asked at the first expression."""
        self._host = host
        self._patches = Patches()
        self._words = StandInWords()
        self._calls = EncodingCalls(self._words, lambda: self._generation)
        self._followed = False

    def install(self) -> None:
        """Take hold; when all extensions are loaded."""
        from modules import processing

        self.remove()
        self._patches.wrap(processing.StableDiffusionProcessing, "get_conds_with_caching", self._conditionings)
        self._calls.install(self._patches)
        prompt_readers.install(self._patches, self._words, self._check)
        embedding_merge.suspend_embedding_merge(self._patches, handles_inline)
        console.shorten_traces(self._patches)
        if handles_inline():
            dynamic_prompts.warn()

    def remove(self) -> None:
        """Put everything back as it was."""
        self._patches.undo()

    def count(self, params: Any) -> None:
        """Let a token counter count expressions as their vectors. params: the web UI's BeforeTokenCounterParams."""
        if ("'" in params.prompt or params.styles) and handles_inline():
            from lib_embedmerge.hosts.webui.token_counter import count_expressions

            count_expressions(params, self._host())

    def restore(self, parameters: dict[str, Any]) -> None:
        """Let prompts that EM took the expressions out of have them back. parameters: of a pasted infotext."""
        from lib_embedmerge.core.infotext import restore_prompts

        parameters.update(restore_prompts({key: text for key, text in parameters.items() if isinstance(text, str)}))

    @cached_property
    def _generation(self) -> Generation:
        from lib_embedmerge.hosts.webui.generation import Generation

        return Generation(self._host())

    def _conditionings(
        self, original: Callable[..., Any], p: Any, function: Any, required_prompts: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if any(map(self._words.are_in, required_prompts)):  # an extension has kept them
            required_prompts = copy.copy(required_prompts)
            required_prompts[:] = self._words.uncovered_all(required_prompts)
        texts: list[Iterable[str]] = [required_prompts, *(getattr(p, name, None) or () for name in HIRES)]
        self._mistrust_where_following_changed()
        if (
            any(may_have_expressions(text) for some in texts for text in some) and handles_inline()
        ) or recipes_follow_model():
            return self._generation.conditionings(original, p, function, required_prompts, *args, **kwargs)
        with self._calls.passing():
            return original(p, function, required_prompts, *args, **kwargs)

    def _check(self, p: Any) -> None:
        """Stop for a mistake before another extension takes the prompts of a batch apart."""
        texts: list[Iterable[str]] = [getattr(p, name, None) or () for name in ("prompts", "negative_prompts", *HIRES)]
        if any(may_have_expressions(text) for some in texts for text in some) and handles_inline():
            self._generation.check(p)

    def _mistrust_where_following_changed(self) -> None:
        """What the web UI remembers by a prompt's text does not say whether the names in it followed the model."""
        if recipes_follow_model() is not self._followed:
            from lib_embedmerge.hosts.webui.embedding_database import mistrust_conditionings

            self._followed = recipes_follow_model()
            mistrust_conditionings()
