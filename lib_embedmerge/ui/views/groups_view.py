"""Which checkpoints act alike, or can share a file: a matrix of all effects, the groups, and a picture of both."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.effects import BANDS, WHAT_IT_IS, find_band
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import button, button_line, folded, join, note, plain, table, text, view
from lib_embedmerge.ui.views.effect_view import draw_share, shorten_checkpoint
from lib_embedmerge.ui.views.groups_picture import draw_groups
from lib_embedmerge.ui.views.job_view import error_note, progress_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.grouping_models import GroupsRequest, ModelGroups
    from lib_embedmerge.actions.library_jobs import LibraryJobState
    from lib_embedmerge.actions.measuring_jobs import GroupsJob

GROUPED = "grouped"
"""Name of the element that shows groups of checkpoints."""

_LEVELS = {"same": "equal", "slight": "1", "clear": "3", "other": "5"}
"""Word for an effect -> the shade of its cell."""

_ROW = Markup('<tr><th scope="row">%s</th>%s</tr>')
_CELL = Markup('<td class="embedmerge-level-%s" title="%s">%s</td>')
_OWN = Markup("<td>–</td>")


def groups_view(identity: str, state: LibraryJobState, job: GroupsJob) -> Markup:
    """The progress or the result of grouping checkpoints. identity: the id of the job.  state: its progress."""
    if state.state == "running":
        return progress_view(identity, state, GROUPED)
    groups, request, files = job.groups, job.request, len(job.files)
    if groups is None:
        cancelled = [note("Cancelled. Nothing was measured.", "warning")] if state.state == "cancelled" else []
        return view("job", [*cancelled, error_note(state.error)], {"ended": identity})
    names = [shorten_checkpoint(title) for title in job.titles]
    pieces = [note(_introduce(groups, request, files), "good"), _draw_matrix(groups, names), _draw_legend()]
    pieces.append(_draw_groups(groups, names))
    pieces.append(_draw_buttons(identity, groups, request, files))
    pieces += [_draw_picture(groups), note(WHAT_IT_IS, "quiet")]
    return view("job", pieces, {"ended": identity})


def _introduce(groups: ModelGroups, request: GroupsRequest, files: int) -> str:
    count = format_count(len(groups.clusters), "group")
    some = f"{len(request.files)} of these embeddings" if len(request.files) < files else "these embeddings"
    of = some if request.files else "this text" if len(request.words) == 1 else "common words"
    limit = format_percent(groups.limit)
    if request.by == "vectors":
        return (
            f"{count}. The models of a group can share a file: the effect of the vectors of another one is at most "
            f"{limit}, measured with {of}."
        )
    return f"{count}. The models of a group read {of} alike: the effect between any two of them is at most {limit}."


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
    return table("heat", "Effects between the checkpoints, in percent", heads, rows)


def _draw_cell(effect: float, name: str, other: str) -> Markup:
    band = find_band(effect)
    title = plain(f"{name} and {other}: {band}, the effect is {format_percent(effect)}", 300)
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


def _draw_buttons(identity: str, groups: ModelGroups, request: GroupsRequest, files: int) -> Markup:
    buttons = [button("Save the picture", "download", {"name": "groups.svg", "text": draw_groups(groups)})]
    if request.by == "vectors" and request.files:
        order = {"order": json.dumps([identity]), "press": "rebuild_groups"}
        count = format_count(len(groups.clusters), "version")
        embeddings = format_count(files, "embedding")
        buttons.insert(0, button(f"Rebuild for these groups: {count} of {embeddings}", "order", order))
    return button_line(join(buttons, " "))


def _draw_picture(groups: ModelGroups) -> Markup:
    data = base64.b64encode(draw_groups(groups).encode("utf-8")).decode("ascii")
    image = Markup('<div class="embedmerge-scroll"><img src="data:image/svg+xml;base64,{}" alt="{}"></div>').format(
        data, "A tree of the groups beside a map of the effects, which are those of the table above."
    )
    return folded("Picture", image)
