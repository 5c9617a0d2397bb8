"""Files of the page that are not Python.

They are where the repository has them, or, if pip installed the package, in the folder `page` beside this file, where
setup.py copies them.
"""

from __future__ import annotations

from pathlib import Path

SCRIPTS = tuple(
    f"javascript/{name}.js"
    for name in (
        "embedmerge",
        "embedmerge_completing",
        "embedmerge_dropping",
        "embedmerge_help",
        "embedmerge_history",
        "embedmerge_jobs",
        "embedmerge_library",
        "embedmerge_list",
        "embedmerge_looking",
        "embedmerge_selecting",
        "embedmerge_previewing",
    )
)
"""The scripts in the order in which they run. Web UIs run them in the order of their names, which is the same."""

STYLE, QUICK_START, SYNTAX = "style.css", "docs/quick-start.md", "docs/syntax.md"

_HERE = Path(__file__).parent
_ROOTS = (_HERE.parents[1], _HERE / "page")


def read_page_file(name: str) -> str:
    """The text of a file of the page: STYLE, QUICK_START, SYNTAX or one of SCRIPTS. OSError if it cannot be read."""
    path = next((root / name for root in _ROOTS if (root / name).is_file()), _ROOTS[0] / name)
    return path.read_text(encoding="utf-8")
