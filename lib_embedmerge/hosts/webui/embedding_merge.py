"""The extension Embedding Merge (EM), which reads the same syntax: exactly one of the two acts on prompts.

EM rewrites them in its script's `process`. Where ours acts, that is passed over; EM's tab stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lib_embedmerge.hosts.webui.patching import Patches

TITLE = "Embedding Merge"

_FILE, _METHOD = "embedding_merge.py", "process"


def is_installed() -> bool:
    """Whether the web UI has loaded it; a disabled one is not."""
    return any(True for _ in _scripts())


def suspend_embedding_merge(patches: Patches, ours_acts: Callable[[], bool]) -> None:
    """Let it act on prompts only where ours does not."""

    def process(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return None if ours_acts() else original(*args, **kwargs)

    for script in _scripts():
        patches.wrap(script, _METHOD, process)


def _scripts() -> Iterator[type]:
    from modules import scripts

    for found in scripts.scripts_data:
        if Path(found.path).name == _FILE and callable(getattr(found.script_class, _METHOD, None)):
            yield found.script_class
