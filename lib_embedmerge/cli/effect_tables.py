"""Draw the results of the commands about effects with rich."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.effect_answers import EffectAnswer, GroupAnswer, ShortenAnswer, TokenAnswer
from lib_embedmerge.core.effects import WHAT_IT_IS, find_band
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.errors import format_count

_STYLES = {"same": "green", "slight": "green", "clear": "yellow", "other": "red"}
"""Word for an effect -> style of rich."""

_HEATS = ((0.75, "bold white on red"), (0.5, "black on dark_orange"), (0.25, "black on yellow"), (0.0, ""))
"""(share of the largest effect, style of rich of a token from there on)."""

_BAR = 24
"""Length of the longest bar, in characters."""


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


def draw_groups(result: list[GroupAnswer]) -> RenderableType:
    """A row for each group: its members, the one for which a file is best made, and the largest effect within it."""
    table = Table(box=box.SIMPLE, show_edge=False)
    for title in ("group", "checkpoints", "make the file for"):
        table.add_column(title)
    table.add_column("largest effect", justify="right")
    for number, group in enumerate(result, 1):
        members = Text("\n").join(map(as_plain_text, group["members"]))
        alone = len(group["members"]) == 1
        share = Text("alone") if alone else _draw_share(group["largest_effect"])
        table.add_row(str(number), members, as_plain_text(group["medoid"]), share)
    return Group(table, as_plain_text(WHAT_IT_IS))


def draw_tokens(result: list[TokenAnswer]) -> RenderableType:
    """A bar for each token: what leaving it out changes, beside the quick estimate; and how well the two agree."""
    from lib_embedmerge.actions.weighing_tokens import correlate_ranks

    largest = max((token["effect"] for token in result), default=0.0)
    table = Table(box=box.SIMPLE, show_edge=False)
    for title in ("token", "without it"):
        table.add_column(title)
    for title in ("effect", "estimate"):
        table.add_column(title, justify="right")
    for token in result:
        bar = Text("█" * round(_BAR * token["effect"] / largest) if largest else "", style="yellow")
        shares = (format_percent(token[name]) for name in ("effect", "quick"))
        table.add_row(as_plain_text(token["token"]), bar, *shares)
    ranks = correlate_ranks([token["effect"] for token in result], [token["quick"] for token in result])
    agreement = "" if ranks is None else f"Rank correlation of estimates and effects: {ranks:.2f}. "
    heat = Text.assemble(*(part for token in result for part in _draw_heat(token, largest)))
    return Group(heat, Text(""), table, as_plain_text(agreement + WHAT_IT_IS))


def _draw_heat(token: TokenAnswer, largest: float) -> tuple[Text, str]:
    """A token, the redder the more it matters, and a space after it."""
    share = token["effect"] / largest if largest else 0.0
    style = next(style for bound, style in _HEATS if share >= bound)
    return Text(as_plain_text(token["token"]).plain, style=style), " "


def draw_shortened(result: ShortenAnswer) -> RenderableType:
    """The shortened prompt, what was left out, and what that changes."""
    if not result["dropped"]:
        return as_plain_text(f"It has {format_count(result['vectors'], 'vector')} and fits as it is.")
    facts = Table(box=None, show_header=False)
    facts.add_row("vectors", f"{result['vectors']} of {result['before']}")
    facts.add_row("left out", as_plain_text("; ".join(result["dropped"])))
    facts.add_row("effect", _draw_share(result["effect"], " of another subject"))
    facts.add_row("cut instead", _draw_share(result["cutting"], " of another subject"))
    return Group(as_plain_text(result["text"]), Text(""), facts, Text(""), as_plain_text(WHAT_IT_IS))


def _draw_share(effect: float, after: str = "") -> Text:
    """An effect as its word and its share: `slight, 2.1%`."""
    band = find_band(effect)
    return Text.assemble((band, _STYLES[band]), f", {format_percent(effect)}{after}")
