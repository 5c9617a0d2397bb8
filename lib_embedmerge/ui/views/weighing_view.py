"""What each token of a text matters, as a heat under the text, and a text that was shortened."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.effects import find_band
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import button, button_line, code, join, more, note, plain, text, view
from lib_embedmerge.ui.views.effect_view import TONES, draw_share
from lib_embedmerge.ui.views.job_view import error_note, progress_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.library_jobs import LibraryJobState
    from lib_embedmerge.core.effect_answers import ShortenAnswer, TokenAnswer

WEIGHED = "weighed"
"""Name of the element that shows what matters in the text of the page Make."""

MAX_TOKENS = 600

_WHAT_IT_IS = (
    "It is measured from the weights: how differently the U-Net reads the text without what is left out, as a share of "
    "what another subject would change. It does not say what a picture will look like."
)

_CLOSE = button("Close", "close")

_STEPS = (0.25, 0.5, 0.75)
"""Shares of the largest effect at which one shade of the heat ends and the next begins."""

_SHADES = (
    ("0", "under 25% of the largest effect"),
    ("2", "25 to 50%"),
    ("3", "50 to 75%"),
    ("5", "over 75%"),
)
"""(last part of the CSS class, what it means) of each shade."""


def tokens_view(identity: str, state: LibraryJobState, source: str) -> Markup:
    """The progress or the result of weighing the tokens of a text. identity: the id of the job."""
    if state.state == "running":
        return progress_view(identity, state, WEIGHED)
    tokens: Sequence[TokenAnswer] = state.results
    if not tokens:
        return _draw_end(identity, state)
    largest = max(token["effect"] for token in tokens)
    chips = join(_draw_token(token, largest) for token in tokens[:MAX_TOKENS])
    pieces = [
        Markup("<p><strong>What matters in</strong> {}</p>").format(code(source, 160)),
        Markup('<div class="embedmerge-chips embedmerge-weights" role="list" aria-label="Tokens">{}</div>').format(
            chips
        ),
        more(len(tokens) - MAX_TOKENS, "token"),
        _draw_legend(),
        note(f"The figure is the effect of leaving out the token. {_WHAT_IT_IS}", "quiet"),
        button_line(_CLOSE),
    ]
    return view("job", pieces, {"ended": identity})


def shortened_view(identity: str, state: LibraryJobState, source: str) -> Markup:
    """The progress or the result of shortening a text. identity: the id of the job.  source: the whole text."""
    if state.state == "running":
        return progress_view(identity, state, WEIGHED)
    if not state.results:
        return _draw_end(identity, state)
    result: ShortenAnswer = state.results[0]
    if not result["dropped"]:
        fits = f"The text has {format_count(result['vectors'], 'vector')} and fits as it is."
        return view("job", [note(fits, "good")], {"ended": identity})
    cost = Markup(
        '<div class="embedmerge-note embedmerge-is-{}" role="status"><p>Shortened from {} to {}. '
        "Effect of shortening: {}. Of cutting the text off: {}.</p></div>"
    ).format(
        TONES[find_band(result["effect"])],
        result["before"],
        format_count(result["vectors"], "vector"),
        draw_share(result["effect"]),
        draw_share(result["cutting"]),
    )
    buttons = [button("Use the shortened text", "edit", {"text": result["text"]})]
    buttons += [button("Put the whole text back", "edit", {"text": source}), _CLOSE]
    dropped = join((code(piece, 80) for piece in result["dropped"][:40]), ", ")
    pieces = [
        cost,
        Markup("<p>{}</p>").format(code(result["text"], 2000)),
        button_line(join(buttons, " ")),
        Markup('<p><span class="embedmerge-label">Left out</span> {}</p>').format(dropped),
        note(_WHAT_IT_IS, "quiet"),
    ]
    return view("job", pieces, {"ended": identity})


def _draw_end(identity: str, state: LibraryJobState) -> Markup:
    """Why there is no result."""
    cancelled = [note("Cancelled.", "warning")] if state.state == "cancelled" else []
    return view("job", [*cancelled, error_note(state.error)], {"ended": identity})


def _draw_token(token: TokenAnswer, largest: float) -> Markup:
    share = token["effect"] / largest if largest else 0.0
    shade, _ = _SHADES[bisect_right(_STEPS, share)]
    title = (
        f"Without this token the effect is {format_percent(token['effect'])} "
        f"(estimated: {format_percent(token['quick'])})."
    )
    return Markup(
        '<span class="embedmerge-chip embedmerge-level-{}" role="listitem" title="{}">'
        '<span class="embedmerge-chip-text">{}</span><span class="embedmerge-ids">{}</span></span>'
    ).format(shade, plain(title), text(token["token"] or " ", 48), format_percent(token["effect"]))


def _draw_legend() -> Markup:
    spans = (Markup('<span class="embedmerge-level-{}">{}</span>').format(*shade) for shade in _SHADES)
    return Markup('<p class="embedmerge-legend">{}</p>').format(join(spans, " "))
