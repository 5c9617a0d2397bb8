"""Connect EmbedMerge to a web UI's prompts, also to those of X/Y/Z plot, and disconnect it again.

Imported when the web UI starts, so it imports nothing heavy; what handles expressions is imported at the first prompt
that has one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lib_embedmerge.hosts.host_parts import guard, leave_out
from lib_embedmerge.hosts.patching import Patches
from lib_embedmerge.hosts.prompt_words import StandInWords
from lib_embedmerge.hosts.webui import HIRES_ATTRIBUTES, console, dynamic_prompts, embedding_merge, prompt_readers
from lib_embedmerge.hosts.webui.encoding_calls import EncodingHooks
from lib_embedmerge.hosts.webui.needs import PROMPTS
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.hosts.webui.xyz_axes import add_axes, remove_axes
from lib_embedmerge.lang.openings import may_have_expressions

if TYPE_CHECKING:
    from lib_embedmerge.hosts.webui.generation import PromptReplacer
    from lib_embedmerge.hosts.webui.host import WebuiHost


class PromptHook:
    """Handles inline expressions in a web UI's prompts between `install` and `remove`."""

    def __init__(self, host: Callable[[], WebuiHost]) -> None:
        """host: returns the host; called at the first expression."""
        self._host = host
        self._patches = Patches()
        self._words = StandInWords()
        self._encoding_hooks = EncodingHooks(self._words, lambda: self._replacer)
        self._recipes_followed = False

    def install(self) -> None:
        """Wrap the web UI's functions. To be called when all extensions are loaded.

        If the web UI lacks one that is needed, or if that fails, it stays as it was.
        """
        self.remove()
        if (sentence := PROMPTS.describe_missing()) is not None:
            leave_out(PROMPTS.task, sentence)
            return
        try:
            self._wrap_functions()
        except Exception:
            self.remove()
            raise
        guard("add axes to X/Y/Z plot", add_axes, None)(lambda: self._host().library().names())

    def _wrap_functions(self) -> None:
        from modules import processing

        self._patches.wrap(processing.StableDiffusionProcessing, "get_conds_with_caching", self._encode_prompts)
        if hasattr(processing, "create_infotext"):
            self._patches.wrap(processing, "create_infotext", _create_infotext)
        self._encoding_hooks.install(self._patches)
        prompt_readers.install(self._patches, self._words, self._check_batch)
        embedding_merge.suspend_embedding_merge(self._patches, handles_inline)
        console.shorten_traces(self._patches)
        if handles_inline():
            dynamic_prompts.warn_if_installed()

    def remove(self) -> None:
        """Restore the web UI's functions."""
        self._patches.undo()
        remove_axes()

    def count_tokens(self, params: Any) -> None:
        """Make expressions count as many tokens as they have vectors. params: the web UI's BeforeTokenCounterParams."""
        if ("'" in params.prompt or params.styles) and handles_inline():
            from lib_embedmerge.hosts.webui.token_counter import count_expressions

            count_expressions(params, self._host())

    def restore_prompts(self, parameters: dict[str, Any]) -> None:
        """Put back the expressions that the extension Embedding Merge has removed from prompts of a pasted infotext.

        parameters: of the infotext, which are changed.
        """
        from lib_embedmerge.core.infotext import restore_prompts

        parameters.update(restore_prompts({key: text for key, text in parameters.items() if isinstance(text, str)}))

    @cached_property
    def _replacer(self) -> PromptReplacer:
        from lib_embedmerge.hosts.webui.generation import PromptReplacer

        return PromptReplacer(self._host())

    def _encode_prompts(
        self, original: Callable[..., Any], p: Any, function: Any, required_prompts: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Stands in for the web UI's `get_conds_with_caching`, which is `original`."""
        if any(map(self._words.are_used_in, required_prompts)):  # an extension has put them there
            required_prompts = copy.copy(required_prompts)
            required_prompts[:] = self._words.uncover_all(required_prompts)
        hires_prompts = [getattr(p, name, None) or () for name in HIRES_ATTRIBUTES]
        self._invalidate_if_setting_changed()
        if _handles_any([required_prompts, *hires_prompts]) or recipes_follow_model():
            return self._replacer.encode_prompts(original, p, function, required_prompts, *args, **kwargs)
        with self._encoding_hooks.bypass():
            return original(p, function, required_prompts, *args, **kwargs)

    def _check_batch(self, p: Any) -> None:
        """Stop the generation if the prompts of a batch have a mistake, before another extension takes them apart."""
        attributes = ("prompts", "negative_prompts", *HIRES_ATTRIBUTES)
        if _handles_any([getattr(p, name, None) or () for name in attributes]):
            self._replacer.check_batch(p)

    def _invalidate_if_setting_changed(self) -> None:
        """Empty the web UI's cache of encoded prompts if the user has switched recipes on or off for prompts.

        The keys of the cache are prompts, which do not tell which vectors the embeddings in them had.
        """
        if recipes_follow_model() is not self._recipes_followed:
            from lib_embedmerge.hosts.webui.embedding_database import invalidate_conditionings

            self._recipes_followed = recipes_follow_model()
            invalidate_conditionings()


def _create_infotext(original: Callable[..., str], *args: Any, **kwargs: Any) -> str:
    """Stands in for the web UI's `create_infotext`, which is `original`."""
    from lib_embedmerge.hosts.webui.infotext_version import add_version

    return add_version(original, *args, **kwargs)


def _handles_any(prompt_lists: Iterable[Iterable[str]]) -> bool:
    """Whether any of these prompts may have expressions and EmbedMerge handles them."""
    return any(may_have_expressions(prompt) for prompts in prompt_lists for prompt in prompts) and handles_inline()
