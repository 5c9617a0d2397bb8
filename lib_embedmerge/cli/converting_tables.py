"""Draw the result of `convert` with rich."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.answers import ConvertAnswer
from lib_embedmerge.core.recovery_answers import CarriedAnswer
from lib_embedmerge.errors import format_count


def draw_conversions(result: Sequence[ConvertAnswer] | Sequence[CarriedAnswer]) -> RenderableType:
    """A table with a row for each file, and their warnings."""
    carried = [answer for answer in result if "certainty" in answer]
    if carried:
        return _draw_carried(cast("Sequence[CarriedAnswer]", carried))
    return _draw_converted(cast("Sequence[ConvertAnswer]", result))


def _draw_carried(result: Sequence[CarriedAnswer]) -> RenderableType:
    """Those that were made for another architecture: how certain their words are, and the new files."""
    table = Table(title=format_count(len(result), "file"), title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("embedding", "status", "certainty", "text", "file or reason"):
        table.add_column(column, overflow="fold")
    for answer in result:
        certainty = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in answer["certainty"].items() if count
        )
        cells = (Path(answer["source"]).name, answer["status"], certainty, answer["text"] or "")
        table.add_row(*map(as_plain_text, (*cells, answer["file"] or answer["reason"])))
    warnings = [(Path(answer["source"]).name, warning) for answer in result for warning in answer["warnings"]]
    return Group(table, *_draw_warnings(warnings))


def _draw_converted(result: Sequence[ConvertAnswer]) -> RenderableType:
    table = Table(title=f"Converted {len(result)}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("vectors", justify="right")
    for column in ("for", "from", "form", "file"):
        table.add_column(column, overflow="fold")
    for converted in result:
        sources = " and ".join(Path(source).name for source in converted["sources"])
        table.add_row(
            str(converted["vectors"]),
            *map(as_plain_text, (converted["architecture"], sources, converted["form"], converted["file"])),
        )
    warnings = [(converted["name"], warning) for converted in result for warning in converted["warnings"]]
    return Group(table, *_draw_warnings(warnings))


def _draw_warnings(warnings: Sequence[tuple[str, str]]) -> list[Text]:
    return [Text.assemble(("warning: ", "yellow"), as_plain_text(f"{name}: {warning}")) for name, warning in warnings]
