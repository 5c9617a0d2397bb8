"""The comparison of checkpoints: a verdict for each pair, a map of distances for each text encoder, and the tokens that
differ most."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.errors import escape_unprintable
from lib_embedmerge.tokenizer.vocabulary import make_readable
from lib_embedmerge.ui.html import folded, join, more, note_list, plain, table, text, view

if TYPE_CHECKING:
    from lib_embedmerge.core.differences import Comparison, OutputDifference

MAX_PAIRS = 200

LEVELS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Distances at which one shade of a map ends and the next begins. Each is about three times the one before, because
distances differ by orders of magnitude."""

TOKEN_COLUMNS = ("token", "id", "text encoder", "distance")
OUTPUT_COLUMNS = ("checkpoints", "text encoder", "", "distance", "cosine", "pooled cosine")

_Names = Mapping[str, str]
"""Label of a checkpoint in the comparison -> its name in this view."""

_SHORT = {"embeddings.position": "position", "final_layer_norm": "norm", "text_projection": "projection"}
_SUFFIX = re.compile(r"\.(safetensors|ckpt|pth?|bin)$", re.IGNORECASE)
_VERDICT = Markup('<p class="embedmerge-note embedmerge-is-{}"><strong>{}</strong> {}</p>')
_ROW = Markup('<tr><th scope="row">%s</th>%s</tr>')
_CELL = Markup('<td class="embedmerge-level-%s" title="%s">%s</td>')
_PLAIN_CELL = Markup("<td>%s</td>")


def comparison_view(comparisons: Sequence[Comparison]) -> Markup:
    """All pairs: the verdicts, a map for each text encoder, a table of the differences of outputs, the tokens.

    Of several pairs, first a matrix of all checkpoints and a sentence for each pair; everything else opens on a click.
    """
    pairs = comparisons[:MAX_PAIRS]
    names = _shorten_labels(pairs)
    if len(pairs) > 1:
        verdicts = [_draw_pair(pair, names) for pair in pairs]
        left_out = more(len(comparisons) - len(pairs), "pair")
        details = Markup('<div class="embedmerge-stack">{}</div>').format(join(_list_details(pairs, names)))
        shown = [_draw_matrix(pairs, names), *verdicts, left_out, folded("Distances, layer by layer", details)]
        return view("comparison", shown)
    pieces = [piece for pair in pairs for piece in (_draw_verdict(pair, names), note_list(pair.warnings))]
    return view("comparison", [*pieces, *_list_details(pairs, names), *(_draw_tokens(pair, names) for pair in pairs)])


def _list_details(pairs: Sequence[Comparison], names: _Names) -> Iterator[Markup]:
    """A map of distances for each text encoder, and a table of the differences of outputs."""
    maps = [_draw_map(key, pairs, names) for key in ENCODER_TITLES if any(key in pair.token_table for pair in pairs)]
    if maps:
        yield from (*maps, _draw_legend())
    rows = [row for pair in pairs for row in _draw_output_rows(pair, names)]
    if rows:
        yield table("outputs", "Outputs of the text encoders", OUTPUT_COLUMNS, rows)


def _draw_matrix(pairs: Sequence[Comparison], names: _Names) -> Markup:
    """A table of all checkpoints against each other, with the largest distance of a token in each cell."""
    labels = list(dict.fromkeys(label for pair in pairs for label in (pair.a, pair.b)))
    cells: dict[tuple[str, str], Markup] = {}
    for pair in pairs:
        cells[pair.a, pair.b] = cells[pair.b, pair.a] = _draw_matrix_cell(pair)
    own = _PLAIN_CELL % "–"
    rows = [
        _ROW % (text(names[a], 60), join(own if a == b else cells.get((a, b), _PLAIN_CELL % "") for b in labels))
        for a in labels
    ]
    heads = ["tokens", *(plain(names[label], 60) for label in labels)]
    return table("heat", "How far the tokens of the checkpoints are apart, in percent", heads, rows) + _draw_legend()


def _draw_matrix_cell(pair: Comparison) -> Markup:
    tables = pair.token_table.values()
    if not tables:
        return _CELL % ("unknown", plain(pair.verdict, 600), "none")
    differing = [table.max_distance for table in tables if table.rows_differing]
    farthest = None if None in differing else max((distance for distance in differing if distance), default=0.0)
    return _CELL % (_find_level(farthest), plain(pair.verdict, 600), _format_distance(farthest))


def _draw_pair(pair: Comparison, names: _Names) -> Markup:
    """The verdict of a pair. A click shows its warnings and the tokens that differ most."""
    warnings = folded("What limits this comparison", note_list(pair.warnings)) if pair.warnings else Markup("")
    return join([_draw_verdict(pair, names), warnings, _draw_tokens(pair, names)])


def _shorten_labels(pairs: Sequence[Comparison]) -> _Names:
    """Names of the checkpoints: file names without suffix, or the whole labels if two have the same file name."""
    whole = list(dict.fromkeys(label for pair in pairs for label in (pair.a, pair.b)))
    short = [_SUFFIX.sub("", re.split(r"[/\\]", label.rstrip("/\\"))[-1]) or label for label in whole]
    return {label: name if short.count(name) == 1 else label for label, name in zip(whole, short, strict=True)}


def _draw_title(pair: Comparison, names: _Names) -> Markup:
    return Markup("{} – {}").format(text(names[pair.a]), text(names[pair.b]))


def _draw_verdict(pair: Comparison, names: _Names) -> Markup:
    tables = [table.equal for table in pair.token_table.values()]
    layers = [layers.equal for layers in pair.text_encoder.values()]
    is_whole = not any(pair.only.values())
    kind = "quiet" if not tables else "note" if all(tables) else "warning"
    kind = "good" if kind == "note" and all(layers) and is_whole else kind
    return _VERDICT.format(kind, _draw_title(pair, names), text(pair.verdict, 1000))


def _draw_map(key: str, pairs: Sequence[Comparison], names: _Names) -> Markup:
    """A table with a row for each pair that has this text encoder and a column for each of its layers."""
    own = [pair for pair in pairs if key in pair.token_table]
    layers = max(([layer.name for layer in pair.text_encoder[key].layers] for pair in own), key=len)
    cells = [_draw_cells(key, pair) for pair in own]
    outputs = [column for column in ("output", "rebuilt") if any(column in row for row in cells)]
    columns = ["tokens", "all layers", *outputs, *layers]  # the most important columns are visible without scrolling
    rows = [
        _ROW % (_draw_title(pair, names), join(row.get(column, _PLAIN_CELL % "") for column in columns))
        for pair, row in zip(own, cells, strict=True)
    ]
    heads = ["", *(_SHORT.get(column, column.removeprefix("layer ")) for column in columns)]
    title = ENCODER_TITLES[key]
    return Markup(
        '<section class="embedmerge-encoder" aria-label="{0}"><h4 class="embedmerge-heading">{0} '
        '<span class="embedmerge-quiet">distance in percent, layer by layer</span></h4>{1}</section>'
    ).format(title, table("heat", f"{title}: distances", heads, rows))


def _draw_cells(key: str, pair: Comparison) -> dict[str, Markup]:
    """Column -> cell, for one pair and one text encoder."""
    tokens, layers = pair.token_table[key], pair.text_encoder[key]
    summary = (
        f"{tokens.rows_differing:,} of {tokens.rows:,} tokens differ, by at most {format_percent(tokens.max_distance)}"
    )
    cells = {"tokens": _draw_cell(tokens.max_distance, summary if tokens.rows_differing else "All tokens are equal")}
    for layer in layers.layers:
        cells[layer.name] = _draw_cell(layer.distance, f"{layer.name}: {format_percent(layer.distance)}")
    cells["all layers"] = _draw_cell(layers.distance, f"all layers together: {format_percent(layers.distance)}")
    for column, outputs in (("output", pair.outputs), ("rebuilt", pair.outputs_rebuilt)):
        if outputs and key in outputs:
            cells[column] = _draw_cell(
                outputs[key].relative_l2, f"{column}: {format_percent(outputs[key].relative_l2)}"
            )
    return cells


def _draw_cell(distance: float | None, title: str) -> Markup:
    return _CELL % (_find_level(distance), title, _format_distance(distance))


def _find_level(distance: float | None) -> str:
    """The last part of the CSS class that gives a distance its shade."""
    if distance is None:
        return "unknown"
    return "equal" if distance == 0 else str(bisect_right(LEVELS, distance))


def _format_distance(distance: float | None) -> str:
    """A distance in percent, as short as possible: `=` for none, `?` for one that is not known."""
    if distance is None:
        return "?"
    return "=" if distance == 0 else format_percent(distance).removesuffix("%").replace("under 0.01", "<0.01")


def _draw_legend() -> Markup:
    steps = [f"{level:.1%}".replace(".0%", "%") for level in LEVELS]
    ranges = [f"{low} to {high}" for low, high in pairwise(steps)]
    labels = {"equal": "= equal", "0": f"under {steps[0]}"}
    labels |= {str(level): label for level, label in enumerate(ranges, 1)}
    labels |= {str(len(LEVELS)): f"{steps[-1]} and more", "unknown": "? not known"}
    spans = (Markup('<span class="embedmerge-level-{}">{}</span>').format(*entry) for entry in labels.items())
    return Markup('<p class="embedmerge-legend">{}</p>').format(join(spans, " "))


def _draw_output_rows(pair: Comparison, names: _Names) -> Iterator[Markup]:
    for kind, outputs in (("as it is", pair.outputs), ("rebuilt", pair.outputs_rebuilt)):
        for key, output in (outputs or {}).items():
            cells = (ENCODER_TITLES[key], kind, *_format_output(key, output))
            yield _ROW % (_draw_title(pair, names), join(_PLAIN_CELL % cell for cell in cells))


def _format_output(key: str, output: OutputDifference) -> Iterator[str]:
    yield format_percent(output.relative_l2)
    yield _format_cosine(output.cosine)
    yield _format_cosine(output.pooled_cosine) if key == "clip_g" else ""


def _format_cosine(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}".replace("-", "−")


def _draw_tokens(pair: Comparison, names: _Names) -> Markup:
    rows = [
        _ROW
        % (
            Markup("<bdi>%s</bdi>") % escape_unprintable(make_readable(token.token)[:40]),
            join(_PLAIN_CELL % cell for cell in (f"{token.id}", ENCODER_TITLES[key], format_percent(token.distance))),
        )
        for key, tokens in pair.token_table.items()
        for token in tokens.top
    ]
    if not rows:
        return Markup("")
    title = f"Tokens that differ most: {plain(names[pair.a])} – {plain(names[pair.b])}"
    return folded(title, table("tokens", title, TOKEN_COLUMNS, rows))
