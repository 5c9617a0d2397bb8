"""The parts of a source as chips, coloured in turn: text, token ids, number of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import hue, join, more, plain, text

if TYPE_CHECKING:
    from lib_embedmerge.core.parts import Part

MAX_CHIPS = 300
MAX_IDS = 12
"""Token ids shown of one part; its tooltip has more."""

MAX_IDS_TOLD = 60
MAX_CHIP_TEXT = 48


def draw_chips(parts: Sequence[Part]) -> Markup:
    """The first MAX_CHIPS parts in order, and how many there are more."""
    shown = join(_chip(place, part) for place, part in enumerate(parts[:MAX_CHIPS]))
    rest = more(len(parts) - MAX_CHIPS, "part")
    return Markup('<div class="embedmerge-chips" role="list" aria-label="Parts">{}</div>{}').format(shown, rest)


def draw_token_ids(part: Part, limit: int = MAX_IDS) -> str:
    """The token ids of a part, a dash for a vector that is no token's; nothing where none is."""
    if all(token is None for token in part.ids):
        return ""
    shown = " ".join("–" if token is None else str(token) for token in part.ids[:limit])
    return shown + (" …" if len(part.ids) > limit else "")


def _chip(place: int, part: Part) -> Markup:
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
    return Markup('<span class="embedmerge-chip embedmerge-of-{} {}" role="listitem" title="{}">{}</span>').format(
        part.kind, hue(place), _told(part), join(pieces)
    )


def _told(part: Part) -> str:
    """A chip's tooltip: all that it has no room for."""
    last = part.first + len(part.ids)
    where = f"vectors {part.first + 1:,} to {last:,}" if len(part.ids) > 1 else f"vector {part.first + 1:,}"
    ids = draw_token_ids(part, MAX_IDS_TOLD)
    told = [plain(part.text, 500), where if part.ids else "no vectors", f"tokens {ids}" if ids else ""]
    return "\n".join(line for line in told if line)
