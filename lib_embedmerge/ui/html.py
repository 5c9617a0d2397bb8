"""Building blocks of the views: texts, numbers, buttons and tables as escaped markup.

A text of unknown origin reaches a page only through `text` or `code` (for people to read), `plain` (a tooltip or label)
or `exact` (an attribute that a script reads).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from markupsafe import Markup, escape

from lib_embedmerge.errors import escape_unprintable, format_count

HUES = 8
"""Number of colours that parts use in turn. style.css defines as many."""

MAX_EDITED = 4000
"""Characters of the longest recipe or notes that are sent to the page, where they can be edited or copied."""

MAX_NOTES = 40

MAKE_AGAIN = "make it again from its recipe, for the active model"
IMPROVE = "few vectors for a long text; a trained embedding for another model; one that drowns other words, weakened"
USE = "write its name into the prompt in txt2img; on a page without txt2img, copy it"
"""Tooltips of buttons that several views have."""

MAX_PLACE = 1000
"""Characters of the longest path that is sent to the page."""

_BDI = Markup("<bdi>%s</bdi>")
"""Filled with `%`, which takes a third of the time of `format`, because every row of a table uses it."""

_INVALID_CHARACTERS = re.compile("[\0\ud800-\udfff]")
_NO_ARGUMENTS: Mapping[str, str] = MappingProxyType({})


def text(value: str, limit: int = 200) -> Markup:
    """A text for people to read, escaped, without unprintable characters.

    limit: characters that are shown of it. A longer text is cut, and its length is added.
    """
    shown = escape_unprintable(value[:limit])
    if len(value) <= limit:
        return _BDI % shown
    return Markup('<bdi>{}…</bdi> <span class="embedmerge-quiet">({:,} characters)</span>').format(shown, len(value))


def code(value: str, limit: int = 200) -> Markup:
    """As `text`, for names, files and expressions, in the font for code."""
    return Markup('<code class="embedmerge-code">{}</code>').format(text(value, limit))


def plain(value: str, limit: int = 200) -> str:
    """As `text`, but without markup, for tooltips and labels. Not escaped: the template that contains it does that."""
    shown = escape_unprintable(value[:limit])
    return shown if len(value) <= limit else f"{shown}… ({len(value):,} characters)"


def exact(value: str) -> Markup:
    """A text for an attribute from which a script reads it unchanged. NUL and lone surrogates become U+FFFD."""
    escaped = escape(_INVALID_CHARACTERS.sub("\ufffd", value))
    # Browsers turn a bare carriage return in markup into a line feed.
    return escaped.replace("\r", Markup("&#13;")).replace("\n", Markup("&#10;"))


def figure(value: float) -> str:
    """A number with four significant figures; NaN as a word, infinity as a sign."""
    if math.isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    magnitude = abs(value)
    shown = f"{value:,.0f}" if 1000 <= magnitude < 1e6 else f"{value:.3e}" if magnitude >= 1e6 else f"{value:#.4g}"
    return shown.replace("-", "−")


def hue(index: int) -> str:
    """The CSS class for the colour of the part with this index."""
    return f"embedmerge-hue-{index % HUES}"


def join(pieces: Iterable[Markup], between: str = "") -> Markup:
    """The pieces in one. between: text that separates them, which is escaped."""
    return escape(between).join(pieces)


def view(name: str, content: Iterable[Markup], arguments: Mapping[str, str] = _NO_ARGUMENTS) -> Markup:
    """The root element of a view. name: of its CSS class.  arguments: its data-embedmerge-... attributes."""
    return Markup('<div class="embedmerge-view embedmerge-{}"{}>{}</div>').format(
        name, _make_attributes(arguments), join(content)
    )


def answer_to(question: str, content: Markup) -> Markup:
    """Content with the number of the script's question that it answers."""
    return Markup("<div{}>{}</div>").format(_make_attributes({"asked": question}), content)


def button(label: str, action: str, arguments: Mapping[str, str] = _NO_ARGUMENTS, *, tooltip: str = "") -> Markup:
    """A button that the page's script handles. action: what it does.  arguments: what the script needs for that.

    tooltip: what it does, for people, where the label does not say it.
    """
    title = Markup(' title="{}"').format(tooltip) if tooltip else ""
    return Markup('<button type="button" class="embedmerge-button"{}{}>{}</button>').format(
        title, _make_attributes({"action": action, **arguments}), label
    )


def button_line(buttons: Markup) -> Markup:
    """Buttons on a line of their own."""
    return Markup('<p class="embedmerge-buttons">{}</p>').format(buttons)


def inspect_button(place: str) -> Markup:
    """A button that opens a file of the library in Inspect; nothing for a path too long for any disk.

    place: its path in the library.
    """
    return button("Inspect", "inspect", {"place": place}) if len(place) <= MAX_PLACE else Markup("")


def note(sentence: str, kind: str = "note") -> Markup:
    """A sentence with a bar before it. kind: `note`, `warning`, `bad`, `good` or `quiet`."""
    return Markup('<p class="embedmerge-note embedmerge-is-{}">{}</p>').format(kind, text(sentence, 1000))


def note_list(sentences: Sequence[str], kind: str = "warning") -> Markup:
    """The first MAX_NOTES sentences, each as a note, and the number of those left out."""
    shown = [note(sentence, kind) for sentence in sentences[:MAX_NOTES]]
    return join([*shown, more(len(sentences) - len(shown), "note")])


def more(count: int, thing: str) -> Markup:
    """The number of things that were left out; nothing if it is zero or less."""
    if count <= 0:
        return Markup("")
    return Markup('<p class="embedmerge-quiet">and {} more</p>').format(format_count(count, thing))


def number_cells(values: Sequence[float]) -> Markup:
    """Numbers as table cells, rounded, with all digits in the tooltips."""
    content = tuple(cell for value in values for cell in (repr(value), figure(value)))
    return Markup('<td title="%s">%s</td>') * len(values) % content


def table(kind: str, caption: str, columns: Sequence[str], rows: Iterable[Markup]) -> Markup:
    """A table in a box that scrolls. rows: <tr> elements.

    kind: of its CSS class, by which style.css aligns the columns.  caption: describes it to people who cannot see it.
    """
    heads = join(Markup('<th scope="col">{}</th>').format(column) for column in columns)
    return Markup(
        '<div class="embedmerge-scroll" role="region" tabindex="0" aria-label="{}">'
        '<table class="embedmerge-table embedmerge-{}">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(caption, kind, heads, join(rows))


def folded(summary: str, content: Markup) -> Markup:
    """A summary that shows or hides the content on a click. It is hidden at first."""
    return Markup(
        '<details class="embedmerge-details"><summary class="embedmerge-summary">{}</summary>{}</details>'
    ).format(summary, content)


def metadata_table(metadata: Mapping[str, str], keys: int = 200, characters: int = 2000) -> Markup:
    """The metadata of a file, collapsed. keys, characters: how many keys, and characters of a value, are shown."""
    rows = [
        Markup('<tr><th scope="row">{}</th><td>{}</td></tr>').format(text(key, 100), text(value, characters))
        for key, value in list(metadata.items())[:keys]
    ]
    content = table("metadata", "Metadata of the file", ("key", "value"), rows) + more(len(metadata) - len(rows), "key")
    return folded(f"Metadata: {format_count(len(metadata), 'key')}", content)


def _make_attributes(arguments: Mapping[str, str]) -> Markup:
    return join(Markup(' data-embedmerge-{}="{}"').format(name, exact(value)) for name, value in arguments.items())
