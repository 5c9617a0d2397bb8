"""Files of the page that are not Python: in a web UI's extension folder as they lie in the repository, and beside this
file where the package was installed by pip (setup.py puts them there)."""

from __future__ import annotations

from pathlib import Path

SCRIPTS = ("javascript/embedmerge.js", "javascript/embedmerge_dropping.js", "javascript/embedmerge_library.js")
"""In the order in which they are run, which is that of their names."""

STYLE, SYNTAX = "style.css", "docs/syntax.md"

_HERE = Path(__file__).parent
_PLACES = (_HERE.parents[1], _HERE / "page")


def read_page_file(name: str) -> str:
    """The text of one of the files named above."""
    path = next((place / name for place in _PLACES if (place / name).is_file()), _PLACES[0] / name)
    return path.read_text(encoding="utf-8")
