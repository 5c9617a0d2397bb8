"""A mistake in a prompt, on its way out of a web UI: a line in the console, and always the sentence in the page.

Web UIs print a trace of every exception, which looks like a crash. reForge's page shows the trouble that it then has
with a generation that gave nothing, and not the exception.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from lib_embedmerge.hosts.webui.patching import Patches


def shorten_traces(patches: Patches) -> None:
    """Have a mistake printed as its sentence by all that print exceptions when a generation has stopped."""
    from modules import errors

    for name in ("report", "display"):  # AUTOMATIC1111's and reForge's, and those of X/Y/Z plot
        patches.wrap(errors, name, _said)
    # Forge's, and reForge's main thread, which both print the exception itself behind it.
    patches.wrap(traceback, "print_exc", _passed_over)
    if (main_thread := sys.modules.get("modules_forge.main_thread")) is not None:
        patches.wrap(main_thread, "run_and_wait_result", _carried_over)


def _said(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if _is_mistake():
        sys.stderr.write(f"*** EmbedMerge: {sys.exc_info()[1]}\n")
    else:
        original(*args, **kwargs)


def _passed_over(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if not _is_mistake():
        original(*args, **kwargs)


def _carried_over(original: Callable[..., Any], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A mistake that stops `function` in the thread that generates is raised where its result is waited for."""
    mistakes: list[BaseException] = []

    def kept(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except Exception as error:
            if _is_mistake():
                mistakes.append(error)
            raise

    result = original(kept, *args, **kwargs)
    if mistakes:
        raise mistakes[0]
    return result


def _is_mistake() -> bool:
    """Whether what is handled now is a mistake of ours, whose class is not imported for this."""
    return getattr(sys.exc_info()[1], "is_mistake_in_prompt", False)
