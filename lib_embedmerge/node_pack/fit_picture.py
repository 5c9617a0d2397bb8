"""An inspection as a picture: whether the embedding fits, and for each vector its values and nearest tokens."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from lib_embedmerge.core.fit_status import Tone
from lib_embedmerge.errors import escape_unprintable, format_count
from lib_embedmerge.node_pack.text_reports import describe_fit, list_vectors

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw as Drawing
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as PlainFont

    from lib_embedmerge.actions.values import EncoderFigures, Inspection

_Colour = tuple[int, int, int]

_WIDTH, _MARGIN, _LINE, _SIZE = 1024, 24, 26, 17
_CELL = 6
"""Width of a value in a strip."""
_MAX_ROWS = 40
"""Vectors of an encoder that are drawn."""
_WRAPPED = 105
"""Characters of a line."""

_GROUND, _TEXT, _FAINT, _POSITIVE, _NEGATIVE = (
    (250, 250, 248),
    (30, 30, 34),
    (110, 110, 118),
    (214, 96, 26),
    (32, 96, 190),
)
_TONES: dict[Tone, _Colour] = {
    "good": (24, 128, 56), "quiet": (110, 110, 118), "warning": (190, 120, 0), "bad": (190, 30, 30),
}  # fmt: skip


def draw_inspection(inspection: Inspection) -> Picture:
    """The picture, `_WIDTH` pixels wide, as high as it needs to be."""
    from PIL import Image, ImageDraw

    page = _Page()
    _write(page, inspection)
    picture = Image.new("RGB", (_WIDTH, page.height), _GROUND)
    page.draw(ImageDraw.Draw(picture), _load_font())
    return picture


class _Page:
    """What is drawn, line by line: at each place a text in a colour, or a strip of values."""

    def __init__(self) -> None:
        self._texts: list[tuple[int, int, str, _Colour]] = []
        self._strips: list[tuple[int, int, tuple[float, ...]]] = []
        self._y = _MARGIN

    @property
    def height(self) -> int:
        """Pixels of all lines, with margins."""
        return self._y + _MARGIN

    def add(self, text: str, colour: _Colour = _TEXT, x: int = 0) -> None:
        """Write a text in the current line."""
        self._texts.append((_MARGIN + x, self._y, escape_unprintable(text), colour))

    def add_strip(self, values: tuple[float, ...], x: int) -> None:
        """Draw a strip in the current line."""
        self._strips.append((_MARGIN + x, self._y, values))

    def end_line(self, lines: float = 1) -> None:
        """Go to the next line."""
        self._y += int(_LINE * lines)

    def draw(self, drawing: Drawing, font: FreeTypeFont | PlainFont) -> None:
        """Draw everything."""
        for x, y, text, colour in self._texts:
            drawing.text((x, y), text, fill=colour, font=font)
        for x, y, values in self._strips:
            for place, value in enumerate(values):
                left = x + place * _CELL
                drawing.rectangle((left, y + 3, left + _CELL - 1, y + _LINE - 5), fill=_find_colour(value))


def _write(page: _Page, inspection: Inspection) -> None:
    """Write an inspection on a page."""
    page.add(f"{inspection.name}: {format_count(inspection.count, 'vector')} for {inspection.architecture}")
    page.end_line(1.2)
    tone = _TONES[inspection.fit.status.tone if inspection.fit else "quiet"]
    for line in textwrap.wrap(describe_fit(inspection), _WRAPPED):
        page.add(line, tone)
        page.end_line()
    for line in textwrap.wrap(f"Recipe: {inspection.recipe}", _WRAPPED)[:4] if inspection.recipe else ():
        page.add(line)
        page.end_line()
    for encoder in inspection.encoders:
        _write_encoder(page, encoder)


def _write_encoder(page: _Page, encoder: EncoderFigures) -> None:
    page.end_line(0.6)
    page.add(f"{encoder.title}: length, values, nearest tokens", _FAINT)
    page.end_line(1.1)
    for vector, (number, length, tokens) in list(zip(encoder.vectors, list_vectors(encoder), strict=True))[:_MAX_ROWS]:
        page.add(f"{number}", _FAINT)
        page.add(f"{length:.4f}", x=40)
        page.add_strip(vector.strip, 120)
        page.add(tokens if len(tokens) <= 46 else f"{tokens[:45]}…", x=520)
        page.end_line()
    hidden = encoder.hidden + max(len(encoder.vectors) - _MAX_ROWS, 0)
    if hidden:
        page.add(f"and {hidden:,} more", _FAINT)
        page.end_line()


def _find_colour(value: float) -> _Colour:
    """The colour of a value of a strip: the stronger, the larger it is."""
    if math.isnan(value):
        return (0, 0, 0)
    share = min(abs(value), 1.0)
    full = _POSITIVE if value > 0 else _NEGATIVE
    red, green, blue = (round(ground + (colour - ground) * share) for ground, colour in zip(_GROUND, full, strict=True))
    return red, green, blue


def _load_font() -> FreeTypeFont | PlainFont:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=_SIZE)
    except TypeError:  # Pillow before 10.1
        return ImageFont.load_default()
