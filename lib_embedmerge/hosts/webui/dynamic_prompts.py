"""The extension Dynamic Prompts, which reads prompts before anybody else: `{…}` are its choices and `#` its comments,
inside an expression too. It stays as it is, for wildcards and choices inside expressions are its work; the console
warns its user.
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
    """Whether the web UI has loaded it; a disabled one is not."""
    from modules import scripts

    return any(Path(found.path).name == _FILE for found in scripts.scripts_data)


def warn() -> None:
    """Say so in the console, where it is installed."""
    if is_installed():
        sys.stderr.write(f"EmbedMerge: {ADVICE}\n")
