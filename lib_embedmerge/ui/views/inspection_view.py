"""An inspected embedding: its origin, whether it fits the active model, its recipe, its vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.errors import format_count
from lib_embedmerge.lang.typed import as_typed
from lib_embedmerge.ui.html import (
    IMPROVE,
    MAKE_AGAIN,
    USE,
    button,
    code,
    figure,
    join,
    metadata_table,
    note,
    note_list,
    number_cells,
    plain,
    table,
    text,
    view,
)
from lib_embedmerge.ui.views.error_view import error_view
from lib_embedmerge.ui.views.noted_view import list_sidecar_facts, notes_form
from lib_embedmerge.ui.views.vectors_view import vectors_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import Inspection, ModelTag
    from lib_embedmerge.recipes.fit import Fit

MAX_RECIPE = 2000


def inspection_view(inspection: Inspection) -> Markup:
    """All that is known of an embedding, the most important first."""
    title = Markup('<p class="embedmerge-line"><strong class="embedmerge-title">{}</strong>{}</p>').format(
        text(inspection.name), _draw_fact(format_count(inspection.count, "vector"))
    )
    pieces = [title, _draw_facts(inspection), _draw_fit(inspection)]
    if inspection.recipe is not None:
        pieces.append(_draw_recipe(inspection.recipe))
    pieces.append(note_list(inspection.warnings))
    if inspection.flaws:
        pieces.append(_draw_flaws(inspection))
    if inspection.place and inspection.model:
        notes = inspection.tag.notes_by_model if inspection.tag else {}
        pieces.append(notes_form(inspection.place, notes, inspection.model))
    pieces.append(metadata_table(inspection.metadata))
    if inspection.encoders:
        pieces.append(vectors_view(inspection.encoders))
    model = plain(inspection.model.title) if inspection.model else ""
    return view("inspection", pieces, {"place": inspection.place, "model": model})


def fix_button(label: str, name: str, *, replace: bool = False) -> Markup:
    """A button that saves a copy without flaws. name: in the library, empty for the file that was dropped.

    replace: whether the copy may replace a file.
    """
    return button(label, "fix", {"name": name, "agreed": "yes" if replace else ""})


def _draw_flaws(inspection: Inspection) -> Markup:
    """What is wrong with the vectors, with a button if some of it can be fixed."""
    fix = Markup("")
    if inspection.fixed_name:
        name = inspection.name if inspection.path else ""
        fix = fix_button(f"Save a copy without this as {plain(inspection.fixed_name, 60)}", name)
    sentences = join(Markup("<p>{}</p>").format(text(flaw.sentence)) for flaw in inspection.flaws)
    return Markup(
        '<div class="embedmerge-note embedmerge-is-warning" role="status">{}<p class="embedmerge-buttons">{}</p></div>'
    ).format(sentences, fix)


def _draw_fact(value: str) -> Markup:
    return Markup('<span class="embedmerge-fact">{}</span>').format(value)


def _draw_facts(inspection: Inspection) -> Markup:
    location = code(str(inspection.path), 400) if inspection.path else code(inspection.file_name, 200)
    facts = [("File", location), ("Model family", text(inspection.architecture))]
    facts += _list_tag_facts(inspection.tag) if inspection.tag else [("Tag", text("none"))]
    facts += [(text(name, 40), text(value, 200)) for name, value in inspection.facts.items()]
    if inspection.sidecar:
        facts.append(("Other tools say", join(list_sidecar_facts(inspection.sidecar), " · ")))
    rows = join(Markup("<dt>{}</dt><dd>{}</dd>").format(label, value) for label, value in facts)
    return Markup('<dl class="embedmerge-facts">{}</dl>').format(rows)


def _list_tag_facts(tag: ModelTag) -> Iterator[tuple[str, Markup]]:
    model = tag.made_for or tag.file_name
    tool = " ".join(piece for piece in (tag.tool, tag.version) if piece)
    negative = {True: "yes", False: "no", None: None}[tag.negative]
    facts = (
        ("Made for", model),
        ("Prediction", tag.prediction_type),
        ("Made with", tool),
        ("Date", tag.date),
        ("For negative prompts", negative),
    )
    yield from ((label, text(value)) for label, value in facts if value)
    if tag.notes:
        yield "Notes", text(tag.notes, 1000)


def _draw_fit(inspection: Inspection) -> Markup:
    if inspection.fit is not None:
        return _draw_measured_fit(inspection, inspection.fit)
    if inspection.fit_error is not None:
        return error_view(inspection.fit_error, "status")
    return note("No model is loaded to compare it with.", "quiet")


def _draw_measured_fit(inspection: Inspection, fit: Fit) -> Markup:
    kind = fit.status.tone
    distances = Markup("")
    if fit.distances:
        rows = (
            Markup('<tr><th scope="row">{}</th><td title="{}">{}</td>{}</tr>').format(
                text(ENCODER_TITLES.get(key, key), 40),
                repr(distance.relative_l2),
                _format_percent(distance.relative_l2),
                number_cells([distance.cosine]),
            )
            for key, distance in fit.distances.items()
        )
        distances = table("distances", "Distance by text encoder", ("text encoder", "apart", "cosine"), rows)
    return Markup(
        '<div class="embedmerge-note embedmerge-is-{}" role="status"><p><strong class="embedmerge-verdict">{}</strong> '
        '{}</p><p>{}</p>{}<p class="embedmerge-buttons">{}</p></div>'
    ).format(
        kind,
        text(fit.status.capitalize()),
        text(fit.detail, 1000),
        fit.advice,
        distances,
        join(_list_fit_buttons(inspection, fit.status)),
    )


def _list_fit_buttons(inspection: Inspection, status: FitStatus) -> Iterator[Markup]:
    """What can be done about a verdict. Only for files of the library, because prompts can use no others."""
    place, tag = inspection.place, inspection.tag
    if not place:
        return
    order = {"order": json.dumps([place])}
    if status == FitStatus.DIFFERS and tag and tag.recipe:
        yield button("Make for this model", "order", {**order, "press": "remake"}, tooltip=MAKE_AGAIN)
    elif status in {FitStatus.FROM_ROWS, FitStatus.UNKNOWN_ORIGIN}:
        yield button("Find its text", "order", {**order, "press": "recover"})
    if status != FitStatus.OTHER_ARCHITECTURE:
        yield button("Use in prompt", "use", {"name": inspection.name}, tooltip=USE)
        yield button("Compress, port, repair…", "improve", {"place": place}, tooltip=IMPROVE)


def _format_percent(share: float) -> str:
    return f"{share:.2%}" if share - share == 0 else figure(share)


def _draw_recipe(recipe: str) -> Markup:
    return Markup(
        '<div class="embedmerge-recipe"><span class="embedmerge-label">Recipe</span>{}'
        '<span class="embedmerge-buttons">{}</span></div>'
    ).format(code(recipe, MAX_RECIPE), button("Open in the text box", "edit", {"text": as_typed(recipe)}))
