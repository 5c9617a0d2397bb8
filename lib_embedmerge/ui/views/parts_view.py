"""The parts of a source as chips in alternating colours, each with its text, token ids and number of vectors.

A click on a chip selects its text in the text box: javascript/embedmerge_selecting.js.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import MAX_EDITED, exact, hue, join, more, plain, text

if TYPE_CHECKING:
    from lib_embedmerge.core.parts import Part

MAX_CHIPS = 300
MAX_IDS = 12
"""Token ids shown in a chip. Its tooltip shows up to MAX_TOOLTIP_IDS."""

MAX_TOOLTIP_IDS = 60
MAX_CHIP_TEXT = 48


def draw_chips(parts: Sequence[Part]) -> Markup:
    """Chips for the first MAX_CHIPS parts in order, and the number of parts left out."""
    shown = join(_draw_chip(index, part) for index, part in enumerate(parts[:MAX_CHIPS]))
    rest = more(len(parts) - MAX_CHIPS, "part")
    return Markup('<div class="embedmerge-chips" role="list" aria-label="Parts">{}</div>{}').format(shown, rest)


def draw_token_ids(part: Part, limit: int = MAX_IDS) -> str:
    """The token ids of a part, with a dash for a vector that is not a token's. Empty if no vector is a token's."""
    if all(token is None for token in part.ids):
        return ""
    shown = " ".join("–" if token is None else str(token) for token in part.ids[:limit])
    return shown + (" …" if len(part.ids) > limit else "")


def _draw_chip(index: int, part: Part) -> Markup:
    ids = draw_token_ids(part)
    pieces = [Markup('<span class="embedmerge-chip-text">{}</span>').format(text(part.text or " ", MAX_CHIP_TEXT))]
    if len(part.ids) != 1:
        pieces.append(
            Markup('<span class="embedmerge-times" title="{}">×{:,}</span>').format(
                format_count(len(part.ids), "vector"), len(part.ids)
            )
        )
    under = [Markup('<span class="embedmerge-kind">{}</span>').format(part.kind)] if part.kind != "text" else []
    if ids:
        under.append(Markup('<span class="embedmerge-ids">{}</span>').format(ids))
    if under:
        pieces.append(Markup('<span class="embedmerge-under">{}</span>').format(join(under, " ")))
    is_cut = MAX_CHIP_TEXT < len(part.text) <= MAX_EDITED
    whole = Markup(' data-embedmerge-text="{}"').format(exact(part.text)) if is_cut else ""
    return Markup('<span class="embedmerge-chip embedmerge-of-{} {}" role="listitem" title="{}"{}>{}</span>').format(
        part.kind, hue(index), _format_tooltip(part), whole, join(pieces)
    )


def _format_tooltip(part: Part) -> str:
    """The tooltip of a chip: the whole text, the numbers of its vectors, and more token ids."""
    last = part.first + len(part.ids)
    position = f"vectors {part.first + 1:,} to {last:,}" if len(part.ids) > 1 else f"vector {part.first + 1:,}"
    ids = draw_token_ids(part, MAX_TOOLTIP_IDS)
    lines = [plain(part.text, 500), position if part.ids else "no vectors", f"tokens {ids}" if ids else ""]
    return "\n".join(line for line in lines if line)
