"""Draw the results of `rebuild`, `recover` and `restore` with rich."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from lib_embedmerge.cli.plain_text import as_plain_text
from lib_embedmerge.core.answers import RebuildAnswer
from lib_embedmerge.core.recovery_answers import RecoverFileAnswer, RestoreAnswer
from lib_embedmerge.errors import format_count


def draw_restored(result: Sequence[RestoreAnswer]) -> RenderableType:
    """A table with a row for each file, and a line that counts them."""
    from lib_embedmerge.actions.restore_report import describe_certainty, list_files, summarise

    table = Table(title=format_count(len(result), "file"), title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("embedding", "status", "certainty", "text", "table", "files, notes"):
        table.add_column(column, overflow="fold")
    for answer in result:
        group = "" if answer["group"] is None else str(answer["group"])
        notes = [", ".join(list_files(answer)), answer["reason"] or "", *answer["warnings"]]
        cells = (Path(answer["source"]).name, answer["status"], describe_certainty(answer["certainty"]))
        table.add_row(*map(as_plain_text, (*cells, answer["text"] or "", group, " ".join(filter(None, notes)))))
    return Group(table, as_plain_text(summarise(result)))


def draw_rebuilds(result: list[RebuildAnswer]) -> RenderableType:
    table = Table(title=format_count(len(result), "pair"), title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("embedding", "checkpoint", "status", "file or reason"):
        table.add_column(column, overflow="fold")
    for pair in result:
        cells = (Path(pair["source"]).name, Path(pair["checkpoint"]).name, pair["status"])
        table.add_row(*map(as_plain_text, (*cells, pair["file"] or pair["reason"])))
    counts = Counter(pair["status"] for pair in result)
    return Group(
        table, as_plain_text(", ".join(f"{count} {status}" for status, count in counts.most_common()) or "nothing")
    )


def draw_recovery(result: RecoverFileAnswer) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("checkpoint", "not explained"):
        table.add_column(column, overflow="fold")
    for candidate in result["candidates"]:
        residual = candidate["reason"] if candidate["residual"] is None else _format_residual(candidate["residual"])
        table.add_row(as_plain_text(Path(candidate["checkpoint"]).name), as_plain_text(residual))
    lines = [as_plain_text(result["detail"])]
    if result["close"] or result["file"]:
        expression = as_plain_text(result["expression"])
        expression.no_wrap, expression.overflow = True, "ignore"  # to be copied in one piece
        lines.append(expression)
    if len(result["candidates"]) > 1:
        lines.append(as_plain_text(f"The best of these checkpoints is {Path(result['checkpoint']).name}."))
    if result["ties"]:
        others = ", ".join(Path(checkpoint).name for checkpoint in result["ties"])
        lines.append(as_plain_text(f"Just as good: {others}. The tokens of the text are the same there."))
    if result["file"]:
        lines.append(as_plain_text(f"Saved as the recipe in {result['file']}."))
    return Group(*lines, table)


def _format_residual(residual: Mapping[str, float | None]) -> str:
    """The share of the vectors that an expression does not explain: `clip_l 0.021%, clip_g 0.02%`."""
    return ", ".join(f"{key} {'all' if share is None else f'{share:.2%}'}" for key, share in residual.items())
