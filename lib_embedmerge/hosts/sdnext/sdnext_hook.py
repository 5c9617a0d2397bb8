"""Connect EmbedMerge to SD.Next's prompts, and disconnect it again.

Imported when SD.Next starts, so it imports nothing heavy; what handles expressions is imported at the first prompt that
has one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lib_embedmerge.hosts.host_parts import leave_out
from lib_embedmerge.hosts.patching import Patches
from lib_embedmerge.hosts.prompt_words import StandInWords
from lib_embedmerge.hosts.sdnext.sdnext_needs import CHOICES, COUNTERS, PROMPTS
from lib_embedmerge.hosts.webui.console import print_sentence
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.stand_ins import PREFIX

if TYPE_CHECKING:
    from lib_embedmerge.hosts.sdnext.pipeline_prompts import PipelineReplacer
    from lib_embedmerge.hosts.sdnext.sdnext_host import SdNextHost

_ENCODERS = ("get_weighted_text_embeddings", "get_xhinker_text_embeddings")
"""Functions of prompt_parser_diffusers that encode a prompt and a negative one: (pipe, prompt, neg_prompt, …)."""

_PROMPT_ARGUMENTS = {7: False, 8: True, 9: False, 10: True}
"""Places of the lists of prompts in the arguments of `set_prompt` -> whether they are negative."""


class SdNextHook:
    """Handles inline expressions in SD.Next's prompts between `install` and `remove`."""

    def __init__(self, host: Callable[[], SdNextHost]) -> None:
        """host: returns the host; called at the first expression."""
        self._host = host
        self._patches = Patches()
        self._thread = threading.local()

    def install(self) -> None:
        """Wrap SD.Next's functions. To be called when all its modules are loaded.

        If SD.Next lacks one that a part of EmbedMerge needs, that part is left out; if something fails, SD.Next stays
        as it was.
        """
        self.remove()
        try:
            wrapped = {PROMPTS: self._wrap_encoding, CHOICES: self._wrap_choices, COUNTERS: self._wrap_counter}
            for part, wrap in wrapped.items():
                if (sentence := part.describe_missing()) is not None:
                    leave_out(part.task, sentence)
                else:
                    wrap()
        except Exception:
            self.remove()
            raise

    def _wrap_encoding(self) -> None:
        from modules import errors, processing, processing_args, processing_diffusers, prompt_parser_diffusers

        self._patches.wrap(processing_args, "set_prompt", self._set_prompt)
        self._patches.wrap(processing_diffusers, "process_diffusers", self._generate)
        wrapped: list[tuple[Any, str, Callable[..., Any]]] = [
            *((prompt_parser_diffusers, name, self._encode) for name in _ENCODERS),
            (processing, "process_images_inner", self._end_state_after_mistake),
            (errors, "display", print_sentence),
        ]
        for owner, name, around in wrapped:
            if hasattr(owner, name):
                self._patches.wrap(owner, name, around)

    def _wrap_choices(self) -> None:
        from modules import styles

        self._patches.wrap(styles, "apply_curly_braces_to_prompt", self._choose)

    def _wrap_counter(self) -> None:
        from modules import ui_common

        self._patches.wrap(ui_common, "update_token_counter", self._count)

    def remove(self) -> None:
        """Restore SD.Next's functions."""
        self._patches.undo()

    def count_tokens(self, params: Any) -> None:
        """Do nothing: SD.Next calls nothing before it counts, so that its counter is wrapped."""

    def restore_prompts(self, parameters: dict[str, Any]) -> None:
        """Put back the expressions that the extension Embedding Merge has removed from prompts of a pasted infotext.

        parameters: of the infotext, which are changed.
        """
        from lib_embedmerge.core.infotext import restore_prompts

        parameters.update(restore_prompts({key: text for key, text in parameters.items() if isinstance(text, str)}))

    @cached_property
    def _replacer(self) -> PipelineReplacer:
        from lib_embedmerge.hosts.sdnext.pipeline_prompts import PipelineReplacer

        return PipelineReplacer(self._host())

    @cached_property
    def _refiner_replacer(self) -> PipelineReplacer:
        from lib_embedmerge.hosts.sdnext.pipeline_prompts import PipelineReplacer
        from lib_embedmerge.hosts.sdnext.sdnext_host import RefinerHost

        return PipelineReplacer(RefinerHost())

    def _generate(self, original: Callable[..., Any], p: Any, *args: Any, **kwargs: Any) -> Any:
        """Stands in for `process_diffusers`, which makes the pictures of one batch, with all passes."""
        if getattr(p, "extra_generation_params", None) is not None:
            p.extra_generation_params.pop("EmbedMerge", None)  # from an earlier batch of this generation
        before = getattr(self._thread, "lent", None)  # the detailer makes pictures within a picture
        with ExitStack() as lent:
            self._thread.lent = lent
            try:
                return original(p, *args, **kwargs)
            finally:
                self._thread.lent = before

    def _set_prompt(self, original: Callable[..., Any], p: Any, arguments: Any, *args: Any, **kwargs: Any) -> Any:
        """Stands in for `set_prompt`, which puts what a pipeline is to draw into its arguments."""
        values = [p, arguments, *args]
        texts = [text for place in _PROMPT_ARGUMENTS for text in _list_texts(values[place])]
        if not recipes_follow_model() and not (handles_inline() and any(map(may_have_expressions, texts))):
            self._check_second_prompts(p)
            return original(*values, **kwargs)
        self._check_second_prompts(p)
        replacer = self._refiner_replacer if getattr(p, "is_refiner_pass", False) else self._replacer
        for place, negative in _PROMPT_ARGUMENTS.items():
            values[place] = replacer.name_expressions(p, values[place], negative=negative)
        attention, filled = original(*values, **kwargs)
        lent = getattr(self._thread, "lent", None)
        if lent is not None:
            lent.close()  # the pass before this one has encoded its prompts
            lent.enter_context(replacer.lend_to_pipeline(filled))
        return attention, filled

    def _check_second_prompts(self, p: Any) -> None:
        if any(may_have_expressions(getattr(p, name, None) or "") for name in ("refiner_prompt", "refiner_negative")):
            self._replacer.check_second_prompts(p)

    def _encode(
        self, original: Callable[..., Any], pipe: Any, prompt: str = "", neg_prompt: str = "", *args: Any, **kwargs: Any
    ) -> Any:
        """Stands in for each of _ENCODERS."""
        texts = [prompt or "", neg_prompt or ""]
        if not any(PREFIX in text for text in texts):
            return original(pipe, prompt, neg_prompt, *args, **kwargs)
        with self._replacer.lend(texts) as lending:
            return original(pipe, *map(lending.fill, texts), *args, **kwargs)

    def _end_state_after_mistake(self, original: Callable[..., Any], p: Any, *args: Any, **kwargs: Any) -> Any:
        """Stands in for `process_images_inner`. After a mistake, SD.Next would go on to show a job that runs."""
        try:
            return original(p, *args, **kwargs)
        except Exception as error:
            if getattr(error, "is_mistake_in_prompt", False):
                from modules import shared

                shared.state.end()
            raise

    def _choose(self, original: Callable[..., Any], prompt: Any, *args: Any, **kwargs: Any) -> Any:
        """Stands in for `apply_curly_braces_to_prompt`, which takes one of the choices in `{red|blue}`."""
        if not isinstance(prompt, str) or not may_have_expressions(prompt) or not handles_inline():
            return original(prompt, *args, **kwargs)
        words = StandInWords()
        covered = words.cover(prompt)
        chosen = original(covered, *args, **kwargs)
        return prompt.strip() if chosen == covered.strip() else words.uncover(chosen)

    def _count(self, original: Callable[..., Any], text: str, *args: Any, **kwargs: Any) -> Any:
        """Stands in for `update_token_counter`: expressions count as many tokens as they have vectors."""
        if isinstance(text, str) and may_have_expressions(text) and handles_inline():
            from lib_embedmerge.core.counting import make_countable
            from lib_embedmerge.hosts.host_outliners import find_active_model, make_host_outliner

            host = self._host()
            text = make_countable(text, make_host_outliner(host, find_active_model(host)))
        return original(text, *args, **kwargs)


def _list_texts(prompts: Any) -> list[str]:
    """The texts in an argument of `set_prompt`: a list of prompts, or one prompt for the refiner."""
    return [text for text in (prompts if isinstance(prompts, list) else [prompts]) if isinstance(text, str)]
