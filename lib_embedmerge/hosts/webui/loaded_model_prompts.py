"""Evaluate expressions in prompts on the loaded model, and report mistakes in them: the same for all web UIs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lib_embedmerge.core.inline import ExpressionReplacer, InlineEmbedding
from lib_embedmerge.errors import EmbedMergeError, ExpressionError
from lib_embedmerge.hosts.exact_computing import compute_exactly
from lib_embedmerge.hosts.foreign_embedding_log import ForeignEmbeddingLog
from lib_embedmerge.hosts.host_model import HostModel
from lib_embedmerge.hosts.live_host import LiveHost
from lib_embedmerge.hosts.webui import settings
from lib_embedmerge.hosts.webui.generation_stop import EmbedMerge, make_stop_in_prompt, make_stop_without_place
from lib_embedmerge.hosts.webui.settings import recipes_follow_model
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import read_prompt
from lib_embedmerge.recipes.following import FollowingNames


class Mistakes(Protocol):
    """What is done with mistakes in expressions."""

    def report_expression(self, error: ExpressionError, part: Inline | BrokenInline) -> None:
        """Report a mistake in one expression, as `report` does."""
        ...

    def report(self, mistake: EmbedMerge) -> None:
        """Raise the mistake, or do what is done instead."""
        ...


class LoadedModelPrompts:
    """Evaluates expressions in prompts on the model that is loaded, and finds its embeddings that follow recipes."""

    def __init__(self, host: LiveHost) -> None:
        self._host = host
        self._replacer = ExpressionReplacer()
        self._lock = threading.Lock()  # because pages count tokens while another thread generates
        self._names: tuple[object, FollowingNames] | None = None
        self._foreign_embeddings = ForeignEmbeddingLog()

    def replace(self, prompts: Sequence[str], mistakes: Mistakes) -> tuple[list[str], list[InlineEmbedding]]:
        """The prompts with names in place of expressions, and the temporary embeddings with these names.

        If no usable model is loaded, the prompts are unchanged.
        """
        try:
            with compute_exactly(), self._lock:
                model = self._find_model()
                texts, temporaries = self._replacer.replace(prompts, model, mistakes.report_expression)
                used = (embedding for temporary in temporaries.values() for embedding in temporary.uses)
                self._foreign_embeddings.log(used, model)
        except EmbedMergeError as error:  # no model is loaded that can evaluate expressions
            mistakes.report(make_stop_without_place(error))
            return list(prompts), []
        return texts, list(temporaries.values())

    def find_following_names(self) -> FollowingNames:
        """The names of the library, with vectors that follow the loaded model. HostError if no usable one is loaded."""
        return self._find_following_names(self._host.find_loaded_model())

    def _find_model(self) -> HostModel:
        """The loaded model. If recipes follow the model, so do its embeddings."""
        model = self._host.find_loaded_model()
        return replace(model, embeddings=self._find_following_names(model)) if recipes_follow_model() else model

    def _find_following_names(self, model: HostModel) -> FollowingNames:
        """The names of the model's library, with vectors that follow the model. The same object for the same model."""
        if self._names is None or self._names[0] is not model.encoders:
            self._names = model.encoders, FollowingNames(model)
        return self._names[1]


class PromptMistakes:
    """Reports mistakes in the prompts of a generation. p: its StableDiffusionProcessing.  negative: as the prompts."""

    def __init__(self, p: Any, *, negative: bool) -> None:
        self._p = p
        self._negative = negative

    def report_expression(self, error: ExpressionError, part: Inline | BrokenInline) -> None:
        """Report a mistake in one expression, as `report` does."""
        self.report(make_stop_in_prompt(error, part, self._p, negative=self._negative))

    def report(self, mistake: EmbedMerge) -> None:
        """Raise the mistake, or say that the text was used as it stands."""
        if stops_on_mistakes():
            raise mistake from None
        self._say(f"EmbedMerge: {mistake} The text was used as it stands.")

    def report_broken(self, prompts: Iterable[str]) -> None:
        """Report the expressions that cannot be parsed; no model is needed to find these."""
        for prompt in prompts:
            for part in read_prompt(prompt):
                if isinstance(part, BrokenInline):
                    self.report_expression(part.error, part)

    def _say(self, sentence: str) -> None:
        """Add a comment below the picture."""
        self._p.comment(sentence)


def stops_on_mistakes() -> bool:
    """Whether a mistake stops the generation, by the settings."""
    return bool(settings.read_setting(settings.MISTAKES) != settings.LITERAL)
