"""How programs call an embedding in a prompt. Source: shared facts on formats A1, and on ComfyUI."""

from __future__ import annotations

import re

WEBUIS = "AUTOMATIC1111, Forge, reForge, SD.Next"
COMFYUI, SWARMUI, INVOKEAI, DIFFUSERS = "ComfyUI", "SwarmUI", "InvokeAI", "diffusers"

_BRACKETS = re.compile(r"[()\[\]\\]")


def escaped_name(name: str) -> str:
    """A name as a prompt of a web UI takes it: brackets in it with a backslash, without which they mean attention."""
    return _BRACKETS.sub(r"\\\g<0>", name)


def calls(name: str) -> dict[str, str]:
    """Program -> what a prompt says there to use the embedding of this name."""
    return {
        WEBUIS: escaped_name(name),
        COMFYUI: f"embedding:{escaped_name(name)}",
        SWARMUI: f"<embed:{name}>",
        INVOKEAI: f"<{name}>",
        DIFFUSERS: f"{name} (the token that load_textual_inversion is given)",
    }
