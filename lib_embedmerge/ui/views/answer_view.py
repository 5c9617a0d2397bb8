"""The answer to what is in the text box: the vector counter, the first mistake, the parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import button, button_line, code, join, note_list, text, view
from lib_embedmerge.ui.views.error_view import error_view
from lib_embedmerge.ui.views.parts_view import draw_chips

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import Answer
    from lib_embedmerge.lang.lookalikes import LikelyMeaning


def answer_view(answer: Answer, restored: str | None = None, *, can_measure: bool = False) -> Markup:
    """The answer to the text in the text box. can_measure: whether to offer what measures effects of the text.

    restored: if the box holds the generation parameters of a picture, the prompt in them. The view offers a button that
    writes it into the box instead.
    """
    pieces = [_draw_first_line(answer, can_measure=can_measure)]
    if restored:
        pieces.append(_offer_prompt(restored))
    if answer.error is not None:
        pieces.append(error_view(answer.error, "status"))
    if answer.meant is not None:
        pieces.append(_offer_likely_meaning(answer.meant))
    if answer.rewritten is not None:
        pieces.append(_draw_rewritten(answer.rewritten))
    pieces.append(note_list(answer.warnings))
    if answer.count > answer.limit and answer.error is None:
        pieces.append(_offer_ways_out(answer, can_measure=can_measure))
    if answer.parts:
        pieces.append(draw_chips(answer.parts))
    return view("answer", pieces)


def _offer_likely_meaning(meant: LikelyMeaning) -> Markup:
    """The expression that the text looks like, with a button that writes it into the text box."""
    return Markup(
        '<div class="embedmerge-note embedmerge-is-warning"><p>{}</p><p class="embedmerge-buttons">{}</p></div>'
    ).format(text(f"{meant.reason} Did you mean this?", 1000), use_meant(meant.source))


def use_meant(source: str) -> Markup:
    """A source that was probably meant, and the button that writes it into the text box."""
    return Markup("{} {}").format(code(source, 400), button("Use it", "edit", {"text": source}))


def _draw_rewritten(source: str) -> Markup:
    return Markup('<p class="embedmerge-rewritten"><span class="embedmerge-label">Read as</span> {}</p>').format(
        code(source, 1000)
    )


def _offer_prompt(source: str) -> Markup:
    return Markup(
        '<div class="embedmerge-note embedmerge-is-note"><p>These are the generation parameters of a picture. '
        'The prompt:</p>{}<p class="embedmerge-buttons">{}</p></div>'
    ).format(code(source, 400), button("Use the prompt", "edit", {"text": source}))


def _offer_ways_out(answer: Answer, *, can_measure: bool) -> Markup:
    """Buttons for a text that is too long: one ticks that it is split when it is saved, the other shortens a prompt."""
    several = "tick that it is saved as several embeddings, NAME-1, NAME-2 and so on"
    buttons = [button(f"Split into {-(-answer.count // answer.limit)}", "split", tooltip=several)]
    if can_measure and answer.kind == "prompt":
        shorter = "leave out what matters least"
        buttons.append(button(f"Shorten to {answer.limit}", "press", {"press": "shorten"}, tooltip=shorter))
    return button_line(join(buttons, " "))


def _draw_first_line(answer: Answer, *, can_measure: bool) -> Markup:
    """The counter, and beside it a button that measures what matters in the text."""
    counter = _draw_counter(answer)
    if not can_measure:
        return counter
    weigh = button("What matters", "press", {"press": "weigh"}, tooltip="measure how much each token changes")
    return Markup('<div class="embedmerge-beside">{}{}</div>').format(counter, weigh)


def _draw_counter(answer: Answer) -> Markup:
    """`12/75` with a bar. A count over the limit is a warning, not an error, since prompts may be longer."""
    over = answer.count - answer.limit
    words = {"nothing": "no text yet", "expression": "expression", "prompt": "prompt"}[answer.kind]
    if over > 0:
        words += f", {format_count(over, 'vector')} too many for one embedding"
    return Markup(
        '<div class="embedmerge-counter{}" role="status"><span class="embedmerge-count" aria-label="{} of {} vectors">'
        '{}/{}</span><span class="embedmerge-bar" aria-hidden="true"><span class="embedmerge-bar-fill" '
        'style="width:{}%"></span></span><span class="embedmerge-quiet">{}</span></div>'
    ).format(
        " embedmerge-over" if over > 0 else "",
        answer.count,
        answer.limit,
        f"{answer.count:,}",
        answer.limit,
        min(100, round(100 * max(0, answer.count) / max(1, answer.limit))),
        words,
    )
