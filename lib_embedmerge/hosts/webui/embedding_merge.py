"""Coexistence with the extension Embedding Merge (EM), which has the same syntax: only one of the two handles prompts.

EM rewrites prompts in its script's method `process`. While EmbedMerge handles them, that method does nothing. EM's tab
is not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lib_embedmerge.hosts.patching import Patches

TITLE = "Embedding Merge"

_FILE, _METHOD = "embedding_merge.py", "process"


def is_installed() -> bool:
    """Whether the web UI has loaded EM. It does not load a disabled extension."""
    return any(True for _ in _find_scripts())


def suspend_embedding_merge(patches: Patches, handles_prompts: Callable[[], bool]) -> None:
    """Keep EM from changing prompts whenever `handles_prompts` returns that EmbedMerge handles them."""

    def process(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return None if handles_prompts() else original(*args, **kwargs)

    for script in _find_scripts():
        patches.wrap(script, _METHOD, process)


def _find_scripts() -> Iterator[type]:
    """The classes of EM's script, as the web UI has loaded them."""
    from modules import scripts

    for script in scripts.scripts_data:
        if Path(script.path).name == _FILE and callable(getattr(script.script_class, _METHOD, None)):
            yield script.script_class
