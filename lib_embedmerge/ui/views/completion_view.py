"""The list of completions below the text box. The script javascript/embedmerge_completing.js shows and uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.ui.html import exact, join, text, view

if TYPE_CHECKING:
    from lib_embedmerge.actions.completing import Completion


def completion_view(completions: Sequence[Completion]) -> Markup:
    """The completions, each with what it inserts; nothing to see if there are none."""
    return view("completions", [_draw(completion) for completion in completions])


def _draw(completion: Completion) -> Markup:
    attributes = {
        "typed": completion.typed,
        "text": completion.inserted,
        "back": str(completion.back),
    }
    if completion.kind == "embedding":
        attributes["name"] = completion.inserted  # for which the script asks for a picture
    return Markup(
        '<div class="embedmerge-completion" role="option"{}><span class="embedmerge-complete">{}</span>'
        '<span class="embedmerge-quiet">{}</span></div>'
    ).format(
        join(Markup(' data-embedmerge-{}="{}"').format(name, exact(value)) for name, value in attributes.items()),
        text(completion.label, 100),
        text(completion.detail, 100),
    )
