"""The result of saving: the files with their tags and where to use them, or the existing files that prevented it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.calling import list_calls
from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import (
    button,
    code,
    folded,
    inspect_button,
    join,
    metadata_table,
    more,
    note,
    note_list,
    table,
    text,
    view,
)

if TYPE_CHECKING:
    from lib_embedmerge.actions.saving_values import Saved, SavedFile

MAX_INLINE = 1000
"""Characters of the longest text for which there are buttons that write it into a prompt."""

MAX_FILES = 40
MAX_FILE_NAME = 255

_TARGETS = (
    ("Send to txt2img prompt", "txt2img"),
    ("Send to img2img prompt", "img2img"),
    ("Send to negative prompt", "negative"),
)


def saved_view(saved: Saved, *, targets: bool = True, replace: Markup | None = None) -> Markup:
    """The result of saving. targets: whether the page has prompt boxes that texts can be sent to.

    replace: the button that replaces the existing files, None for that of the page Make.
    """
    pieces = [note_list(saved.warnings)]
    if saved.existing:
        pieces.append(_offer_to_replace(saved.existing, replace))
    elif not saved.files:
        pieces.append(note("Nothing was saved.", "quiet"))
    pieces += [_draw_file(file) for file in saved.files[:MAX_FILES]]
    pieces.append(more(len(saved.files) - MAX_FILES, "file"))
    if saved.files:
        label = "Name" if len(saved.files) == 1 else "Names"
        pieces.append(_draw_use(label, saved.prompt, targets=targets))
        pieces.append(_draw_use("Expression", saved.inline, targets=targets))
        pieces.append(_draw_calls([file.name for file in saved.files]))
    return view("saved", pieces)


def _offer_to_replace(files: Mapping[str, str], replace: Markup | None) -> Markup:
    names = list(files)
    shown = join([code(files[name], 120) for name in names[:MAX_FILES]], ", ")
    is_single = len(names) == 1
    return Markup(
        '<div class="embedmerge-note embedmerge-is-warning" role="alert"><p>{} {}. Nothing was saved.</p>{}'
        '<p class="embedmerge-buttons">{}{}</p></div>'
    ).format(
        shown,
        "already exists" if is_single else "already exist",
        more(len(names) - MAX_FILES, "file"),
        replace or button("Replace it" if is_single else "Replace them", "replace", {"names": _join_names(names)}),
        inspect_button(files[names[0]]) if is_single else "",
    )


def _join_names(names: Sequence[str]) -> str:
    """The names, one on each line, which the script sends back unchanged. Names too long for any disk are left out."""
    return "\n".join(name for name in names if len(name) <= MAX_FILE_NAME)


def _draw_file(file: SavedFile) -> Markup:
    return Markup(
        '<div class="embedmerge-file" role="status"><p class="embedmerge-line"><strong class="embedmerge-title">'
        'Saved {}</strong><span class="embedmerge-fact">{}</span><span class="embedmerge-fact">{}</span>{}</p>{}</div>'
    ).format(
        text(file.name, 120),
        format_count(file.vectors, "vector"),
        code(str(file.path), 400),
        inspect_button(file.path.name),
        metadata_table(file.tag),
    )


def _draw_calls(names: Sequence[str]) -> Markup:
    """How each program calls the embedding in a prompt. The pieces of a split embedding are separated by spaces."""
    rows = [
        Markup('<tr><th scope="row">{}</th><td>{}</td></tr>').format(program, code(call, 160))
        for program, call in list_calls(*names[:MAX_FILES]).items()
    ]
    return folded(
        "In other programs", table("calls", "How to write it in each program", ("program", "in a prompt"), rows)
    )


def _draw_use(label: str, content: str, *, targets: bool) -> Markup:
    """A row of buttons that copy a text or write it into a prompt. Nothing if it is empty or longer than MAX_INLINE."""
    if not content or len(content) > MAX_INLINE:
        return Markup("")
    sends = [
        button(title, "insert", {"target": target, "text": content}) for title, target in (_TARGETS if targets else ())
    ]
    buttons = join([*sends, button("Copy", "copy", {"text": content})])
    return Markup(
        '<div class="embedmerge-use" role="group" aria-label="{0}"><span class="embedmerge-label">{0}</span>{1}'
        '<span class="embedmerge-buttons">{2}</span></div>'
    ).format(label, code(content, 160), buttons)
