"""The result of `convert`, drawn for people."""

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
    """Each file that was written, where it comes from, and what there is to say of it."""
    table = Table(title=f"Converted {len(result)}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("vectors", justify="right")
    for column in ("for", "from", "form", "file"):
        table.add_column(column, overflow="fold")
    for one in result:
        sources = " and ".join(Path(source).name for source in one["sources"])
        table.add_row(
            str(one["vectors"]), *map(as_plain_text, (one["architecture"], sources, one["form"], one["file"]))
        )
    said = [(one["name"], warning) for one in result for warning in one["warnings"]]
    return Group(
        table, *(Text.assemble(("warning: ", "yellow"), as_plain_text(f"{name}: {warning}")) for name, warning in said)
    )
