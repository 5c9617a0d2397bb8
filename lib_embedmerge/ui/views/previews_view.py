"""Preview pictures while they are made, and afterwards side by side, with a box to tick for each that is to be kept."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import button, button_line, code, join, note, note_list, plain, text, view
from lib_embedmerge.ui.views.job_view import error_note, progress_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.preview_jobs import PreviewState
    from lib_embedmerge.actions.previewing import KeptPreviews, MadePicture
    from lib_embedmerge.hosts.picture_port import PictureSettings


PREVIEWED = "previewed"
"""Name of the element that shows the job."""


def previews_view(identity: str, state: PreviewState) -> Markup:
    """The progress or the pictures of a job. identity: the id of the job, which the script reads from the view."""
    if state.state == "running":
        pieces = [progress_view(identity, state, PREVIEWED, is_counted=True)]
        if state.is_waiting and not state.done:
            pieces.insert(0, note("The web UI makes other pictures first, or loads the model.", "quiet"))
        return join(pieces)
    kind = {"done": "good", "cancelled": "warning", "failed": "bad"}[state.state]
    pieces = [note(_summarise(state), kind), error_note(state.error)]
    made = [result for result in state.results if result.picture]
    if made and state.settings:
        pieces.append(_draw_settings(state.settings))
    pieces.append(note_list([f"{_name(one)}: {one.reason}" for one in state.results if one.reason]))
    figures = list(_draw_figures(state))
    if figures:
        pieces.append(Markup('<div class="embedmerge-pairs">{}</div>').format(join(figures)))
    if state.unsaved:
        keep = button("Use the ticked pictures as previews", "order", {"order": identity, "press": "keep_previews"})
        pieces.append(button_line(keep))
    return view("job", pieces, {"ended": identity})


def kept_view(kept: KeptPreviews) -> Markup:
    """What became of the pictures that were to be kept."""
    pieces = []
    if kept.names:
        old = f" {format_count(kept.replaced, 'old picture')} went to the trash." if kept.replaced else ""
        embeddings = format_count(len(kept.names), "embedding")
        has, them = ("has its", "it") if len(kept.names) == 1 else ("have their", "them")
        sentence = f"{embeddings} {has} picture now.{old} The web UI's own cards show {them} after Refresh."
        pieces.append(note(sentence, "good"))
    return view("kept", [*pieces, note_list(kept.faults, "bad")])


def grid_view(infotext: str, number: int) -> Markup:
    """A text that the script pastes into txt2img, and what the user can do next.

    number: another one for each answer, since gradio draws none that is equal to the last one.
    """
    sentence = "X/Y/Z plot is set up in txt2img. Look through its axes and click Generate there."
    return view("grid", [note(sentence, "good")], {"text": infotext, "asked": str(number)})


def _summarise(state: PreviewState) -> str:
    outcome = {"done": "Done", "cancelled": "Cancelled", "failed": "Stopped"}.get(state.state, "")
    count = sum(bool(one.subject and one.picture) for one in state.results)
    if not count:
        return f"{outcome}. There is no picture."
    kept = len(state.kept)
    unsaved = f"; {'none' if kept == 0 else f'{kept:,} of them'} saved" if kept < count else "; all of them saved"
    return f"{outcome}: {format_count(count, 'picture')} with an embedding{unsaved}."


def _draw_settings(settings: PictureSettings) -> Markup:
    facts = [settings.sampler, settings.scheduler, format_count(settings.steps, "step")]
    facts += [f"{settings.width} × {settings.height}", f"CFG {settings.guidance:g}", f"seed {settings.seed}"]
    return Markup('<p class="embedmerge-quiet">{}</p>').format(text(", ".join(filter(None, facts)), 300))


def _name(result: MadePicture) -> str:
    return result.subject.path.stem if result.subject else "without"


def _draw_figures(state: PreviewState) -> Iterator[Markup]:
    """A figure for each embedding with a picture: without it on the left, with it on the right."""
    without = next((one.picture for one in state.results if one.subject is None), None)
    for number, result in enumerate(state.results):
        if result.subject is None or result.picture is None:
            continue
        name = _name(result)
        used = result.subject.name
        version = Markup(", with its version {}").format(code(used, 80)) if used != name else ""
        pair = join(
            _draw_picture(picture, label, plain(f"{name}: {label} it", 120))
            for picture, label in ((without, "without"), (result.picture, "with"))
        )
        yield Markup(
            '<figure class="embedmerge-pictured"><div class="embedmerge-pair">{}</div>'
            "<figcaption>{}</figcaption></figure>"
        ).format(pair, _draw_choice(number, result, is_kept=number in state.kept) + version)


def _draw_choice(number: int, result: MadePicture, *, is_kept: bool) -> Markup:
    """The name with a box to tick. The box is empty at first where a picture would be replaced."""
    name = code(_name(result), 80)
    if is_kept:
        return Markup('{} <span class="embedmerge-is-good">saved</span>').format(name)
    replaces = Markup(' <span class="embedmerge-quiet">replaces its picture</span>') if result.has_other else ""
    return Markup(
        '<label><input type="checkbox" class="embedmerge-chosen-result" data-embedmerge-result="{}"{}> {}{}</label>'
    ).format(number, Markup("") if result.has_other else Markup(" checked"), name, replaces)


def _draw_picture(picture: Path | None, label: str, description: str) -> Markup:
    source = _make_source(picture) if picture else ""
    image = Markup('<img src="{}" alt="{}">').format(source, description) if source else Markup("no picture")
    return Markup('<div class="embedmerge-side">{}<span class="embedmerge-quiet">{}</span></div>').format(image, label)


@lru_cache(maxsize=128)
def _make_source(picture: Path) -> str:
    """The address of a small copy of a picture, which is in a folder of its job; empty if it cannot be read."""
    from lib_embedmerge.actions.shelf import make_small_picture  # which needs numpy

    small = make_small_picture(picture)
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode('ascii')}" if small else ""
