"""The status line: the active model, and where its vectors come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.ui.html import join, note_list, plain, text, view
from lib_embedmerge.ui.views.error_view import error_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import Status


def status_view(status: Status) -> Markup:
    """A line about the active model, and its warnings. If there is no model: why, and what to do."""
    if status.error is not None:
        return view("status", [error_view(status.error, "status"), note_list(status.warnings)], {"model": ""})
    facts = [
        ("", text(status.family)),
        ("prediction", text(status.prediction)),
        ("text encoders", join([text(encoder, 60) for encoder in status.encoders[:8]], ", ")),
        ("vectors from", text(status.vectors_from)),
    ]
    values = (status.family, status.prediction, status.encoders, status.vectors_from)
    line = [Markup('<strong class="embedmerge-title">{}</strong>').format(text(status.title or "No model"))]
    line += [_draw_fact(label, shown) for (label, shown), value in zip(facts, values, strict=True) if value]
    return view(
        "status",
        [Markup('<div class="embedmerge-line" role="status">{}</div>').format(join(line)), note_list(status.warnings)],
        {"model": plain(status.title)},
    )


def _draw_fact(label: str, value: Markup) -> Markup:
    before = Markup('<span class="embedmerge-label">{}</span> ').format(label) if label else Markup("")
    return Markup('<span class="embedmerge-fact">{}{}</span>').format(before, value)
