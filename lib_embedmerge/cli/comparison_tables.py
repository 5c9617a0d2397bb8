"""The result of `compare` drawn for people, with rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib_embedmerge.cli.tables import plain
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.differences import percent

Json = Mapping[str, Any]

_STYLES = ((0.1, "red"), (0.01, "yellow"))


def compared(result: list[Json]) -> RenderableType:
    """Each pair under its names and its verdict."""
    return Group(*(piece for pair in result for piece in _pair(pair)))


def _pair(pair: Json) -> Iterator[RenderableType]:
    yield Text.assemble((plain(pair["a"]).plain, "bold"), " and ", (plain(pair["b"]).plain, "bold"))
    yield plain(pair["verdict"])
    yield from (Text.assemble(("note: ", "yellow"), plain(note)) for note in pair["notes"])
    for title, outputs in (("outputs", pair["outputs"]), ("outputs, rebuilt", pair["outputs_rebuilt"])):
        if outputs:
            yield _outputs(title, outputs)
    if pair["text_encoder"]:
        yield _layers(pair)
    for key, table in pair["token_table"].items():
        if table["top"]:
            yield _tokens(f"{ENCODER_TITLES[key]}: tokens that differ most", table["top"])
    yield Text()


def _layers(pair: Json) -> Table:
    """One row for each layer, one column for each text encoder."""
    table = _table("relative distance", "")
    rows: dict[str, dict[str, float | None]] = {"token table": {}}
    for key, layers in pair["text_encoder"].items():
        table.add_column(ENCODER_TITLES[key], justify="right")
        rows["token table"][key] = pair["token_table"][key]["max_distance"]
        for layer in layers["layers"]:
            rows.setdefault(layer["name"], {})[key] = layer["distance"]
    for name, distances in rows.items():
        cells = (_distance(distances[key]) if key in distances else Text() for key in pair["text_encoder"])
        table.add_row("token table, at most" if name == "token table" else name, *cells)
    return table


def _outputs(title: str, outputs: Json) -> Table:
    table = _table(title, "")
    for column in ("distance", "cosine", "pooled cosine"):
        table.add_column(column, justify="right")
    for key, output in outputs.items():
        cosines = (_cosine(output[name]) if name in output else "" for name in ("cosine", "pooled_cosine"))
        table.add_row(ENCODER_TITLES[key], _distance(output["relative_l2"]), *cosines)
    return table


def _tokens(title: str, tokens: list[Json]) -> Table:
    table = _table(title, "token")
    for column in ("id", "distance"):
        table.add_column(column, justify="right")
    for token in tokens:
        table.add_row(plain(token["token"].removesuffix("</w>")), str(token["id"]), _distance(token["distance"]))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, min_width=36)
    table.add_column(first)
    return table


def _distance(value: float | None) -> Text:
    style = next((style for least, style in _STYLES if value is not None and value >= least), "")
    return Text(percent(value), style=style)


def _cosine(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"
