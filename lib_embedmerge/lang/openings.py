"""How an inline expression begins in a prompt: a quick test for prompts that have none.

It is imported when a web UI starts, so it imports nothing of the language.
"""

from __future__ import annotations

import re

FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
"""The name of a function, known or not."""

_OPENING = re.compile(rf"[<{{](?:(?:{FUNCTION_NAME.pattern}\s*)?\(\s*)*'")


def may_have_expressions(prompt: str) -> bool:
    """Whether `read_prompt` might find an expression in a prompt: a quick test, never False if there is one."""
    return "'" in prompt and _OPENING.search(prompt) is not None
