"""Inline expressions while a web UI generates: what stands around `StableDiffusionProcessing.get_conds_with_caching`.

Every prompt passes through it (positive, negative, hires, refiner) with the model that encodes it in memory, on
AUTOMATIC1111 v1.10.1, reForge and Forge alike. For that call alone names stand in place of expressions; `p`, and so
the infotext, keeps what was typed. The names say what they stand for, so the web UI's memory of conditionings stays
right, and is used.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from lib_embedmerge.core.inline import ExpressionReplacer, InlineEmbedding
from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.errors import EmbedMergeError, ExpressionError
from lib_embedmerge.hosts.host_model import HostModel
from lib_embedmerge.hosts.webui import settings
from lib_embedmerge.hosts.webui.generation_stop import (
    EmbedMerge,
    stop_in_other_text,
    stop_in_prompt,
    stop_without_place,
)
from lib_embedmerge.hosts.webui.hires import HIRES
from lib_embedmerge.hosts.webui.host import WebuiHost
from lib_embedmerge.hosts.webui.model_mixes import MixedModels
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.hosts.webui.temporary_embeddings import register_temporaries, replace_followed
from lib_embedmerge.lang.nodes import BrokenInline, Inline, PromptText
from lib_embedmerge.lang.source import may_have_expressions, read_prompt
from lib_embedmerge.recipes.following import FollowingNames
from lib_embedmerge.version import __version__

PARAMETER = "EmbedMerge"
"""In the infotext of pictures whose prompts hold expressions; its value is our version."""


_SAME_CHECKPOINT = (None, "", "Use same checkpoint")
"""How hires fix is told to keep the checkpoint."""


class Generation:
    """What happens to prompts with expressions, and what is remembered from one to the next."""

    def __init__(self, host: WebuiHost) -> None:
        self._host = host
        self._substitution = ExpressionReplacer()
        self._lock = threading.Lock()  # pages count tokens while something is generated
        self._names: tuple[object, FollowingNames] | None = None
        self._mixes = MixedModels()
        self._here = threading.local()

    def conditionings(
        self, original: Callable[..., Any], p: Any, function: Any, prompts: Sequence[str], *args: Any, **kwargs: Any
    ) -> Any:
        """What the web UI's own method gives where names stand in place of expressions.

        p: its StableDiffusionProcessing. EmbedMerge for a mistake, unless the settings have its text used as it stands.
        """
        if handles_inline() and _stops():
            self._look_ahead(p)
        temporaries: list[InlineEmbedding] = []
        if handles_inline() and any(map(may_have_expressions, prompts)):
            p.extra_generation_params[PARAMETER] = find_version
            mistakes = _Mistakes(p, negative=getattr(prompts, "is_negative_prompt", False))
            prompts, temporaries = self._replaced(prompts, mistakes)
        caches = kwargs["caches"] if "caches" in kwargs else args[1]
        with self._known(prompts, temporaries, caches):
            return original(p, function, prompts, *args, **kwargs)

    def check(self, p: Any) -> None:
        """Stop now for mistakes in the prompts of a batch: other extensions will take these apart, and encode pieces.

        EmbedMerge for a mistake, unless the settings have its text used as it stands.
        """
        for prompts, negative in ((p.prompts, False), (p.negative_prompts, True)):
            if texts := [prompt for prompt in prompts if may_have_expressions(prompt)]:
                p.extra_generation_params[PARAMETER] = find_version
                self._replaced(texts, _Mistakes(p, negative=negative))
        if _stops():
            self._look_ahead(p)

    @contextmanager
    def standing(self, texts: Sequence[str], *, stops: bool = True) -> Iterator[Sequence[str]]:
        """Texts that another extension has read, with names in place of expressions, until the end of the block.

        stops: whether mistakes, unless the settings say otherwise, are raised as EmbedMerge; else they stay as text.
        """
        if getattr(self._here, "is_encoding", False):  # these have names already
            yield texts
            return
        temporaries: list[InlineEmbedding] = []
        if handles_inline() and any(map(may_have_expressions, texts)):
            texts, temporaries = self._replaced(texts, _MistakesElsewhere(stops=stops))
        with self._known(texts, temporaries, ()):
            yield texts

    @contextmanager
    def _known(
        self, prompts: Sequence[str], temporaries: Sequence[InlineEmbedding], caches: Iterable[Sequence[Any]]
    ) -> Iterator[None]:
        """The web UI finds these temporary embeddings, and those that follow the model, in the prompts."""
        loaded = _loaded_model()
        self._here.is_encoding = True
        try:
            with register_temporaries(loaded, temporaries, caches), replace_followed(loaded, self._followed(prompts)):
                yield
        finally:
            self._here.is_encoding = False

    def _model(self) -> HostModel:
        """The model that encodes; where recipes follow it, with names that do."""
        model = self._host.encoding()
        if not recipes_follow_model():
            return model
        return replace(model, embeddings=self._following_names(model))

    def _following_names(self, model: HostModel) -> FollowingNames:
        """The names of the model's library, each following the model; the same object for as long as it encodes."""
        if self._names is None or self._names[0] is not model.encoders:
            self._names = model.encoders, FollowingNames(model)
        return self._names[1]

    def _followed(self, prompts: Sequence[str]) -> list[NamedEmbedding]:
        """The embeddings that prompts name outside of expressions, as they are on the model that encodes."""
        if not recipes_follow_model():
            return []
        try:
            with _exact():
                names = self._following_names(self._host.encoding())
                found = {one.name: one for prompt in prompts for one in names.find_followed(prompt)}
        except EmbedMergeError:  # no model that recipes have a meaning on
            return []
        return list(found.values())

    def _look_ahead(self, p: Any) -> None:
        """Stop now for mistakes in hires prompts, which else are looked at when half of the work is done."""
        is_same_model = getattr(p, "hr_checkpoint_name", None) in _SAME_CHECKPOINT
        for name in HIRES:
            prompts = [prompt for prompt in getattr(p, name, None) or () if may_have_expressions(prompt)]
            mistakes = _Mistakes(p, negative="negative" in name)
            if prompts and is_same_model:
                self._replaced(prompts, mistakes)
            else:  # what an expression means on another model is not known yet
                mistakes.find_broken(prompts)

    def _replaced(
        self, prompts: Sequence[str], mistakes: _Mistakes | _MistakesElsewhere
    ) -> tuple[Sequence[str], list[InlineEmbedding]]:
        try:
            with _exact(), self._lock:
                model = self._model()
                texts, temporaries = self._substitution.replace(prompts, model, mistakes.found)
                self._mixes.tell(prompts, model)
        except EmbedMergeError as error:  # no model that expressions have a meaning on
            mistakes.tell(stop_without_place(error))
            return prompts, []
        # Of their own class, which says more than the texts: sizes, and whether they are negative.
        replaced: Any = copy.copy(prompts)
        replaced[:] = texts
        return replaced, list(temporaries.values())


class _Mistakes:
    """What becomes of mistakes in the prompts of one call."""

    def __init__(self, p: Any, *, negative: bool) -> None:
        self._p = p
        self._negative = negative

    def found(self, error: ExpressionError, part: Inline | BrokenInline) -> None:
        """Stop the generation, or say below the picture that the text was used as it stands."""
        self.tell(stop_in_prompt(error, part, self._p, negative=self._negative))

    def tell(self, mistake: EmbedMerge) -> None:
        if _stops():
            raise mistake from None
        self._p.comment(f"EmbedMerge: {mistake} The text was used as it stands.")

    def find_broken(self, prompts: Iterable[str]) -> None:
        """The mistakes that no model is needed for."""
        for prompt in prompts:
            for part in read_prompt(prompt):
                if isinstance(part, BrokenInline):
                    self.found(part.error, part)


class _MistakesElsewhere:
    """What becomes of mistakes in texts that another extension has encoded, or counted, which do not stop."""

    def __init__(self, *, stops: bool) -> None:
        self._stops = stops and _stops()

    def found(self, error: ExpressionError, part: Inline | BrokenInline) -> None:
        self.tell(stop_in_other_text(error, part))

    def tell(self, mistake: EmbedMerge) -> None:
        if self._stops:
            raise mistake from None


def find_version(
    p: Any, index: int, all_prompts: Sequence[str], all_negative_prompts: Sequence[str], **_: Any
) -> str | None:
    """Our version where the prompts of a picture hold expressions; web UIs call this with what they have at hand.

    Not set once for all: X/Y/Z plot has all its cells share one set of parameters.
    index: in the prompts given, which are those of one batch mostly.
    """
    prompts = (all_prompts, all_negative_prompts, *(getattr(p, name, None) or () for name in HIRES))
    texts = (some[index] for some in prompts if index < len(some))
    return __version__ if any(map(_has_expressions, texts)) else None


def _has_expressions(text: str) -> bool:
    """To be sure: `{'a'|'b'}` and the names that EM left are none of ours."""
    return may_have_expressions(text) and any(not isinstance(part, PromptText) for part in read_prompt(text))


def _stops() -> bool:
    return bool(settings.read_setting(settings.MISTAKES) != settings.LITERAL)


def _loaded_model() -> Any:
    from modules import sd_models

    return sd_models.model_data.sd_model


@contextmanager
def _exact() -> Iterator[None]:
    """As in the tab: web UIs generate with autocast, which rounds products, and with tensors that stay special."""
    with torch.inference_mode(mode=False), torch.no_grad():
        if torch.is_autocast_enabled():
            with torch.autocast("cuda", enabled=False):  # vectors are computed there or on the CPU
                yield
        else:
            yield
