"""Draw the result of `compare` with rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.answers import CompareAnswer, Figures, TokenDistanceAnswer
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.tokenizer.vocabulary import make_readable

_STYLES = ((0.1, "red"), (0.01, "yellow"))


def draw_comparison(result: list[CompareAnswer], *, verbose: bool = False) -> RenderableType:
    """Names, verdict and tables of two checkpoints. For more than two a matrix; with `verbose` also each pair."""
    pairs = [piece for pair in result for piece in _draw_pair(pair)]
    if len(result) == 1:
        return Group(*pairs)
    return Group(*_draw_matrix(result), *(pairs if verbose else [as_plain_text("--verbose shows each pair.")]))


def _draw_matrix(result: list[CompareAnswer]) -> Iterator[RenderableType]:
    """A table of all pairs: the share of tokens that differ, and the distance of the layer that differs most."""
    labels = list(dict.fromkeys(label for pair in result for label in (pair["a"], pair["b"])))
    yield from (as_plain_text(f"{number}  {label}") for number, label in enumerate(labels, 1))
    table = _make_table("tokens that differ; the layer that differs most", "")
    for number in range(1, len(labels)):
        table.add_column(str(number), justify="right")
    cells = {frozenset((pair["a"], pair["b"])): _draw_cell(pair) for pair in result}
    for row, label in enumerate(labels[1:], 2):
        table.add_row(str(row), *(cells[frozenset((label, other))] for other in labels[: row - 1]))
    yield table


def _draw_cell(pair: CompareAnswer) -> Text:
    """A line for each text encoder that both checkpoints have, and one for all that only one of them has."""
    lines = []
    for key, table in pair["token_table"].items():
        distances = [layer["distance"] for layer in pair["text_encoder"][key]["layers"]]
        worst = max((distance for distance in distances if distance is not None), default=None)
        share = table["rows_differing"] / max(1, table["rows"])
        if not share and worst == 0:
            lines.append(Text(f"{ENCODER_TITLES[key]} equal", style="green"))
        else:
            lines.append(Text.assemble(f"{ENCODER_TITLES[key]} {format_percent(share)}; ", _draw_distance(worst)))
    if alone := [ENCODER_TITLES[key] for key in (*pair["only_a"], *pair["only_b"])]:
        lines.append(Text(f"{' and '.join(alone)} only in one", style="red"))
    return Text("\n").join(lines)


def _draw_pair(pair: CompareAnswer) -> Iterator[RenderableType]:
    yield Text.assemble((as_plain_text(pair["a"]).plain, "bold"), " and ", (as_plain_text(pair["b"]).plain, "bold"))
    yield as_plain_text(pair["verdict"])
    yield from (Text.assemble(("note: ", "yellow"), as_plain_text(note)) for note in pair["notes"])
    for title, outputs in (("outputs", pair["outputs"]), ("outputs, rebuilt", pair["outputs_rebuilt"])):
        if outputs:
            yield _draw_outputs(title, outputs)
    if pair["text_encoder"]:
        yield _draw_layers(pair)
    for key, table in pair["token_table"].items():
        if table["top"]:
            yield _draw_tokens(f"{ENCODER_TITLES[key]}: tokens that differ most", table["top"])
    yield Text()


def _draw_layers(pair: CompareAnswer) -> Table:
    """A table with a row for each layer and a column for each text encoder."""
    table = _make_table("relative distance", "")
    rows: dict[str, dict[str, float | None]] = {"token table": {}}
    for key, layers in pair["text_encoder"].items():
        table.add_column(ENCODER_TITLES[key], justify="right")
        rows["token table"][key] = pair["token_table"][key]["max_distance"]
        for layer in layers["layers"]:
            rows.setdefault(layer["name"], {})[key] = layer["distance"]
    for name, distances in rows.items():
        cells = (_draw_distance(distances[key]) if key in distances else Text() for key in pair["text_encoder"])
        table.add_row("token table, at most" if name == "token table" else name, *cells)
    return table


def _draw_outputs(title: str, outputs: Mapping[str, Figures]) -> Table:
    table = _make_table(title, "")
    for column in ("distance", "cosine", "pooled cosine"):
        table.add_column(column, justify="right")
    for key, output in outputs.items():
        cosines = (_format_cosine(output[name]) if name in output else "" for name in ("cosine", "pooled_cosine"))
        table.add_row(ENCODER_TITLES[key], _draw_distance(output["relative_l2"]), *cosines)
    return table


def _draw_tokens(title: str, tokens: list[TokenDistanceAnswer]) -> Table:
    table = _make_table(title, "token")
    for column in ("id", "distance"):
        table.add_column(column, justify="right")
    for token in tokens:
        table.add_row(as_plain_text(make_readable(token["token"])), str(token["id"]), _draw_distance(token["distance"]))
    return table


def _make_table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, min_width=36)
    table.add_column(first)
    return table


def _draw_distance(value: float | None) -> Text:
    style = next((style for least, style in _STYLES if value is not None and value >= least), "")
    return Text(format_percent(value), style=style)


def _format_cosine(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"
