"""Read prompts of ComfyUI: expressions and names become words of the form that ComfyUI looks up, with their vectors.

ComfyUI's own tokenizer then reads weights, nesting and chunks, as for any embedding in a file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lib_embedmerge.core.architecture import find_architecture
from lib_embedmerge.core.inline import ExpressionReplacer
from lib_embedmerge.core.ports import ModelFacts, NamedEmbedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, HostError, StorageError
from lib_embedmerge.hosts.comfyui.clip_tables import ClipEncoder, find_patched_state, make_encoders, to_tensors
from lib_embedmerge.hosts.comfyui.name_calls import NameCall
from lib_embedmerge.hosts.comfyui.text_marking import mark_text
from lib_embedmerge.hosts.comfyui.text_uses import ReadingChoices, Surroundings, find_calls, find_uses
from lib_embedmerge.hosts.exact_computing import compute_exactly
from lib_embedmerge.hosts.foreign_embedding_log import ForeignEmbeddingLog
from lib_embedmerge.hosts.host_model import HostModel
from lib_embedmerge.hosts.live_fingerprints import LiveFingerprints
from lib_embedmerge.hosts.mistake_sentences import describe_position, make_sentence
from lib_embedmerge.lang.nodes import BrokenInline, Inline, PromptText
from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.source import Source, read_prompt
from lib_embedmerge.recipes.following import FollowingNames

_log = logging.getLogger(__name__)

Vectors = Mapping[str, torch.Tensor]
"""Encoder key -> float32 [n, width] on the CPU."""


class EmbedMergeStop(Exception):  # noqa: N818 -- ComfyUI shows the name to people
    """Stops a queue: a text has a mistake, or the CLIP cannot be used. Its text is for people."""


@dataclass(frozen=True, eq=False)
class ReadText:
    """A text for ComfyUI's tokenizers.

    text: with words of the form `embedding:WORD` in place of expressions and names.
    vectors: WORD -> its vectors.
    """

    text: str
    vectors: Mapping[str, Vectors] = field(default_factory=dict)


class PromptReader:
    """Reads prompts with the token tables of one CLIP."""

    def __init__(self, patcher: Any, choices: ReadingChoices, around: Surroundings) -> None:
        """patcher: the ModelPatcher of the CLIP. The CLIP itself is not kept, because it keeps this reader.

        HostError if the CLIP has no text encoder that embeddings can be made for.
        """
        self.choices = choices
        self.around = around
        self._patcher = patcher
        self._replacer = ExpressionReplacer()
        self._foreign_embeddings = ForeignEmbeddingLog()
        self._lock = threading.Lock()
        self._following: tuple[object, FollowingNames] | None = None
        self._last: tuple[object, tuple[str, object], ReadText] | None = None
        self._state = find_patched_state(patcher)
        self._encoders = self._make_encoders()

    def for_clone(self, patcher: Any) -> PromptReader:
        """A reader with the same choices for a clone of the CLIP, whose patches may become others."""
        return PromptReader(patcher, self.choices, self.around)

    def read(self, text: str) -> ReadText:
        """A text for the tokenizers of the CLIP encoders.

        EmbedMergeStop for a mistake, if mistakes stop the queue.
        """
        if not text.strip():
            return ReadText(text)
        with self._lock, compute_exactly():
            try:
                return self._read(text)
            except EmbedMergeError as error:
                return self._handle(error, text)

    def write_words(self, text: str) -> str:
        """A text for other tokenizers, such as T5's: the words of expressions in place of them."""
        return write_words(text)

    def _read(self, text: str) -> ReadText:
        model = self._find_model()
        key = text, find_uses(text, self.around, self.choices)
        if self._last is not None and self._last[0] is self._encoders and self._last[1] == key:
            return self._last[2]  # each text encoder reads every text
        self.around.note(*key)
        vectors: dict[str, Vectors] = {}
        if may_have_expressions(text):
            texts, temporaries = self._replacer.replace([text], model, partial(self._report, text))
            used = (embedding for temporary in temporaries.values() for embedding in temporary.uses)
            self._foreign_embeddings.log(used, model)
            vectors = {name: to_tensors(temporary.vectors) for name, temporary in temporaries.items()}
            text = texts[0]
        marked, embeddings = mark_text(text, vectors.keys(), self._find_calls, partial(self._load, model))
        vectors |= {word: to_tensors(embedding.vectors) for word, embedding in embeddings.items()}
        result = ReadText(marked, vectors)
        self._last = (self._encoders, key, result)
        return result

    def _find_calls(self, text: str) -> list[NameCall]:
        return find_calls(text, self.around, self.choices)

    def _load(self, model: HostModel, call: NameCall) -> NamedEmbedding | None:
        """The embedding of a call; None if the call is to stay as typed, for ComfyUI or as plain words."""
        is_native = call.file is not None
        name = call.name if call.file is None else _find_name(self.around.library(), call.file)
        if name is None or (is_native and not self.choices.follow):
            return None
        try:
            embedding = model.embeddings.load(name)
        except StorageError:
            return None
        if is_native and not embedding.follows_recipe:
            return None
        keys = {encoder.key for encoder in self._encoders}
        return embedding if keys <= set(embedding.vectors) else None

    def _find_model(self) -> HostModel:
        """The model of the CLIP. Its `encoders` are the same objects until the patches of the CLIP change."""
        state = find_patched_state(self._patcher)
        if state != self._state:
            self._state, self._encoders = state, self._make_encoders()
        model = make_clip_model(self._encoders, self.around)
        return self._follow(model) if self.choices.follow else model

    def _follow(self, model: HostModel) -> HostModel:
        """The model, with the vectors that recipes give on it. The same names for the same text encoders."""
        if self._following is None or self._following[0] is not self._encoders:
            self._following = self._encoders, FollowingNames(model)
        return HostModel(model.facts, model.encoders, self._following[1], model.measure)

    def _make_encoders(self) -> tuple[ClipEncoder, ...]:
        encoders = make_encoders(self._patcher)
        if not encoders:
            raise HostError(
                "This CLIP has no text encoder that EmbedMerge can use.",
                expected="CLIP-L, CLIP-G or CLIP-H",
                hint="Connect the CLIP of an SDXL, Stable Diffusion 1 or 2, SD3, Flux or HiDream model.",
            )
        return encoders

    def _report(self, text: str, error: ExpressionError, part: Inline | BrokenInline) -> None:
        """Report a mistake in an expression: raise it, or log it."""
        position = describe_position(error.start or 0, "text", text[part.start : part.end])
        sentence = make_sentence(error, position)
        if self.choices.stops:
            raise EmbedMergeStop(sentence) from None
        _log.warning("EmbedMerge: %s The text is used as it stands.", sentence)

    def _handle(self, error: EmbedMergeError, text: str) -> ReadText:
        """Report a fault that is not of one expression."""
        sentence = error.advice
        if self.choices.stops and may_have_expressions(text):
            raise EmbedMergeStop(sentence) from error
        _log.warning("EmbedMerge: %s The text is used as it stands.", sentence)
        return ReadText(text)


def make_clip_model(encoders: tuple[ClipEncoder, ...], around: Surroundings) -> HostModel:
    """The model of these text encoders, for expressions in prompts. HostError for a combination that is not known."""
    architecture = find_architecture({encoder.key for encoder in encoders})
    if architecture is None:
        raise HostError("EmbedMerge does not know a model with these text encoders.")
    fingerprints = LiveFingerprints({encoder.key: encoder.table for encoder in encoders}, None)
    facts = ModelFacts(around.title, around.title, architecture)
    return HostModel(facts, encoders, around.library(), fingerprints.measure, lambda: fingerprints.is_measured)


def write_words(text: str) -> str:
    """A prompt with the words of its expressions in place of them."""
    if not may_have_expressions(text):
        return text
    written = ""
    for part in read_prompt(text):
        match part:
            case PromptText():
                written += part.text
            case Inline():
                written += f" {' '.join(Source('prompt', '', (part,)).texts())} "
            case BrokenInline():
                written += text[part.start : part.end]
    return written


def _find_name(library: EmbeddingFolder, file: Path) -> str | None:
    """The name by which texts call a file; None if they do not find it."""
    name = file.stem
    return name if name in library.names() and library.path(name) == file else None
