"""The vectors of each text encoder: what they are in words, a plot of their lengths, and as details their figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import escape_unprintable
from lib_embedmerge.tokenizer.vocabulary import make_readable
from lib_embedmerge.ui.html import figure, hue, join, more, number_cells, plain, table, text, view
from lib_embedmerge.ui.views.composition import draw_composition
from lib_embedmerge.ui.views.lengths import SENTENCES, judge_length
from lib_embedmerge.ui.views.lengths_plot import draw_lengths_plot
from lib_embedmerge.ui.views.parts_view import draw_token_ids
from lib_embedmerge.ui.views.strips import draw_strip

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import EncoderFigures, PartFigures, VectorFigures

MAX_ROWS = 300

PART_COLUMNS = ("#", "text", "tokens", "vectors", "min", "max", "sum", "abs", "len", "std")
VECTOR_COLUMNS = ("#", "token, nearest tokens", "len", "values")
MAX_NEAREST = 5

LEGEND = (
    "Each vector has {:,} numbers. For each part: its tokens, the smallest and the largest number, the sum, the sum "
    "of sizes (abs), the length (len) and the standard deviation (std). For each vector: its token, the nearest tokens "
    "with their cosines (1 is the same direction), its length, and its numbers as a strip."
)

# `%` instead of `format`, which is slower: these are filled for every part and vector.
_PART_ROW = Markup('<tr class="%s"><th scope="row">%s</th><td>%s</td><td>%s</td><td>%s</td>%s</tr>')
_VECTOR_ROW = Markup('<tr class="%s"><th scope="row">%s</th><td>%s</td><td title="%s">%s%s</td><td>%s</td></tr>')
_NEAREST = Markup('<span class="embedmerge-near"><bdi>%s</bdi> %s</span>')
_NEAREST_PIECE = Markup('<span class="embedmerge-near"><bdi>%s</bdi>… %s</span>')
_TOKEN = Markup("<strong><bdi>%s</bdi></strong>")
_TOKEN_PIECE = Markup("<strong><bdi>%s</bdi>…</strong>")

_WORD_END = "</w>"
"""How the vocabulary marks a token that ends a word. The view shows an ellipsis after a token that does not."""


def vectors_view(encoders: Sequence[EncoderFigures], source: str | None = None) -> Markup:
    """A section for each text encoder, side by side, with the tables of its details below.

    source: the expression of the vectors, if a button may change it.
    """
    sections = join(_draw_encoder(encoder, source) for encoder in encoders)
    return view("vectors", [Markup('<div class="embedmerge-sides">{}</div>').format(sections)] if encoders else [])


def _draw_encoder(encoder: EncoderFigures, source: str | None) -> Markup:
    title = plain(encoder.title, 40)
    parts = table("parts", f"{title}: parts", PART_COLUMNS, map(_draw_part_row, range(MAX_ROWS), encoder.parts))
    rows = (_draw_vector_row(vector, encoder) for vector in encoder.vectors[:MAX_ROWS])
    vectors = table("each", f"{title}: vectors", VECTOR_COLUMNS, rows)
    return Markup(
        '<section class="embedmerge-encoder" aria-label="{0}"><div class="embedmerge-overview">'
        '<h4 class="embedmerge-heading">{0}</h4>{1}{2}</div><details class="embedmerge-figures"><summary>{0}: details'
        '</summary><p class="embedmerge-quiet">{3}</p>{4}{5}{6}{7}</details></section>'
    ).format(
        title,
        draw_composition(encoder, source),
        draw_lengths_plot(encoder),
        LEGEND.format(encoder.width),
        parts,
        more(len(encoder.parts) - MAX_ROWS, "part"),
        vectors,
        more(max(0, encoder.hidden) + max(0, len(encoder.vectors) - MAX_ROWS), "vector"),
    )


def _draw_part_row(index: int, entry: PartFigures) -> Markup:
    """A row for one part, with the columns of the extension Embedding Merge. `#` holds the numbers of its vectors."""
    part, figures = entry.part, entry.figures
    last = part.first + len(part.ids)
    numbers = f"{part.first + 1:,}" if len(part.ids) == 1 else f"{part.first + 1:,}–{last:,}" if part.ids else "–"
    values = (figures.min, figures.max, figures.sum, figures.abs, figures.len, figures.std)
    return _PART_ROW % (
        hue(index),
        numbers,
        text(part.text, 80),
        draw_token_ids(part),
        f"{len(part.ids):,}",
        number_cells(values),
    )


def _draw_vector_row(vector: VectorFigures, encoder: EncoderFigures) -> Markup:
    verdict = judge_length(vector, encoder)
    badge = Markup("")
    if verdict:
        badge = Markup('<span class="embedmerge-badge" title="%s">%s</span> ') % (SENTENCES[verdict], verdict)
    return _VECTOR_ROW % (
        hue(vector.part),
        vector.number,
        join(_draw_tokens(vector), " "),
        repr(vector.figures.len),
        badge,
        figure(vector.figures.len),
        draw_strip(vector.strip, f"Values of vector {vector.number}"),
    )


def _draw_tokens(vector: VectorFigures) -> Iterator[Markup]:
    """The token that has this vector, if any, then the nearest other tokens with their cosines."""
    if vector.token is not None:
        yield (_TOKEN if vector.token.endswith(_WORD_END) else _TOKEN_PIECE) % _shorten_token(vector.token)
    others = [token for token in vector.nearest if token.token != vector.token]
    for token in others[:MAX_NEAREST]:
        template = _NEAREST if token.token.endswith(_WORD_END) else _NEAREST_PIECE
        yield template % (_shorten_token(token.token), f"{token.cosine:.2f}".replace("-", "−"))
    if vector.token is None and not others:
        yield Markup('<span class="embedmerge-quiet">none</span>')


def _shorten_token(token: str) -> str:
    return escape_unprintable(make_readable(token)[:40])
