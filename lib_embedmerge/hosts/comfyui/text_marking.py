"""Write `embedding:WORD` in place of each expression and name of a text, so that ComfyUI's tokenizer looks it up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable

from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.hosts.comfyui.name_calls import MARK, NameCall
from lib_embedmerge.lang.stand_ins import DIGEST_SIZE, STAND_IN, make_stand_in


def mark_text(
    text: str,
    stand_ins: Collection[str],
    find_calls: Callable[[str], Iterable[NameCall]],
    load: Callable[[NameCall], NamedEmbedding | None],
) -> tuple[str, dict[str, NamedEmbedding]]:
    """The text for ComfyUI's tokenizer, and word -> embedding for the names in it.

    stand_ins: the words in `text` that have replaced expressions.
    find_calls: returns the calls of embeddings in a text without expressions.
    load: returns the embedding of a call; None if the call is to stay as typed.
    """
    marked, embeddings = "", {}
    for piece in _split_at(text, stand_ins):
        if piece in stand_ins:
            marked = _append_word(marked, piece)
            continue
        position = 0
        for call in find_calls(piece):
            embedding = load(call)
            if embedding is not None:
                word = _make_word(embedding.name)
                embeddings[word] = embedding
                marked = _append_word(marked + piece[position : call.start], word)
                position = call.end
        marked += piece[position:]
    return marked, embeddings


def _split_at(text: str, stand_ins: Collection[str]) -> Iterable[str]:
    """The stand-ins in a text, and the texts before, between and after them."""
    position = 0
    for match in STAND_IN.finditer(text):
        if match[0] in stand_ins:
            yield text[position : match.start()]
            yield match[0]
            position = match.end()
    yield text[position:]


def _append_word(text: str, word: str) -> str:
    """A text with a word that ComfyUI looks up after it.

    Several spaces before it would be a group of no tokens, and shift the numbers of the words after it.
    """
    return f"{text.rstrip(' ')} {MARK}{word} "


def _make_word(name: str) -> str:
    """The word for an embedding of the library. It differs from those of expressions."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE, person=b"named")
    return make_stand_in(digest.digest())
