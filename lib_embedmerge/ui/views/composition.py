"""What vectors are, in words: which tokens each one is most like, and how strong it is beside a usual word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import escape_unprintable, format_count
from lib_embedmerge.tokenizer.vocabulary import make_readable
from lib_embedmerge.ui.html import button, button_line, hue, join, plain, text

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import EncoderFigures, VectorFigures
    from lib_embedmerge.core.ports import NearestToken

LEAST_COSINE = 0.2
"""Cosine below which a token is not named. Unrelated rows of CLIP's tables seldom reach it."""

_MOSTLY, _MUCH = 0.75, 0.5
_MAX_DESCRIBED = 3
_MAX_TOKENS = 3
_MAX_TOKEN = 30
_WORD_END = "</w>"

_STRENGTHS = (
    # ratio to the mean length of the model's tokens, up to which the words hold
    (1 / 1.5, "much weaker than a usual word"),
    (1 / 1.15, "a little weaker than a usual word"),
    (1.15, "as strong as a usual word"),
    (1.5, "a little stronger than a usual word"),
    (math.inf, "much stronger than a usual word"),
)


def draw_composition(encoder: EncoderFigures, source: str | None = None) -> Markup:
    """Sentences about the vectors of an encoder, with a bar for the first one that is not a token of the model.

    source: the expression that they were made from. If a vector is much stronger or weaker than usual, a button puts
        `norm()` around it; None if that cannot be done.
    """
    mixed = [vector for vector in encoder.vectors if vector.token is None and _list_tokens(vector)]
    pieces = [Markup("<p>{}</p>").format(sentence) for sentence in describe_composition(encoder)]
    if mixed:
        pieces.insert(1, _draw_bar(_list_tokens(mixed[0])))
    if source is not None and any(vector.length_is_usual is False for vector in encoder.vectors):
        offer = button("Give it the usual strength: norm()", "edit", {"text": f"norm({source.strip()})"})
        pieces.append(button_line(offer))
    return Markup('<div class="embedmerge-composition">{}</div>').format(join(pieces))


def describe_composition(encoder: EncoderFigures) -> list[str]:
    """Sentences that name the tokens that the vectors are most like. Empty without a model to compare them with."""
    if encoder.band is None or not encoder.vectors:
        return []
    mixed = [vector for vector in encoder.vectors if vector.token is None]
    if not mixed:
        return ["Each vector is a token of the model." if len(encoder.vectors) > 1 else _name_token(encoder.vectors[0])]
    is_alone = len(encoder.vectors) == 1
    sentences = [_describe(vector, encoder, is_alone=is_alone) for vector in mixed[:_MAX_DESCRIBED]]
    more = len(mixed) - _MAX_DESCRIBED
    if more > 0:
        sentences.append(f"{format_count(more, 'other vector')} are mixtures too.")
    if not is_alone and len(mixed) < len(encoder.vectors):
        sentences.append("The others are tokens of the model.")
    return sentences


def _name_token(vector: VectorFigures) -> str:
    return f"Exactly the token {_spell(vector.token or '')}."


def _describe(vector: VectorFigures, encoder: EncoderFigures, *, is_alone: bool) -> str:
    tokens = _list_tokens(vector)
    words = ", ".join(f"{_weigh(token.cosine)} {_spell(token.token)} ({token.cosine:.2f})" for token in tokens)
    likeness = words or "like no word of the model"
    strength = _describe_strength(vector, encoder)
    sentence = f"{likeness}; {strength}" if strength else likeness
    return f"{sentence[0].upper()}{sentence[1:]}." if is_alone else f"Vector {vector.number}: {sentence}."


def _describe_strength(vector: VectorFigures, encoder: EncoderFigures) -> str:
    """How long the vector is beside the mean of the model's tokens; empty if that cannot be said."""
    assert encoder.band is not None
    ratio = vector.figures.len / encoder.band.mean if encoder.band.mean > 0 else math.nan
    if not vector.finite or ratio - ratio != 0:
        return ""
    if ratio == 0:
        return "no effect, because it is zero"
    return next(words for most, words in _STRENGTHS if ratio <= most)


def _weigh(cosine: float) -> str:
    return "mostly" if cosine >= _MOSTLY else "much" if cosine >= _MUCH else "some"


def _list_tokens(vector: VectorFigures) -> Sequence[NearestToken]:
    return [token for token in vector.nearest[:_MAX_TOKENS] if LEAST_COSINE <= token.cosine < 1.01]


def _spell(token: str) -> str:
    """A token as people read it, with an ellipsis if it does not end a word."""
    readable = escape_unprintable(make_readable(token)[:_MAX_TOKEN])
    return readable if token.endswith(_WORD_END) else f"{readable}…"


def _draw_bar(tokens: Sequence[NearestToken]) -> Markup:
    """A bar with a piece for each token, as wide as its share of the cosines."""
    total = sum(token.cosine for token in tokens)
    pieces = [
        Markup('<span class="{}" style="width:{}%" title="{}">{}</span>').format(
            hue(place),
            round(100 * token.cosine / total),
            plain(f"{_spell(token.token)} {token.cosine:.2f}", _MAX_TOKEN),
            text(_spell(token.token)),
        )
        for place, token in enumerate(tokens)
    ]
    return Markup('<div class="embedmerge-mix" aria-hidden="true">{}</div>').format(join(pieces))
