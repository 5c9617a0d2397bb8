"""What saving did: the files with their tags and where to put them next, or which files stand in the way."""

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
    from lib_embedmerge.actions.values import Saved, SavedFile

MAX_INLINE = 1000
"""Characters of a source that buttons offer to write into a prompt."""

MAX_FILES = 40
MAX_FILE_NAME = 255

_TARGETS = (
    ("Send to txt2img prompt", "txt2img"),
    ("Send to img2img prompt", "img2img"),
    ("Send to negative prompt", "negative"),
)


def saved_view(saved: Saved, *, targets: bool = True) -> Markup:
    """The outcome of saving. targets: whether there are prompts on this page that texts can be sent to."""
    pieces = [note_list(saved.warnings)]
    if saved.existing:
        pieces.append(_existing(saved.existing))
    elif not saved.files:
        pieces.append(note("Nothing was saved.", "quiet"))
    pieces += [_file(file) for file in saved.files[:MAX_FILES]]
    pieces.append(more(len(saved.files) - MAX_FILES, "file"))
    if saved.files:
        label = "Name" if len(saved.files) == 1 else "Names"
        pieces.append(_use(label, saved.prompt, targets=targets))
        pieces.append(_use("Expression", saved.inline, targets=targets))
        pieces.append(_elsewhere([file.name for file in saved.files]))
    return view("saved", pieces)


def _existing(files: Mapping[str, str]) -> Markup:
    names = list(files)
    shown = join([code(files[name], 120) for name in names[:MAX_FILES]], ", ")
    one = len(names) == 1
    return Markup(
        '<div class="embedmerge-note embedmerge-is-warning" role="alert"><p>{} {}. Nothing was saved.</p>{}'
        '<p class="embedmerge-buttons">{}</p></div>'
    ).format(
        shown,
        "already exists" if one else "already exist",
        more(len(names) - MAX_FILES, "file"),
        button("Replace it" if one else "Replace them", "replace", {"names": _exactly(names)}),
    )


def _exactly(names: Sequence[str]) -> str:
    """The names, a line each, for the script to give back as they are; no disk holds a longer one."""
    return "\n".join(name for name in names if len(name) <= MAX_FILE_NAME)


def _file(file: SavedFile) -> Markup:
    return Markup(
        '<div class="embedmerge-file" role="status"><p class="embedmerge-line"><strong class="embedmerge-title">'
        'Saved {}</strong><span class="embedmerge-fact">{}</span><span class="embedmerge-fact">{}</span></p>{}</div>'
    ).format(
        text(file.name, 120), format_count(file.vectors, "vector"), code(str(file.path), 400), metadata_table(file.tag)
    )


def _elsewhere(names: Sequence[str]) -> Markup:
    """How other programs call the embedding; the pieces of a split one with blanks between them."""
    rows = [
        Markup('<tr><th scope="row">{}</th><td>{}</td></tr>').format(program, code(call, 160))
        for program, call in list_calls(*names[:MAX_FILES]).items()
    ]
    return folded(
        "In other programs", table("calls", "How to write it in each program", ("program", "in a prompt"), rows)
    )


def _use(label: str, content: str, *, targets: bool) -> Markup:
    """A row of buttons that put a text where it is used; nothing for a text that is empty or too long for a prompt."""
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
