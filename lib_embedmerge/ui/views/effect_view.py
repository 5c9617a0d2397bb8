"""Effects of embeddings on other models: the results of measuring them, and badges for the entries of the library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.effects import WHAT_IT_IS, Band, find_band
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import join, more, note, note_list, plain, table, text, view
from lib_embedmerge.ui.views.job_view import error_note, progress_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.library_effects import KnownEffect
    from lib_embedmerge.actions.library_jobs import LibraryJobState
    from lib_embedmerge.core.effect_answers import LibraryEffectAnswer, OtherModelAnswer

MEASURED = "measured"
"""Name of the element that shows measurements of the library."""

MAX_RESULTS = 500

TONES: dict[Band, str] = {"same": "good", "slight": "good", "clear": "warning", "other": "bad"}
"""Word for an effect -> the kind of note or badge that says it."""

_ENDING = re.compile(r"\.(safetensors|ckpt|pth?|bin)( \[[0-9a-f]+\])?$", re.IGNORECASE)
_CELL = Markup('<td title="%s">%s</td>')
_BADGE = Markup('<span class="embedmerge-badge embedmerge-of-effect embedmerge-is-{}" title="{}">{}</span>')


def library_effect_view(identity: str, state: LibraryJobState) -> Markup:
    """The progress or the results of measuring embeddings of the library. identity: the id of the job."""
    if state.state == "running":
        return progress_view(identity, state, MEASURED)
    results: Sequence[LibraryEffectAnswer] = state.results
    measured = sum(any(one["effect"] is not None for one in result["effects"]) for result in results)
    tones = {"done": "good" if measured == len(results) else "warning", "cancelled": "warning"}
    pieces = [note(_introduce(state, measured), tones.get(state.state, "bad"))]
    pieces.append(error_note(state.error))
    if results:
        columns = ("embedding", *(shorten_checkpoint(one["checkpoint"]) for one in results[0]["effects"]))
        rows = [_draw_result(result) for result in results[:MAX_RESULTS]]
        pieces.append(table("effects", "Effects on other models", columns, rows))
        pieces.append(more(len(results) - len(rows), "embedding"))
        reasons = dict.fromkeys(one["reason"] for result in results for one in result["effects"] if one["reason"])
        pieces += [note_list([reason for reason in reasons if reason]), note(WHAT_IT_IS, "quiet")]
    return view("job", pieces, {"ended": identity})


def draw_share(effect: float) -> Markup:
    """An effect as its word, in the colour of it, and its share: `slight 2.1%`."""
    band = find_band(effect)
    return Markup('<strong class="embedmerge-verdict embedmerge-is-{}">{}</strong> {}').format(
        TONES[band], band, format_percent(effect)
    )


def effect_badge(effects: Sequence[KnownEffect]) -> Markup:
    """The largest effect of an embedding on other models, for its entry, with the model if it is the only one.

    The tooltip has all of them.
    """
    if not effects:
        return Markup("")
    largest = find_largest(effects)
    band = find_band(largest.effect)
    others = {one.checkpoint for one in effects if one.remade == largest.remade}
    where = shorten_checkpoint(largest.checkpoint, 24) if len(others) == 1 else f"{len(others)} others"
    lines = [f"{shorten_checkpoint(one.checkpoint)}: {find_band(one.effect)}, {_format(one)}" for one in effects]
    tooltip = "\n".join([*lines[:20], WHAT_IT_IS])
    return _BADGE.format(TONES[band], plain(tooltip, 2000), f"{where}: {band} {format_percent(largest.effect)}")


def find_largest(effects: Sequence[KnownEffect]) -> KnownEffect:
    """The largest effect of the file as it is; if only effects after a rebuild are known, the largest of these."""
    as_it_is = [one for one in effects if not one.remade]
    return max(as_it_is or effects, key=lambda one: one.effect)


def _introduce(state: LibraryJobState, count: int) -> str:
    """count: of the embeddings that have an effect."""
    failed = len(state.results) - count
    measured = f"{format_count(count, 'embedding')} measured."
    measured += f" {format_count(failed, 'embedding')} could not be measured." if failed else ""
    return {"done": measured, "cancelled": f"Cancelled. {measured}"}.get(state.state, "Stopped.")


def _draw_result(result: LibraryEffectAnswer) -> Markup:
    cells = join(_draw_cell(one) for one in result["effects"])
    return Markup('<tr><th scope="row">{}</th>{}</tr>').format(text(result["name"], 80), cells)


def _draw_cell(answer: OtherModelAnswer) -> Markup:
    if answer["effect"] is None:
        return _CELL % (plain(answer["reason"] or "", 400), "not measured")
    return _CELL % (repr(answer["effect"]), draw_share(answer["effect"]))


def _format(known: KnownEffect) -> str:
    return f"the effect is {format_percent(known.effect)}{' after a rebuild' if known.remade else ''}"


def shorten_checkpoint(checkpoint: str, most: int = 60) -> str:
    """The title or the file name of a checkpoint, without its ending, for people."""
    name = _ENDING.sub("", checkpoint) or checkpoint
    return plain(name if len(name) <= most else f"{name[: most - 1]}…", most)
