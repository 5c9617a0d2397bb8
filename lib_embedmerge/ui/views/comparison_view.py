"""Checkpoints compared: what it comes to for each pair, maps of how far they are apart, the tokens that differ most."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.differences import format_percent
from lib_embedmerge.errors import escape_unprintable
from lib_embedmerge.tokenizer.vocabulary import make_readable
from lib_embedmerge.ui.html import folded, join, more, note_list, plain, table, text, view

if TYPE_CHECKING:
    from lib_embedmerge.core.differences import Comparison, OutputDifference

MAX_PAIRS = 200

LEVELS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Where one shade of a map ends and the next begins: each some three times as far as the one before, as what matters
goes by orders of magnitude."""

TOKEN_COLUMNS = ("token", "id", "text encoder", "distance")
OUTPUT_COLUMNS = ("checkpoints", "text encoder", "", "distance", "cosine", "pooled cosine")

_Names = Mapping[str, str]
"""What a checkpoint was called when asked for -> what it is called here."""

_SHORT = {"embeddings.position": "position", "final_layer_norm": "norm", "text_projection": "projection"}
_SUFFIX = re.compile(r"\.(safetensors|ckpt|pth?|bin)$", re.IGNORECASE)
_VERDICT = Markup('<p class="embedmerge-note embedmerge-is-{}"><strong>{}</strong> {}</p>')
_ROW = Markup('<tr><th scope="row">%s</th>%s</tr>')
_CELL = Markup('<td class="embedmerge-level-%s" title="%s">%s</td>')
_PLAIN_CELL = Markup("<td>%s</td>")


def comparison_view(comparisons: Sequence[Comparison]) -> Markup:
    """All pairs: the sentences, a map for each text encoder, the outputs in figures, the tokens."""
    pairs = comparisons[:MAX_PAIRS]
    names = _names(pairs)
    pieces = [piece for pair in pairs for piece in (_verdict(pair, names), note_list(pair.warnings))]
    pieces.append(more(len(comparisons) - len(pairs), "pair"))
    maps = [_map(key, pairs, names) for key in ENCODER_TITLES if any(key in pair.token_table for pair in pairs)]
    if maps:
        pieces += [*maps, _legend()]
    rows = [row for pair in pairs for row in _output_rows(pair, names)]
    if rows:
        pieces.append(table("outputs", "Outputs of the text encoders", OUTPUT_COLUMNS, rows))
    pieces += [_tokens(pair, names) for pair in pairs]
    return view("comparison", pieces)


def _names(pairs: Sequence[Comparison]) -> _Names:
    """Checkpoints by their files' names without suffix, or whole where two have the same."""
    whole = list(dict.fromkeys(label for pair in pairs for label in (pair.a, pair.b)))
    short = [_SUFFIX.sub("", re.split(r"[/\\]", label.rstrip("/\\"))[-1]) or label for label in whole]
    return {label: name if short.count(name) == 1 else label for label, name in zip(whole, short, strict=True)}


def _titles(pair: Comparison, names: _Names) -> Markup:
    return Markup("{} – {}").format(text(names[pair.a]), text(names[pair.b]))


def _verdict(pair: Comparison, names: _Names) -> Markup:
    tables = [table.equal for table in pair.token_table.values()]
    layers = [layers.equal for layers in pair.text_encoder.values()]
    is_whole = not any(pair.only.values())
    kind = "quiet" if not tables else "note" if all(tables) else "warning"
    kind = "good" if kind == "note" and all(layers) and is_whole else kind
    return _VERDICT.format(kind, _titles(pair, names), text(pair.verdict, 1000))


def _map(key: str, pairs: Sequence[Comparison], names: _Names) -> Markup:
    """A row for each pair that has this text encoder, a column for each of its layers."""
    own = [pair for pair in pairs if key in pair.token_table]
    layers = max(([layer.name for layer in pair.text_encoder[key].layers] for pair in own), key=len)
    cells = [_cells(key, pair) for pair in own]
    outputs = [column for column in ("output", "rebuilt") if any(column in row for row in cells)]
    columns = ["tokens", "all layers", *outputs, *layers]  # what matters most is seen without scrolling
    rows = [
        _ROW % (_titles(pair, names), join(row.get(column, _PLAIN_CELL % "") for column in columns))
        for pair, row in zip(own, cells, strict=True)
    ]
    heads = ["", *(_SHORT.get(column, column.removeprefix("layer ")) for column in columns)]
    title = ENCODER_TITLES[key]
    return Markup(
        '<section class="embedmerge-encoder" aria-label="{0}"><h4 class="embedmerge-heading">{0} '
        '<span class="embedmerge-quiet">distance in percent, layer by layer</span></h4>{1}</section>'
    ).format(title, table("heat", f"{title}: distances", heads, rows))


def _cells(key: str, pair: Comparison) -> dict[str, Markup]:
    """Column -> cell."""
    tokens, layers = pair.token_table[key], pair.text_encoder[key]
    told = (
        f"{tokens.rows_differing:,} of {tokens.rows:,} tokens differ, by at most {format_percent(tokens.max_distance)}"
    )
    cells = {"tokens": _cell(tokens.max_distance, told if tokens.rows_differing else "All tokens are equal")}
    for layer in layers.layers:
        cells[layer.name] = _cell(layer.distance, f"{layer.name}: {format_percent(layer.distance)}")
    cells["all layers"] = _cell(layers.distance, f"all layers together: {format_percent(layers.distance)}")
    for column, outputs in (("output", pair.outputs), ("rebuilt", pair.outputs_rebuilt)):
        if outputs and key in outputs:
            cells[column] = _cell(outputs[key].relative_l2, f"{column}: {format_percent(outputs[key].relative_l2)}")
    return cells


def _cell(distance: float | None, title: str) -> Markup:
    return _CELL % (_level(distance), title, _figure(distance))


def _level(distance: float | None) -> str:
    """The end of the class that gives a distance its shade."""
    if distance is None:
        return "unknown"
    return "equal" if distance == 0 else str(bisect_right(LEVELS, distance))


def _figure(distance: float | None) -> str:
    """A distance in percent, in as few characters as will do."""
    if distance is None:
        return "?"
    return "=" if distance == 0 else format_percent(distance).removesuffix("%").replace("under 0.01", "<0.01")


def _legend() -> Markup:
    steps = [f"{level:.1%}".replace(".0%", "%") for level in LEVELS]
    ranges = [f"{low} to {high}" for low, high in pairwise(steps)]
    labels = {"equal": "= equal", "0": f"under {steps[0]}"}
    labels |= {str(place): label for place, label in enumerate(ranges, 1)}
    labels |= {str(len(LEVELS)): f"{steps[-1]} and more", "unknown": "? not known"}
    spans = (Markup('<span class="embedmerge-level-{}">{}</span>').format(*entry) for entry in labels.items())
    return Markup('<p class="embedmerge-legend">{}</p>').format(join(spans, " "))


def _output_rows(pair: Comparison, names: _Names) -> Iterator[Markup]:
    for what, outputs in (("as it is", pair.outputs), ("rebuilt", pair.outputs_rebuilt)):
        for key, output in (outputs or {}).items():
            cells = (ENCODER_TITLES[key], what, *_output_figures(key, output))
            yield _ROW % (_titles(pair, names), join(_PLAIN_CELL % cell for cell in cells))


def _output_figures(key: str, output: OutputDifference) -> Iterator[str]:
    yield format_percent(output.relative_l2)
    yield _cosine(output.cosine)
    yield _cosine(output.pooled_cosine) if key == "clip_g" else ""


def _cosine(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}".replace("-", "−")


def _tokens(pair: Comparison, names: _Names) -> Markup:
    rows = [
        _ROW
        % (
            Markup("<bdi>%s</bdi>") % escape_unprintable(make_readable(token.token)[:40]),
            join(_PLAIN_CELL % cell for cell in (f"{token.id}", ENCODER_TITLES[key], format_percent(token.distance))),
        )
        for key, found in pair.token_table.items()
        for token in found.top
    ]
    if not rows:
        return Markup("")
    title = f"Tokens that differ most: {plain(names[pair.a])} – {plain(names[pair.b])}"
    return folded(title, table("tokens", title, TOKEN_COLUMNS, rows))
