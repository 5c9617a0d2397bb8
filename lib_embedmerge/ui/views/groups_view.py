"""Which checkpoints act alike, or can share a file: a matrix of all effects, the groups, and a picture of both."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.effects import BANDS, WHAT_IT_IS, find_band
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import button, folded, join, note, plain, table, text, view
from lib_embedmerge.ui.views.effect_view import draw_share, shorten_checkpoint
from lib_embedmerge.ui.views.groups_picture import draw_groups
from lib_embedmerge.ui.views.job_view import error_note, progress_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.grouping_models import GroupsRequest, ModelGroups
    from lib_embedmerge.actions.library_jobs import LibraryJobState

GROUPED = "grouped"
"""Name of the element that shows groups of checkpoints."""

_LEVELS = {"same": "equal", "slight": "1", "clear": "3", "other": "5"}
"""Word for an effect -> the shade of its cell."""

_ROW = Markup('<tr><th scope="row">%s</th>%s</tr>')
_CELL = Markup('<td class="embedmerge-level-%s" title="%s">%s</td>')
_OWN = Markup("<td>–</td>")


def groups_view(
    identity: str, state: LibraryJobState, groups: ModelGroups | None, request: GroupsRequest, titles: tuple[str, ...]
) -> Markup:
    """The progress or the result of grouping checkpoints.

    identity: the id of the job.  groups: None until it is done.  titles: of the checkpoints, in the order of `groups`.
    """
    if state.state == "running":
        return progress_view(identity, state, GROUPED)
    if groups is None:
        cancelled = [note("Cancelled. Nothing was measured.", "warning")] if state.state == "cancelled" else []
        return view("job", [*cancelled, error_note(state.error)], {"ended": identity})
    names = [shorten_checkpoint(title) for title in titles]
    pieces = [note(_introduce(groups, request), "good"), _draw_matrix(groups, names), _draw_legend()]
    pieces.append(_draw_groups(groups, names))
    pieces.append(_draw_buttons(identity, groups, request))
    pieces += [_draw_picture(groups), note(WHAT_IT_IS, "quiet")]
    return view("job", pieces, {"ended": identity})


def _introduce(groups: ModelGroups, request: GroupsRequest) -> str:
    count = format_count(len(groups.clusters), "group")
    of = "these embeddings" if request.files else "this text" if len(request.words) == 1 else "common words"
    limit = format_percent(groups.limit)
    if request.by == "vectors":
        return (
            f"{count}. The models of a group can share a file: with the vectors of another one, at most {limit} of "
            f"another subject changes, measured with {of}."
        )
    return f"{count}. The models of a group read {of} alike: at most {limit} of another subject lies between two."


def _draw_matrix(groups: ModelGroups, names: list[str]) -> Markup:
    """A table of all checkpoints against each other, with the largest effect in each cell."""
    effects = groups.effects.tolist()
    rows = [
        _ROW
        % (
            text(name, 60),
            join(
                _OWN if row == column else _draw_cell(effects[row][column], name, other)
                for column, other in enumerate(names)
            ),
        )
        for row, name in enumerate(names)
    ]
    heads = ["effect", *names]
    return table("heat", "How differently the checkpoints act, in percent of another subject", heads, rows)


def _draw_cell(effect: float, name: str, other: str) -> Markup:
    band = find_band(effect)
    title = plain(f"{name} and {other}: {band}, {format_percent(effect)} of another subject", 300)
    return _CELL % (_LEVELS[band], title, format_percent(effect))


def _draw_legend() -> Markup:
    words = [*(f"{word}: under {format_percent(bound)}" for bound, word in BANDS), "other: more"]
    shades = [*(_LEVELS[word] for _, word in BANDS), _LEVELS["other"]]
    spans = (
        Markup('<span class="embedmerge-level-{}">{}</span>').format(*entry)
        for entry in zip(shades, words, strict=True)
    )
    return Markup('<p class="embedmerge-legend">{}</p>').format(join(spans, " "))


def _draw_groups(groups: ModelGroups, names: list[str]) -> Markup:
    rows = []
    for number, (cluster, found) in enumerate(zip(groups.clusters, groups.as_json(), strict=True), 1):
        members = join((text(names[index], 60) for index in cluster.members), ", ")
        medoid = names[groups.labels.index(found["medoid"])]
        largest = draw_share(found["largest_effect"]) if len(cluster.members) > 1 else "alone"
        cells = (members, text(medoid, 60), largest)
        rows.append(_ROW % (str(number), join(Markup("<td>{}</td>").format(cell) for cell in cells)))
    columns = ("group", "checkpoints", "make the file for", "largest effect")
    return table("groups", "Groups of checkpoints", columns, rows)


def _draw_buttons(identity: str, groups: ModelGroups, request: GroupsRequest) -> Markup:
    buttons = [button("Save the picture", "download", {"name": "groups.svg", "text": draw_groups(groups)})]
    if request.by == "vectors" and request.files:
        order = {"order": json.dumps([identity]), "press": "rebuild_groups"}
        count = format_count(len(groups.clusters), "version")
        embeddings = format_count(len(request.files), "embedding")
        buttons.insert(0, button(f"Rebuild for these groups: {count} of {embeddings}", "order", order))
    return Markup('<p class="embedmerge-buttons">{}</p>').format(join(buttons, " "))


def _draw_picture(groups: ModelGroups) -> Markup:
    data = base64.b64encode(draw_groups(groups).encode("utf-8")).decode("ascii")
    image = Markup('<div class="embedmerge-scroll"><img src="data:image/svg+xml;base64,{}" alt="{}"></div>').format(
        data, "A tree of the groups beside a map of the effects, which are those of the table above."
    )
    return folded("Picture", image)
