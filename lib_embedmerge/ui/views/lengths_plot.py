"""A plot of vectors' lengths against the usual lengths of the model's tokens, as SVG. Its colours are in style.css."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import median
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import figure, hue, join, plain
from lib_embedmerge.ui.views.lengths import describe_lengths, judge_length

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import EncoderFigures, VectorFigures
    from lib_embedmerge.core.statistics import LengthBand

MAX_MARKS = 300

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 34
_HEIGHT = 210
_NARROWEST, _WIDEST = 270, 760
_MOST = 4
"""Lengths over this many times the usual length are drawn at the top edge, so that the others stay readable."""


@dataclass(frozen=True)
class _Frame:
    """Positions of vectors and lengths in the plot. count: number of vectors.  top: the length at the upper edge."""

    count: int
    top: float

    @property
    def width(self) -> int:
        return max(_NARROWEST, min(_WIDEST, _LEFT + _RIGHT + 14 * self.count))

    @property
    def step(self) -> float:
        return (self.width - _LEFT - _RIGHT) / max(1, self.count)

    @property
    def radius(self) -> float:
        return max(1.5, min(4.0, 0.4 * self.step))

    def x(self, index: int) -> float:
        """The horizontal position of the vector with this index, from 0, in pixels."""
        return round(_LEFT + (index + 0.5) * self.step, 1)

    def y(self, length: float) -> float:
        """The vertical position of a length, in pixels. Lengths over `top` are at the upper edge."""
        share = max(0.0, min(1.0, length / self.top))
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def draw_lengths_plot(encoder: EncoderFigures) -> Markup:
    """A mark for each of the first MAX_MARKS vectors over the band of usual lengths, and sentences about unusual ones.

    A ring marks a length outside the band, a triangle at the top edge a length over it, a cross there NaN or infinity.
    """
    vectors = encoder.vectors[:MAX_MARKS]
    frame = _Frame(len(vectors), _find_top(encoder))
    sentences = " ".join(describe_lengths(encoder))
    label = f"Lengths of {format_count(len(vectors), 'vector')} of {plain(encoder.title, 40)}. {sentences}"
    pieces = [*_draw_axes(frame, vectors), *_draw_band(frame, encoder), *_draw_marks(frame, encoder)]
    return Markup(
        '<figure class="embedmerge-figure"><div class="embedmerge-plot-box" tabindex="0">'
        '<svg class="embedmerge-plot" role="img" aria-label="{0}" viewBox="0 0 {1} {2}" width="{1}" height="{2}">'
        "{3}</svg></div>"
        '<figcaption class="embedmerge-caption">{4} <span class="embedmerge-quiet">{5}</span></figcaption></figure>'
    ).format(label, frame.width, _HEIGHT, join(pieces), sentences, _describe_band(encoder.band))


def _find_top(encoder: EncoderFigures) -> float:
    lengths = [v.figures.len for v in encoder.vectors[:MAX_MARKS] if not v.figures.len - v.figures.len]
    usual = encoder.band.high if encoder.band else median(lengths) if lengths else 0.0
    usual = usual if usual > 0 and usual - usual == 0 else max(lengths, default=0.0)
    top = max([usual, *(length for length in lengths if length <= _MOST * usual)])
    return top * 1.12 if 1e-300 < top < 1e300 else 1.0


def _draw_axes(frame: _Frame, vectors: tuple[VectorFigures, ...]) -> Iterator[Markup]:
    right = frame.width - _RIGHT
    for length in _choose_ticks(frame.top):
        yield _draw_line("grid", _LEFT, frame.y(length), right, frame.y(length))
        yield _draw_label(_LEFT - 6, frame.y(length) + 4, f"{length:.4g}", "end")
    yield _draw_label(_LEFT - 6, 12, "length", "end")
    every = max(1, ceil(len(vectors) / 75)) * 5 if len(vectors) > 12 else 1
    for index, vector in enumerate(vectors):
        if vector.number == 1 or vector.number % every == 0:
            yield _draw_label(frame.x(index), _HEIGHT - _BOTTOM + 15, str(vector.number), "middle")


def _choose_ticks(top: float) -> list[float]:
    """Three to six round numbers from 0 to the top."""
    rough = top / 5
    power = 10.0 ** floor(log10(rough))
    step = next((power * factor for factor in (1, 2, 5, 10) if power * factor >= rough), power * 10)
    return [step * number for number in range(floor(top / step) + 1)]


def _draw_band(frame: _Frame, encoder: EncoderFigures) -> Iterator[Markup]:
    """The band of usual lengths with a line at their mean."""
    if encoder.band is None or not _has_band(encoder.band):
        return
    low, mean, high = (frame.y(x) for x in (encoder.band.low, encoder.band.mean, encoder.band.high))
    right = frame.width - _RIGHT
    yield Markup('<rect class="embedmerge-band" x="{}" y="{}" width="{}" height="{}"/>').format(
        _LEFT, high, right - _LEFT, max(1.0, round(low - high, 1))
    )
    yield _draw_line("mean", _LEFT, mean, right, mean)


def _describe_band(band: LengthBand | None) -> str:
    """What the band is, in a sentence below the plot: labels beside it would be cut where the page is narrow."""
    if band is None or not _has_band(band):
        return ""
    return (
        f"Grey: 98% of the words of this model, {band.low:.3g} to {band.high:.3g}. Dashed: their mean, {band.mean:.3g}."
    )


def _has_band(band: LengthBand) -> bool:
    return all(length - length == 0 for length in (band.low, band.mean, band.high))


def _draw_marks(frame: _Frame, encoder: EncoderFigures) -> Iterator[Markup]:
    label_end = 0.0  # right edge of the last label, in pixels
    for index, vector in enumerate(encoder.vectors[:MAX_MARKS]):
        word, length = judge_length(vector, encoder), vector.figures.len
        x, y = frame.x(index), frame.y(length) if length - length == 0 else float(_TOP)
        if word in {"NaN", "infinite"}:
            shape = _draw_path("cross", f"M{x - 4:g} {_TOP - 4}l8 8m0 -8l-8 8")
            if x > label_end:
                shape += _draw_label(x, _TOP - 8, word, "middle", "bad")
                label_end = x + 50
        elif length > frame.top:
            shape = _draw_path(f"mark {hue(vector.part)}", f"M{x - 5:g} {_TOP + 5}h10l-5 -9z")
        else:
            shape = _draw_circle(f"mark {hue(vector.part)}", x, y, frame.radius)
        if word and word not in {"NaN", "infinite"}:
            shape += _draw_circle("ring", x, y, frame.radius + 3)
        yield Markup("<g><title>%s</title>%s</g>") % (_format_tooltip(vector, encoder, word), shape)


def _format_tooltip(vector: VectorFigures, encoder: EncoderFigures, word: str) -> str:
    part = encoder.parts[vector.part].part.text if 0 <= vector.part < len(encoder.parts) else ""
    facts = [f"vector {vector.number}", plain(part, 60), f"length {figure(vector.figures.len)}", word]
    return ", ".join(fact for fact in facts if fact)


def _draw_line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return _draw_path(kind, f"M{x1:g} {y1:g}L{x2:g} {y2:g}")


def _draw_path(kind: str, path: str) -> Markup:
    return Markup('<path class="embedmerge-{}" d="{}"/>').format(kind, path)


def _draw_circle(kind: str, x: float, y: float, radius: float) -> Markup:
    return Markup('<circle class="embedmerge-%s" cx="%g" cy="%g" r="%.3g"/>') % (kind, x, y, radius)


def _draw_label(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="embedmerge-{}" x="{:g}" y="{:g}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, words
    )
