"""The facts for a bug report, to be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import escape_unprintable
from lib_embedmerge.ui.html import button, button_line, view

if TYPE_CHECKING:
    from lib_embedmerge.actions.reporting import Report


def report_view(report: Report) -> Markup:
    """The report as it will be copied, and a button that copies it."""
    lines = [escape_unprintable(line) for line in report.text().split("\n")]
    content = "\n".join(lines)
    shown = Markup('<pre class="embedmerge-place" dir="ltr" tabindex="0">{}</pre>').format(content)
    buttons = button_line(button("Copy", "copy", {"text": content}))
    return view("report", [shown, buttons])
