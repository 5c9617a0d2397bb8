"""Results of actions on the library, and the trash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import (
    MAX_EDITED,
    button,
    button_line,
    code,
    folded,
    join,
    more,
    note,
    note_list,
    plain,
    view,
)

if TYPE_CHECKING:
    from lib_embedmerge.actions.managing import Deletion
    from lib_embedmerge.recipes.recovery.recover import Recovery
    from lib_embedmerge.recipes.variant_writing import RebuildResult

MAX_DELETIONS = 5


def done_view(sentence: str, deleted: Deletion | None = None) -> Markup:
    """A sentence about what was done. deleted: a deletion that a button offers to undo."""
    undo = _draw_undo(deleted) if deleted else Markup("")
    return view("done", [note(sentence, "good"), undo])


def made_view(results: Sequence[RebuildResult]) -> Markup:
    """What became of embeddings that were to be made for the active model."""
    made = [result.file.stem for result in results if result.file and result.reason is None]
    pieces = []
    if made:
        shown = ", ".join(name[:80] for name in made[:3]) + (", …" if len(made) > 3 else "")
        pieces.append(note(f"Made {format_count(len(made), 'version')} for this model: {shown}.", "good"))
    others = [f"{result.source.stem}: {result.reason}" for result in results if result.reason]
    return view("done", [*pieces, note_list(others)])


def replacing_view(names: Sequence[str], places: str) -> Markup:
    """A warning that saving would replace notes which the page did not show, with a button that saves all the same.

    names: the embeddings that have such notes.
    places: the script's list of all files whose notes are to be saved, in JSON; the button sends it back.
    """
    shown = ", ".join(name[:80] for name in names[:3]) + (", …" if len(names) > 3 else "")
    has = f"{shown} has" if len(names) == 1 else f"{len(names):,} of the ticked embeddings ({shown}) have"
    sentence = f"Nothing was saved yet. {has} other notes, which saving would replace."
    anyway = button("Replace them", "order", {"order": places, "press": "renote"})
    return view("done", [note(sentence, "warning"), button_line(anyway)])


def recovered_view(places: str, recovery: Recovery) -> Markup:
    """The text that an embedding was made from.

    places: the script's list with the path of its file, in JSON; the button that saves the text sends it back.
    """
    from lib_embedmerge.lang.typed import as_typed  # not when a web UI starts and draws the page

    pieces = [note(recovery.detail, "good" if recovery.is_source else "quiet")]
    if len(recovery.expression) <= MAX_EDITED:
        buttons = [button("Open in the text box", "edit", {"text": as_typed(recovery.expression)})]
        buttons.append(button("Copy", "copy", {"text": as_typed(recovery.expression)}))
        if recovery.is_source:
            buttons.append(button("Save as its recipe", "order", {"order": places, "press": "keep"}))
        row = Markup('<p class="embedmerge-recipe">{}<span class="embedmerge-buttons">{}</span></p>')
        pieces.append(row.format(code(recovery.expression, MAX_EDITED), join(buttons)))
    return view("recovered", pieces)


def draw_deletions(deletions: Iterable[Deletion]) -> Iterator[Markup]:
    """The newest deletions, each with a button that restores its files; nothing if there are none."""
    rows = [
        Markup('<p class="embedmerge-buttons">{}<span>{} <span class="embedmerge-quiet">{}</span></span></p>').format(
            _make_restore_button(deletion, "Restore"),
            join([code(file, 80) for file in deletion.files[:3]], ", ")
            + more(len(deletion.files) - 3, "file").striptags(),
            plain(deletion.date.replace("T", " ")[:16], 20),
        )
        for deletion in list(deletions)[:MAX_DELETIONS]
    ]
    if rows:
        yield folded("Deleted", Markup('<div class="embedmerge-stack">{}</div>').format(join(rows)))


def _draw_undo(deleted: Deletion) -> Markup:
    return button_line(_make_restore_button(deleted, "Undo"))


def _make_restore_button(deleted: Deletion, label: str) -> Markup:
    return button(label, "order", {"order": deleted.id, "press": "undelete"})
