"""Warn users of the extension Dynamic Prompts, which reads prompts before EmbedMerge.

It takes `{…}` as choices and `#` as a comment, also inside an expression. That is not prevented, so that wildcards and
choices work inside expressions.
"""

from __future__ import annotations

import sys
from pathlib import Path

TITLE = "Dynamic Prompts"

ADVICE = (
    f"{TITLE} reads prompts before EmbedMerge: it takes {{…}} as choices and # as a comment. "
    "Write expressions as <'cat'+'dog'>, not {'cat'+'dog'}, and without #."
)

_FILE = "dynamic_prompting.py"


def is_installed() -> bool:
    """Whether the web UI has loaded Dynamic Prompts. It does not load a disabled extension."""
    from modules import scripts

    return any(Path(script.path).name == _FILE for script in scripts.scripts_data)


def warn_if_installed() -> None:
    """Print the advice to the console if Dynamic Prompts is installed."""
    if is_installed():
        sys.stderr.write(f"EmbedMerge: {ADVICE}\n")
