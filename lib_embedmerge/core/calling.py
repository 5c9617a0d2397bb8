"""How each program calls an embedding in a prompt. Specified in docs/embedding-files.md, "Names"."""

from __future__ import annotations

import re

WEBUIS = "AUTOMATIC1111, Forge, reForge, SD.Next"
COMFYUI, SWARMUI, INVOKEAI, DIFFUSERS = "ComfyUI", "SwarmUI", "InvokeAI", "diffusers"

_BRACKETS = re.compile(r"[()\[\]\\]")


def escape_name(name: str) -> str:
    """A name as a user writes it in a web UI's prompt: with a backslash before brackets, which else mean attention."""
    return _BRACKETS.sub(r"\\\g<0>", name)


def list_calls(*names: str) -> dict[str, str]:
    """Program -> the words in its prompts that call the embedding with this name.

    Several names are the pieces of a split embedding. Spaces separate them, since ComfyUI cuts a piece after a comma.
    """
    return {
        WEBUIS: " ".join(map(escape_name, names)),
        COMFYUI: " ".join(f"embedding:{escape_name(name)}" for name in names),
        SWARMUI: " ".join(f"<embed:{name}>" for name in names),
        INVOKEAI: " ".join(f"<{name}>" for name in names),
        DIFFUSERS: " ".join(names),
    }
