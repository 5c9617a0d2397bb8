"""A web UI's console: a line for a mistake in a prompt, in place of the trace that web UIs print of every exception.

A trace looks like a crash, and tells the one who made a typing mistake nothing.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from lib_embedmerge.hosts.patching import Patches


def quieten(patches: Patches) -> None:
    """Have a mistake printed as its sentence by all that print exceptions when a generation has stopped."""
    from modules import errors

    for name in ("report", "display"):  # AUTOMATIC1111's and reForge's, and those of X/Y/Z plot
        patches.wrap(errors, name, _said)
    # Forge's, and reForge's main thread, which both print the exception itself behind it.
    patches.wrap(traceback, "print_exc", _passed_over)


def _said(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if _is_mistake():
        sys.stderr.write(f"*** EmbedMerge: {sys.exc_info()[1]}\n")
    else:
        original(*args, **kwargs)


def _passed_over(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if not _is_mistake():
        original(*args, **kwargs)


def _is_mistake() -> bool:
    """Whether what is handled now is a mistake of ours, whose class is not imported for this."""
    return getattr(sys.exc_info()[1], "is_mistake_in_prompt", False)
