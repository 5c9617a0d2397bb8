"""How programs call an embedding in a prompt: docs/embedding-files.md, "Names"."""

from __future__ import annotations

import re

WEBUIS = "AUTOMATIC1111, Forge, reForge, SD.Next"
COMFYUI, SWARMUI, INVOKEAI, DIFFUSERS = "ComfyUI", "SwarmUI", "InvokeAI", "diffusers"

_BRACKETS = re.compile(r"[()\[\]\\]")


def escape_name(name: str) -> str:
    """A name as a prompt of a web UI takes it: brackets in it with a backslash, without which they mean attention."""
    return _BRACKETS.sub(r"\\\g<0>", name)


def list_calls(*names: str) -> dict[str, str]:
    """Program -> what a prompt says there to use the embedding of this name.

    Several names are the pieces of a split one, with blanks between them: after a comma, ComfyUI would cut a piece.
    """
    return {
        WEBUIS: " ".join(map(escape_name, names)),
        COMFYUI: " ".join(f"embedding:{escape_name(name)}" for name in names),
        SWARMUI: " ".join(f"<embed:{name}>" for name in names),
        INVOKEAI: " ".join(f"<{name}>" for name in names),
        DIFFUSERS: " ".join(names),
    }
