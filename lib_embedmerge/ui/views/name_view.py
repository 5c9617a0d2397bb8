"""The answer to a name as it is typed: whether it can be used, and a better one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.ui.html import button, button_line, code, inspect_button, join, note, note_list, plain, view

if TYPE_CHECKING:
    from lib_embedmerge.actions.saving_values import NameReport

MAX_NAME = 120


def name_view(report: NameReport) -> Markup:
    """Why the name cannot be used, or why prompts may not find it, with a better one; or that it can be used."""
    pieces = [note(report.error, "bad")] if report.error else []
    pieces.append(note_list(report.warnings))
    if report.better:
        pieces.append(_offer_better(report.better))
    if report.file:
        pieces.append(
            note(f"{plain(report.file, MAX_NAME)} already exists. Saving will ask before replacing it.", "note")
        )
        pieces.append(button_line(inspect_button(report.file)))
    elif report.name and not (report.error or report.warnings):
        pieces.append(note("This name can be used.", "good"))
    return view("name", [Markup('<div class="embedmerge-stack" role="status">{}</div>').format(join(pieces))])


def _offer_better(name: str) -> Markup:
    take = button("Use this name", "use-name", {"name": name})
    return Markup('<p class="embedmerge-buttons"><span class="embedmerge-label">Better</span>{}{}</p>').format(
        code(name, MAX_NAME), take
    )
