"""Which callbacks EmbedMerge has registered with a web UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def list_registered(callback_map: Mapping[str, Sequence[Any]]) -> list[str]:
    """The kinds of EmbedMerge's callbacks, sorted. callback_map: that of `modules.script_callbacks`."""
    return sorted(
        kind.removeprefix("callbacks_")
        for kind, callbacks in callback_map.items()
        for callback in callbacks
        if Path(callback.script).parts[-3:] == ("embedmerge", "scripts", "embedmerge.py")
    )
