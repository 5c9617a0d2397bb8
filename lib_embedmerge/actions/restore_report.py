"""The report of a restored library as a page to keep. Needs nothing but its answers."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.errors import escape_unprintable, format_count

if TYPE_CHECKING:
    from lib_embedmerge.core.recovery_answers import CertaintyAnswer, RestoreAnswer

_COLUMNS = ("embedding", "status", "verdict", "certainty", "text", "table", "files", "notes")

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Restored embeddings</title>
<style>
body {{ font: 15px/1.4 sans-serif; margin: 2em; color: #222; background: #fff; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; vertical-align: top; padding: .3em .7em; border-bottom: 1px solid #ccc; }}
td {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>Restored embeddings</h1>
<p>{summary}</p>
<table>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def make_report(results: Sequence[RestoreAnswer]) -> str:
    """The page in HTML. All texts of files are escaped."""
    return _PAGE.format(
        summary=_escape(summarise(results)),
        heads="".join(f"<th>{_escape(column)}</th>" for column in _COLUMNS),
        rows="\n".join(_make_row(result) for result in results),
    )


def summarise(results: Sequence[RestoreAnswer]) -> str:
    """How many files there are, and how many of each verdict and status."""
    verdicts = Counter((result["verdict"] or "unread").replace("_", " ") for result in results)
    statuses = Counter(result["status"] for result in results)
    counted = (", ".join(f"{count} {what}" for what, count in counts.most_common()) for counts in (verdicts, statuses))
    return f"{format_count(len(results), 'file')}: " + "; ".join(filter(None, counted)) + "."


def describe_certainty(certainty: CertaintyAnswer) -> str:
    """How many vectors have each certainty, without those that none has: `12 sure, 1 likely`."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in certainty.items() if count)


def list_files(result: RestoreAnswer) -> list[str]:
    """The names of the files that were written; those that would be if nothing was."""
    return [Path(file).name for file in result["written"] or result["planned"]]


def _make_row(result: RestoreAnswer) -> str:
    cells = (
        Path(result["source"]).name,
        result["status"],
        (result["verdict"] or "").replace("_", " "),
        describe_certainty(result["certainty"]),
        result["text"] or "",
        "" if result["group"] is None else str(result["group"]),
        ", ".join(list_files(result)),
        " ".join([*filter(None, [result["reason"]]), *result["warnings"]]),
    )
    return "<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in cells) + "</tr>"


def _escape(text: str) -> str:
    return html.escape(escape_unprintable(text))
