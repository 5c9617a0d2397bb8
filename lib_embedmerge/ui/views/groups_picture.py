"""A picture of how differently checkpoints read the same texts: a tree of the groups beside a map of all effects."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING

from lib_embedmerge.core.percentages import format_percent

if TYPE_CHECKING:
    from lib_embedmerge.actions.grouping_models import ModelGroups
    from lib_embedmerge.core.clusters import Cluster

_CELL, _TREE, _LABEL, _MARGIN = 56, 160, 240, 16
_COLOURS = ((0.01, "#2e7d32"), (0.1, "#9ccc65"), (0.5, "#ffb74d"))
_OTHER = "#e57373"


def draw_groups(groups: ModelGroups) -> str:
    """The picture as SVG, which needs no other file."""
    order = _list_leaves(groups.tree)
    size = len(order) * _CELL
    width, height = _MARGIN * 2 + _TREE + _LABEL + size, _MARGIN * 2 + size + 40
    rows = {leaf: row for row, leaf in enumerate(order)}
    note = (
        f"Effects as shares of another subject. Red in the tree: more than {format_percent(groups.limit)}, the limit."
    )
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_draw_tree(groups, rows),
        *_draw_map(groups, order),
        f'<text x="{_MARGIN}" y="{height - 14}">{note}</text>',
        "</svg>",
    ]
    return "\n".join(parts)


def _list_leaves(tree: Cluster) -> list[int]:
    """The things of a tree from top to bottom, so that no lines cross."""
    if not tree.parts:
        return [tree.members[0]]
    return [leaf for part in tree.parts for leaf in _list_leaves(part)]


def _draw_tree(groups: ModelGroups, rows: dict[int, int]) -> Iterator[str]:
    highest = groups.tree.height or 1.0

    def place(cluster: Cluster) -> tuple[float, float]:
        """Where a cluster ends: higher ones are further left."""
        if not cluster.parts:
            return _MARGIN + _TREE, _MARGIN + (rows[cluster.members[0]] + 0.5) * _CELL
        heights = [place(part)[1] for part in cluster.parts]
        return _MARGIN + _TREE * (1 - 0.9 * cluster.height / highest), sum(heights) / len(heights)

    ahead = [groups.tree]
    while ahead:
        cluster = ahead.pop()
        ahead += cluster.parts
        colour = "#c62828" if cluster.height > groups.limit else "#333"
        x = place(cluster)[0]
        ends = [place(part) for part in cluster.parts]
        for part_x, part_y in ends:
            yield _draw_line(x, part_y, part_x, part_y, colour)
        if ends:
            yield _draw_line(x, ends[0][1], x, ends[-1][1], colour)


def _draw_line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.5"/>'


def _draw_map(groups: ModelGroups, order: list[int]) -> Iterator[str]:
    left = _MARGIN + _TREE
    for row, mine in enumerate(order):
        middle = _MARGIN + (row + 0.5) * _CELL + 4
        name = PurePath(groups.labels[mine]).name
        shown = name if len(name) <= 32 else f"{name[:31]}…"
        yield f'<text x="{left + 8}" y="{middle:.1f}">{escape(shown)}<title>{escape(name)}</title></text>'
        for column, other in enumerate(order):
            x, y = left + _LABEL + column * _CELL, _MARGIN + row * _CELL
            effect = float(groups.effects[mine, other])
            colour = next((colour for bound, colour in _COLOURS if effect < bound), _OTHER)
            yield f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_CELL - 2}" fill="{colour}"/>'
            figure = "" if row == column else format_percent(effect)
            yield f'<text x="{x + _CELL / 2 - 1}" y="{middle:.1f}" text-anchor="middle">{figure}</text>'
