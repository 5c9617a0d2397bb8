"""How a source is read: the counter, the first mistake, the parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.ui.html import button, code, counted, notes, view
from lib_embedmerge.ui.views.errors import error_view
from lib_embedmerge.ui.views.parts import chips

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import Answer


def answer_view(answer: Answer, restored: str | None = None) -> Markup:
    """An answer to the source box.

    restored: the source as it is written into a prompt, where the box holds a picture's generation info; a button puts
    it there instead.
    """
    pieces = [_counter(answer)]
    if restored:
        pieces.append(_restore(restored))
    if answer.error is not None:
        pieces.append(error_view(answer.error, "status"))
    pieces.append(notes(answer.notes))
    if answer.parts:
        pieces.append(chips(answer.parts))
    return view("answer", pieces)


def _restore(source: str) -> Markup:
    return Markup(
        '<div class="embedmerge-note embedmerge-is-note"><p>This is the generation info of a picture. Its prompt:</p>'
        '{}<p class="embedmerge-buttons">{}</p></div>'
    ).format(code(source, 400), button("Take the prompt", "edit", {"text": source}))


def _counter(answer: Answer) -> Markup:
    """`12/75` with a bar. More than fit is a warning in words and colour, not a fault: a prompt may be longer."""
    over = answer.count - answer.limit
    words = {"nothing": "nothing written yet", "expression": "expression", "prompt": "prompt"}[answer.kind]
    if over > 0:
        words += f", {counted(over, 'vector')} more than one embedding holds"
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
