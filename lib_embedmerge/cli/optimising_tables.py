"""Draw the results of `compress`, `port` and `repair` with rich."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.optimising_answers import OptimisedAnswer
from lib_embedmerge.errors import format_count


def draw_optimised(result: OptimisedAnswer) -> RenderableType:
    """The file, what was made small, and the figures beside those of the simple ways."""
    table = Table(title="In prompts that it was not made for", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("way")
    table.add_column("figure", justify="right")
    held_out = result["held_out"]
    for name, value in [("this file", held_out["ours"]), *held_out["baselines"].items()]:
        table.add_row(as_plain_text(name), "not finite" if value is None else f"{value:.3f}")
    path = as_plain_text(f"Saved {result['file']}")
    path.no_wrap, path.overflow = True, "ignore"  # to be copied in one piece
    took = f"{format_count(result['vectors'], 'vector')}, made in {result['seconds']:.0f} s."
    return Group(path, *map(as_plain_text, (took, *result["notes"], result["objective"])), table)
