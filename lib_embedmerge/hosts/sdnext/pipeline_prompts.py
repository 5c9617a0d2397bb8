"""Replace inline expressions while SD.Next encodes prompts. Imported at the first prompt that has one.

There are two steps. Before a prompt is taken apart, `name_expressions` replaces its expressions by names of temporary
embeddings. A name is a hash of its vectors, so SD.Next's cache of encoded prompts stays correct and is used. When a
piece of the prompt is encoded, words of the vocabulary replace the names, and the vectors replace the rows of these
words (`lend`, `lend_to_pipeline`).
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lib_embedmerge.core.inline import MAX_KEPT, InlineEmbedding, make_inline_embedding
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.hosts.exact_computing import compute_exactly
from lib_embedmerge.hosts.sdnext.lent_tokens import Lending, lend_tokens
from lib_embedmerge.hosts.sdnext.pipeline_database import find_database, forget_prompts_of_pipelines
from lib_embedmerge.hosts.sdnext.pipeline_encoders import find_encoders
from lib_embedmerge.hosts.sdnext.sdnext_host import SdNextHost
from lib_embedmerge.hosts.webui.loaded_model_prompts import LoadedModelPrompts, PromptMistakes, stops_on_mistakes
from lib_embedmerge.hosts.webui.settings import handles_inline, recipes_follow_model
from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.stand_ins import STAND_IN
from lib_embedmerge.version import __version__

_log = logging.getLogger(__name__)

PARAMETER = "EmbedMerge"
"""Key in the infotext of pictures whose prompts have expressions; the value is EmbedMerge's version."""

SECOND_PROMPTS = {"refiner_prompt": False, "refiner_negative": True}
"""Attributes of a StableDiffusionProcessing with prompts for a second pass -> whether they are negative."""

_TEXT_ARGUMENTS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2")
"""Arguments of a pipeline that it encodes by itself."""


class PipelineReplacer:
    """Replaces expressions in SD.Next's prompts, for the loaded model of a host.

    A mistake in an expression raises EmbedMerge, which stops the generation, unless the user has chosen in the settings
    that the text is used as it stands.
    """

    def __init__(self, host: SdNextHost) -> None:
        self._host = host
        self._prompts = LoadedModelPrompts(host)
        self._known: OrderedDict[str, InlineEmbedding] = OrderedDict()  # name -> embedding, of the latest prompts

    def name_expressions(self, p: Any, prompts: Any, *, negative: bool) -> Any:
        """The prompts, in a list, with names of temporary embeddings in place of expressions.

        Also in place of the names of embeddings whose recipes follow the model.
        p: the StableDiffusionProcessing.  prompts: a list of texts, a text, or anything else, which is returned.
        EmbedMerge for a mistake.
        """
        if isinstance(prompts, str):
            return self.name_expressions(p, [prompts], negative=negative)[0]
        if not isinstance(prompts, list) or not all(isinstance(text, str) for text in prompts):
            return prompts
        texts = list(prompts)
        if handles_inline() and any(map(may_have_expressions, texts)):
            p.extra_generation_params[PARAMETER] = __version__
            texts = self._replace(texts, _Mistakes(p, negative=negative))
        return [self._name_followed(text) for text in texts] if recipes_follow_model() else texts

    def check_second_prompts(self, p: Any) -> None:
        """Raise EmbedMerge for mistakes in the prompts of a second pass, which starts when half of the work is done."""
        for name, negative in SECOND_PROMPTS.items():
            text = getattr(p, name, None)
            if isinstance(text, str) and may_have_expressions(text) and handles_inline() and stops_on_mistakes():
                self._replace([text], _Mistakes(p, negative=negative))

    @contextmanager
    def lend(self, texts: Sequence[str]) -> Iterator[Lending]:
        """In this block, words of the vocabulary have the vectors of the temporary embeddings that these texts name."""
        names = dict.fromkeys(name for text in texts for name in STAND_IN.findall(text))
        embeddings = {name: self._known[name] for name in names if name in self._known}
        if not embeddings:
            yield Lending()
            return
        encoders = find_encoders(self._host.find_pipeline())
        with lend_tokens(embeddings, texts, encoders) as lending:
            yield lending

    @contextmanager
    def lend_to_pipeline(self, arguments: dict[str, Any]) -> Iterator[None]:
        """In this block, the texts in a pipeline's arguments, which are changed, have words in place of names.

        They are there if SD.Next does not encode them itself.
        """
        given = {name: arguments[name] for name in _TEXT_ARGUMENTS if _list_texts(arguments.get(name))}
        texts = [text for value in given.values() for text in _list_texts(value)]
        if not any(map(STAND_IN.search, texts)):
            yield
            return
        with self.lend(texts) as lending:
            for name, value in given.items():
                filled = [lending.fill(text) for text in _list_texts(value)]
                arguments[name] = filled if isinstance(value, list) else filled[0]
            forget_prompts_of_pipelines()  # which knows only the words, not their vectors
            try:
                yield
            finally:
                forget_prompts_of_pipelines()

    def _replace(self, prompts: Sequence[str], mistakes: _Mistakes) -> list[str]:
        """The prompts with names in place of expressions. If no usable model is loaded, they are unchanged."""
        texts, temporaries = self._prompts.replace(prompts, mistakes)
        self._remember(temporaries)
        return texts

    def _remember(self, embeddings: Iterable[InlineEmbedding]) -> None:
        """Keep embeddings for as long as prompts with their names may be encoded."""
        for embedding in embeddings:
            self._known[embedding.name] = embedding
            self._known.move_to_end(embedding.name)
        while len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)

    def _name_followed(self, text: str) -> str:
        """The text with names of temporary embeddings in place of those of embeddings that follow the model."""
        database = find_database(self._host.find_pipeline())
        try:
            with compute_exactly():
                followed = self._prompts.find_following_names().find_followed(text)
        except EmbedMergeError:  # no model is loaded that can run recipes
            return text
        by_name = {
            embedding.name: make_inline_embedding(dict(embedding.vectors))
            for embedding in followed
            if database is not None and embedding.name in database.word_embeddings
        }
        if not by_name:
            return text
        self._remember(by_name.values())
        parts = re.split(f"({STAND_IN.pattern})", text)
        # SD.Next finds names with their capitals, also inside words; the longest one first.
        names = re.compile("|".join(map(re.escape, sorted(by_name, key=len, reverse=True))))
        return "".join(
            part if place % 2 else names.sub(lambda match: f" {by_name[match[0]].name} ", part)
            for place, part in enumerate(parts)
        )


class _Mistakes(PromptMistakes):
    """Reports mistakes in the prompts of a generation. SD.Next shows no comments, so what is not raised is logged."""

    def _say(self, sentence: str) -> None:
        _log.warning("%s", sentence)


def _list_texts(value: Any) -> list[str]:
    """The texts in an argument of a pipeline, which is a text or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
