"""Draw the result of `convert` with rich."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.answers import ConvertAnswer


def draw_conversions(result: Sequence[ConvertAnswer]) -> RenderableType:
    """A table with a row for each file that was written, and their warnings."""
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
    return Group(
        table,
        *(Text.assemble(("warning: ", "yellow"), as_plain_text(f"{name}: {warning}")) for name, warning in warnings),
    )
