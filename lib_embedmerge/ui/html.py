"""What the views share: texts, figures, buttons and tables as markup that is escaped by construction.

A text of unknown origin comes into a page through `text` or `code` (to be read), `plain` (a tooltip or label) or
`exact` (an attribute that a script reads), never in another way. What a view shows is known in the views, not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from markupsafe import Markup, escape

from lib_embedmerge.errors import escape_unprintable, format_count

HUES = 8
"""Colours that parts go through, over and over; style.css has as many."""

MAX_NOTES = 40

_BDI = Markup("<bdi>%s</bdi>")
"""`%` takes a third of the time that `format` takes: for what stands in every row."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_NOTHING: Mapping[str, str] = MappingProxyType({})


def text(value: str, limit: int = 200) -> Markup:
    """A text for people: nothing in it acts on the page or the eye, cut to `limit` characters, its length told then."""
    shown = escape_unprintable(value[:limit])
    if len(value) <= limit:
        return _BDI % shown
    return Markup('<bdi>{}…</bdi> <span class="embedmerge-quiet">({:,} characters)</span>').format(shown, len(value))


def code(value: str, limit: int = 200) -> Markup:
    """As `text`, for what could be typed: names, files, expressions."""
    return Markup('<code class="embedmerge-code">{}</code>').format(text(value, limit))


def plain(value: str, limit: int = 200) -> str:
    """As `text`, without markup: for tooltips and labels. The template that it goes into escapes it."""
    shown = escape_unprintable(value[:limit])
    return shown if len(value) <= limit else f"{shown}… ({len(value):,} characters)"


def exact(value: str) -> Markup:
    """A text for an attribute that a script reads back, to the character. What no page can hold becomes U+FFFD."""
    escaped = escape(_NO_TEXT.sub("\ufffd", value))
    # Browsers turn a bare carriage return in markup into a line feed.
    return escaped.replace("\r", Markup("&#13;")).replace("\n", Markup("&#10;"))


def figure(value: float) -> str:
    """A number with four significant figures, words and signs for what is none."""
    if value != value:  # noqa: PLR0124 -- NaN is the only value that does not equal itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    magnitude = abs(value)
    shown = f"{value:,.0f}" if 1000 <= magnitude < 1e6 else f"{value:.3e}" if magnitude >= 1e6 else f"{value:#.4g}"
    return shown.replace("-", "−")


def hue(place: int) -> str:
    """The class that gives the part at this place its colour."""
    return f"embedmerge-hue-{place % HUES}"


def join(pieces: Iterable[Markup], between: str = "") -> Markup:
    """Pieces one behind the other; `between` is escaped."""
    return escape(between).join(pieces)


def view(name: str, content: Iterable[Markup], arguments: Mapping[str, str] = _NOTHING) -> Markup:
    """The root of a view, with its own class and data-embedmerge-... attributes."""
    return Markup('<div class="embedmerge-view embedmerge-{}"{}>{}</div>').format(
        name, _arguments(arguments), join(content)
    )


def answer_to(asked: str, content: Markup) -> Markup:
    """Content with the number of the question that it answers."""
    return Markup("<div{}>{}</div>").format(_arguments({"asked": asked}), content)


def button(label: str, action: str, arguments: Mapping[str, str] = _NOTHING) -> Markup:
    """A button for the page's script: data-embedmerge-action and what the action needs, each to the character."""
    return Markup('<button type="button" class="embedmerge-button"{}>{}</button>').format(
        _arguments({"action": action, **arguments}), label
    )


def note(sentence: str, kind: str = "note") -> Markup:
    """A sentence with a bar before it. kind: `note`, `warning`, `bad`, `good` or `quiet`."""
    return Markup('<p class="embedmerge-note embedmerge-is-{}">{}</p>').format(kind, text(sentence, 1000))


def note_list(sentences: Sequence[str], kind: str = "warning") -> Markup:
    """Each sentence as a note, the first MAX_NOTES of them."""
    shown = [note(sentence, kind) for sentence in sentences[:MAX_NOTES]]
    return join([*shown, more(len(sentences) - len(shown), "note")])


def more(count: int, thing: str) -> Markup:
    """How many were left out; nothing where none were."""
    if count <= 0:
        return Markup("")
    return Markup('<p class="embedmerge-quiet">and {} more</p>').format(format_count(count, thing))


def number_cells(values: Sequence[float]) -> Markup:
    """Figures as cells; the whole of each in its tooltip."""
    content = tuple(shown for value in values for shown in (repr(value), figure(value)))
    return Markup('<td title="%s">%s</td>') * len(values) % content


def table(kind: str, caption: str, columns: Sequence[str], rows: Iterable[Markup]) -> Markup:
    """Ready rows below headings, in a box of its own that scrolls.

    kind: its class in style.css, which aligns the columns.  caption: for those who cannot see it.
    """
    heads = join(Markup('<th scope="col">{}</th>').format(column) for column in columns)
    return Markup(
        '<div class="embedmerge-scroll" role="region" tabindex="0" aria-label="{}">'
        '<table class="embedmerge-table embedmerge-{}">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(caption, kind, heads, join(rows))


def folded(summary: str, content: Markup) -> Markup:
    """Content that opens on a click."""
    return Markup(
        '<details class="embedmerge-details"><summary class="embedmerge-summary">{}</summary>{}</details>'
    ).format(summary, content)


def metadata_table(metadata: Mapping[str, str], keys: int = 200, characters: int = 2000) -> Markup:
    """A file's metadata, folded: at most so many keys, and so many characters of a value."""
    rows = [
        Markup('<tr><th scope="row">{}</th><td>{}</td></tr>').format(text(key, 100), text(value, characters))
        for key, value in list(metadata.items())[:keys]
    ]
    content = table("metadata", "Metadata of the file", ("key", "value"), rows) + more(len(metadata) - len(rows), "key")
    return folded(f"Metadata: {format_count(len(metadata), 'key')}", content)


def _arguments(arguments: Mapping[str, str]) -> Markup:
    return join(Markup(' data-embedmerge-{}="{}"').format(name, exact(value)) for name, value in arguments.items())
