"""The head of the page Help: a box for words to look for, and the place for the contents.

The script javascript/embedmerge_help.js folds the chapters, lists them here, and hides those without the words.
"""

from __future__ import annotations

from markupsafe import Markup

from lib_embedmerge.ui.html import view

_HEAD = Markup(
    '<input type="search" class="embedmerge-field embedmerge-search" placeholder="Search the help" '
    'aria-label="Search the help">'
    '<p class="embedmerge-quiet embedmerge-help-found" role="status"></p>'
    '<nav class="embedmerge-contents" aria-label="Contents of the help"></nav>'
)


def help_view() -> Markup:
    """The box for words to look for and the contents, which are empty until the script has run."""
    return view("help", [_HEAD])
