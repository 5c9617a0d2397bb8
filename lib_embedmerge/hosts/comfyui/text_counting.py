"""Read a text without a model: what it names, its mistakes, and how many tokens ComfyUI makes of it.

The tokens are counted by ComfyUI's own tokenizer, with zeros in place of vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from lib_embedmerge.core.architecture import (
    ARCHITECTURES,
    CLIP_G,
    CLIP_H,
    CLIP_L,
    MAX_VECTORS,
    WIDTHS,
    find_encoder_title,
)
from lib_embedmerge.core.evaluate import make_vector_limit_error
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import make_outliner_without_model
from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.errors import ExpressionError, StorageError
from lib_embedmerge.hosts.comfyui.name_calls import LostCall, NameCall, NameFinder
from lib_embedmerge.hosts.comfyui.prompt_reading import ReadText, write_words
from lib_embedmerge.hosts.comfyui.text_marking import mark_text
from lib_embedmerge.hosts.comfyui.text_uses import ReadingChoices, Surroundings, find_calls
from lib_embedmerge.hosts.comfyui.wrapped_tokenizer import wrap_part
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import Source, read_prompt, replace_expressions
from lib_embedmerge.lang.stand_ins import make_stand_in
from lib_embedmerge.tokenizer import clip_tokenizer

_KEYS = {"l": CLIP_L, "g": CLIP_G, "h": CLIP_H}
"""Name of an encoder among the tokens of a CLIP -> its key."""


@dataclass(frozen=True)
class Counted:
    """Tokens of one text encoder. tokens: without start, end and padding.  vectors: those that are of embeddings.

    chunks: groups of 75 that are encoded together.
    """

    tokens: int
    vectors: int
    chunks: int


@dataclass(frozen=True)
class TextReading:
    """How a text is read.

    counted: its tokens for CLIP-L, which are as many for the others.
    embeddings: names that it calls, each once.  lost: words after `embedding:` that no embedding has as its name.
    mistakes: in its expressions, in order; each with its place in the text.
    """

    counted: Counted
    embeddings: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    mistakes: tuple[ExpressionError, ...] = ()


def read_text(text: str, choices: ReadingChoices, around: Surroundings) -> TextReading:
    """How a text is read, as for SDXL. StorageError if the embeddings folder cannot be read."""
    reader = _CountingReader(choices, around)
    tokens = _wrap_counter(reader).tokenize_with_weights(text, return_word_ids=True)
    return TextReading(count_tokens(tokens), tuple(reader.embeddings), tuple(reader.lost), tuple(reader.mistakes))


def find_mistakes(text: str, around: Surroundings) -> list[ExpressionError]:
    """The mistakes in the expressions of a text, on whichever model it is used."""
    outliners = _make_outliners(around)
    mistakes = []
    for part in read_prompt(text):
        if isinstance(part, BrokenInline):
            mistakes.append(part.error)
        elif isinstance(part, Inline):
            _, mistake = _count_vectors(text, part, outliners)
            mistakes += [mistake] if mistake else []
    return mistakes


def count_by_encoder(tokens: Mapping[str, Any]) -> dict[str, Counted]:
    """Name of an encoder for people -> its tokens. tokens: of a CLIP, with `return_word_ids`."""
    by_key = {_KEYS.get(key, key): of_encoder for key, of_encoder in tokens.items()}
    keys = sorted(by_key, key=lambda key: list(WIDTHS).index(key) if key in WIDTHS else len(WIDTHS))
    return {find_encoder_title(key): count_tokens(by_key[key]) for key in keys}


def _make_outliners(around: Surroundings) -> list[Outliner]:
    """Outliners for each architecture, SDXL first."""
    outliner = make_outliner_without_model(clip_tokenizer(), around.library())
    return [replace(outliner, encoders=architecture.encoders) for architecture in ARCHITECTURES]


def _count_vectors(text: str, part: Inline, outliners: Iterable[Outliner]) -> tuple[int, ExpressionError | None]:
    """(number of vectors of an expression, None), or (0, its mistake) if it is one for every architecture."""
    mistakes = []
    for outliner in outliners:
        try:
            count = len(outliner.part(text, part))
        except ExpressionError as error:
            mistakes.append(error)
            continue
        if count <= MAX_VECTORS:
            return count, None
        mistakes.append(make_vector_limit_error(Source("prompt", text, (part,)), count, MAX_VECTORS))
    return 0, mistakes[0]


def count_tokens(tokens: Any) -> Counted:
    """The tokens of one text encoder as a tokenizer gives them with `return_word_ids`: chunks of (token, weight, word).

    A word's number is 0 for start, end and padding.
    """
    of_text = [token for chunk in tokens for token, _, word in chunk if word]
    return Counted(len(of_text), sum(map(torch.is_tensor, of_text)), len(tokens))


class _CountingReader:
    """A wrapped_tokenizer.Reader that gives zeros, and notes what it reads."""

    def __init__(self, choices: ReadingChoices, around: Surroundings) -> None:
        self._choices = choices
        self._around = around
        self._library = around.library()
        self._outliners = _make_outliners(around)
        self.embeddings: dict[str, None] = {}
        self.lost: list[str] = []
        self._lost_words: list[str] = []
        self.mistakes: list[ExpressionError] = []

    def read(self, text: str) -> ReadText:
        """The text with words for expressions and names, and zeros for their vectors."""
        counts: dict[str, int] = {}

        def replacement(part: Inline | BrokenInline) -> str | None:
            if isinstance(part, BrokenInline):
                self.mistakes.append(part.error)
                return None
            count, mistake = _count_vectors(text, part, self._outliners)
            if mistake:
                self.mistakes.append(mistake)
                return None
            self._note_names(part)
            word = make_stand_in(len(counts).to_bytes(8, "big"))
            counts[word] = count
            return word if count else ""

        replaced = replace_expressions(text, read_prompt(text), replacement)
        marked, embeddings = mark_text(replaced, counts.keys(), self._find_calls, self._load)
        for word, embedding in embeddings.items():
            counts[word] = len(next(iter(embedding.vectors.values())))
        # ComfyUI removes names that it does not find, and would write that to its console at each keystroke.
        counts |= dict.fromkeys(self._lost_words, 0)
        return ReadText(marked, {word: {CLIP_L: _make_zeros(count)} for word, count in counts.items()})

    def write_words(self, text: str) -> str:
        """The words of expressions in place of them."""
        return write_words(text)

    def _note_names(self, part: Inline) -> None:
        names = self._outliners[0].texts.find_names(Source("prompt", "", (part,)).texts())
        self.embeddings |= dict.fromkeys(names)

    def _find_calls(self, text: str) -> list[NameCall]:
        finder = NameFinder(self._library, clip_tokenizer(), self._choices.names, self._around.find_file)
        lost = [call for call in finder.find(text) if isinstance(call, LostCall)]
        self.lost += (call.name for call in lost)
        self._lost_words += (call.word for call in lost)
        calls = find_calls(text, self._around, self._choices)
        self.embeddings |= dict.fromkeys(call.name for call in calls if call.file is not None)
        return calls

    def _load(self, call: NameCall) -> NamedEmbedding | None:
        if call.file is not None:
            return None
        try:
            embedding = self._library.load(call.name)
        except StorageError:
            return None
        self.embeddings[embedding.name] = None
        return embedding


def _make_zeros(count: int) -> torch.Tensor:
    return torch.zeros(count, WIDTHS[CLIP_L])


def _wrap_counter(reader: _CountingReader) -> Any:
    return wrap_part(_make_tokenizer(), reader)


@cache
def _make_tokenizer() -> Any:
    """ComfyUI's tokenizer for CLIP-L, which is made once."""
    from comfy.sd1_clip import SDTokenizer

    from lib_embedmerge.hosts.comfyui.comfy_folders import find_embedding_folders

    return SDTokenizer(embedding_directory=[str(folder) for folder in find_embedding_folders()])
