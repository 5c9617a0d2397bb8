"""Replace inline expressions while a web UI generates, around `StableDiffusionProcessing.get_conds_with_caching`.

In AUTOMATIC1111 v1.10.1, reForge and Forge every prompt (positive, negative, hires, refiner) goes through that method
while the model that encodes it is in memory. During the call, names of temporary embeddings replace the expressions;
`p`, and so the infotext, keeps the text as typed. A name is a hash of its vectors, so the web UI's cache of encoded
prompts stays correct and is used.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lib_embedmerge.core.inline import InlineEmbedding
from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.errors import EmbedMergeError, ExpressionError
from lib_embedmerge.hosts.exact_computing import compute_exactly
from lib_embedmerge.hosts.webui import HIRES_ATTRIBUTES
from lib_embedmerge.hosts.webui.generation_stop import EmbedMerge, make_stop_in_other_text
from lib_embedmerge.hosts.webui.host import WebuiHost
from lib_embedmerge.hosts.webui.loaded_model_prompts import (
    LoadedModelPrompts,
    Mistakes,
    PromptMistakes,
    stops_on_mistakes,
)
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.hosts.webui.temporary_embeddings import register_temporaries, replace_followed
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.openings import may_have_expressions

_SAME_CHECKPOINT = (None, "", "Use same checkpoint")
"""Values of `hr_checkpoint_name` with which hires fix keeps the checkpoint."""


class PromptReplacer:
    """Replaces expressions in prompts by names of temporary embeddings while the web UI encodes them.

    A mistake in an expression raises EmbedMerge, which stops the generation, unless the user has chosen in the settings
    that the text is used as it stands.
    """

    def __init__(self, host: WebuiHost) -> None:
        self._prompts = LoadedModelPrompts(host)
        self._thread = threading.local()

    def encode_prompts(
        self, original: Callable[..., Any], p: Any, function: Any, prompts: Sequence[str], *args: Any, **kwargs: Any
    ) -> Any:
        """Call the web UI's `get_conds_with_caching` with the expressions in `prompts` replaced, and return its result.

        original: that method.  p: its StableDiffusionProcessing.  function, args, kwargs: its other arguments.
        EmbedMerge for a mistake, also in the hires prompts of `p`.
        """
        is_on = handles_inline()
        if is_on and stops_on_mistakes():
            self._check_hires_prompts(p)
        temporaries: list[InlineEmbedding] = []
        if is_on and any(map(may_have_expressions, prompts)):
            mistakes = PromptMistakes(p, negative=getattr(prompts, "is_negative_prompt", False))
            prompts, temporaries = self._replace(prompts, mistakes)
        caches = kwargs["caches"] if "caches" in kwargs else args[1]
        with self._register(prompts, temporaries, caches):
            return original(p, function, prompts, *args, **kwargs)

    def check_batch(self, p: Any) -> None:
        """Check the prompts of a batch before other extensions take them apart and encode the pieces.

        p: the StableDiffusionProcessing.  EmbedMerge for a mistake.
        """
        for prompts, negative in ((p.prompts, False), (p.negative_prompts, True)):
            if texts := [prompt for prompt in prompts if may_have_expressions(prompt)]:
                self._replace(texts, PromptMistakes(p, negative=negative))
        if stops_on_mistakes():
            self._check_hires_prompts(p)

    @contextmanager
    def replace_expressions(self, texts: Sequence[str], *, stop_on_mistake: bool = True) -> Iterator[Sequence[str]]:
        """In this block, the texts with names of temporary embeddings in place of expressions, which the web UI finds.

        texts: which another extension has the web UI encode or count.
        stop_on_mistake: whether to raise EmbedMerge for a mistake, if the settings allow it; else the expression stays
            as typed.
        """
        if getattr(self._thread, "is_encoding", False):  # their expressions are replaced already
            yield texts
            return
        temporaries: list[InlineEmbedding] = []
        if handles_inline() and any(map(may_have_expressions, texts)):
            texts, temporaries = self._replace(texts, _OtherTextMistakes(stop=stop_on_mistake))
        with self._register(texts, temporaries, ()):
            yield texts

    @contextmanager
    def _register(
        self, prompts: Sequence[str], temporaries: Sequence[InlineEmbedding], caches: Iterable[Sequence[Any]]
    ) -> Iterator[None]:
        """Make the web UI find the temporary embeddings in this block, and the embeddings that follow their recipes.

        prompts: those that are encoded in the block.  caches: the web UI's caches of encoded prompts.
        """
        loaded = _find_loaded_model()
        self._thread.is_encoding = True
        try:
            followed = self._find_followed(prompts)
            with register_temporaries(loaded, temporaries, caches), replace_followed(loaded, followed):
                yield
        finally:
            self._thread.is_encoding = False

    def _find_followed(self, prompts: Sequence[str]) -> list[NamedEmbedding]:
        """The embeddings named in prompts, outside of expressions, whose vectors follow the model."""
        if not recipes_follow_model():
            return []
        try:
            with compute_exactly():
                names = self._prompts.find_following_names()
                followed = {
                    embedding.name: embedding for prompt in prompts for embedding in names.find_followed(prompt)
                }
        except EmbedMergeError:  # no model is loaded that can run recipes
            return []
        return list(followed.values())

    def _check_hires_prompts(self, p: Any) -> None:
        """Raise EmbedMerge for mistakes in the hires prompts, which are encoded only when half of the work is done."""
        is_same_model = getattr(p, "hr_checkpoint_name", None) in _SAME_CHECKPOINT
        for name in HIRES_ATTRIBUTES:
            prompts = [prompt for prompt in getattr(p, name, None) or () if may_have_expressions(prompt)]
            if not prompts:
                continue
            mistakes = PromptMistakes(p, negative="negative" in name)
            if is_same_model:
                self._replace(prompts, mistakes)
            else:  # the model for hires fix is not loaded yet, so expressions cannot be evaluated
                mistakes.report_broken(prompts)

    def _replace(self, prompts: Sequence[str], mistakes: Mistakes) -> tuple[Sequence[str], list[InlineEmbedding]]:
        """The prompts, in a list of the same class, with names in place of expressions, and the embeddings they name.

        If no usable model is loaded, the prompts are unchanged.
        """
        texts, temporaries = self._prompts.replace(prompts, mistakes)
        # The web UI's class of lists also holds image sizes and whether the prompts are negative.
        replaced: Any = copy.copy(prompts)
        replaced[:] = texts
        return replaced, temporaries


class _OtherTextMistakes:
    """Reports mistakes in texts that another extension has the web UI encode or count.

    stop: whether to raise them, if the settings allow it; else they are ignored.
    """

    def __init__(self, *, stop: bool) -> None:
        self._stop = stop and stops_on_mistakes()

    def report_expression(self, error: ExpressionError, part: Inline | BrokenInline) -> None:
        self.report(make_stop_in_other_text(error, part))

    def report(self, mistake: EmbedMerge) -> None:
        if self._stop:
            raise mistake from None


def _find_loaded_model() -> Any:
    """The web UI's model object, or whatever it has in its place if none is loaded."""
    from modules import sd_models

    return sd_models.model_data.sd_model
