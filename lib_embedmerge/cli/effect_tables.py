"""Draw the results of the commands about effects with rich."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.differences import format_percent
from lib_embedmerge.core.effect_answers import EffectAnswer
from lib_embedmerge.core.effects import WHAT_IT_IS, find_band

_STYLES = {"same": "green", "slight": "green", "clear": "yellow", "other": "red"}
"""Word for an effect -> style of rich."""


def draw_effects(result: list[EffectAnswer]) -> RenderableType:
    """The effect on each pair of checkpoints, in a word and as a share, and then in each template."""
    pieces: list[RenderableType] = []
    for pair in result:
        pieces.append(Text.assemble((as_plain_text(pair["a"]).plain, "bold"), " and ",
                                    (as_plain_text(pair["b"]).plain, "bold")))  # fmt: skip
        pooled = "" if pair["pooled"] is None else f"; pooled vector {format_percent(pair['pooled'])}"
        pieces.append(Text.assemble(_draw_share(pair["effect"], " of another subject"), pooled))
        table = Table(box=box.SIMPLE, show_edge=False)
        table.add_column("in the prompt")
        table.add_column("effect", justify="right")
        for template in pair["templates"]:
            table.add_row(as_plain_text(template["template"]), _draw_share(template["effect"]))
        pieces += [table, Text("")]
    return Group(*pieces, as_plain_text(WHAT_IT_IS))


def _draw_share(effect: float, after: str = "") -> Text:
    """An effect as its word and its share: `slight, 2.1%`."""
    band = find_band(effect)
    return Text.assemble((band, _STYLES[band]), f", {format_percent(effect)}{after}")
