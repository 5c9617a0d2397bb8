"""Report a mistake in a prompt that has stopped a generation: one line in the console, and its sentence in the page.

Web UIs print a traceback for every exception, which looks like a crash. reForge's page then shows an error that follows
from the missing result instead of the exception itself.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from lib_embedmerge.hosts.patching import Patches


def shorten_traces(patches: Patches) -> None:
    """Wrap all functions that print the traceback of an exception that stops a generation.

    For a mistake in a prompt they print its sentence instead.
    """
    from modules import errors

    for name in ("report", "display"):  # used by AUTOMATIC1111, reForge and the script X/Y/Z plot
        if hasattr(errors, name):
            patches.wrap(errors, name, print_sentence)
    # Used by Forge and by reForge's main thread, both of which also print the exception itself afterwards.
    patches.wrap(traceback, "print_exc", _print_unless_mistake)
    if (main_thread := sys.modules.get("modules_forge.main_thread")) is not None:
        patches.wrap(main_thread, "run_and_wait_result", _raise_to_caller)


def print_sentence(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Stands in for `original`, which prints the traceback of the exception that is being handled."""
    if _is_mistake():
        sys.stderr.write(f"*** EmbedMerge: {sys.exc_info()[1]}\n")
    else:
        original(*args, **kwargs)


def _print_unless_mistake(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if not _is_mistake():
        original(*args, **kwargs)


def _raise_to_caller(original: Callable[..., Any], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run `function` in the thread that generates, and raise a mistake in it again in the thread that waits for it."""
    mistakes: list[BaseException] = []

    def record_mistake(*function_args: Any, **function_kwargs: Any) -> Any:
        try:
            return function(*function_args, **function_kwargs)
        except Exception as error:
            if _is_mistake():
                mistakes.append(error)
            raise

    result = original(record_mistake, *args, **kwargs)
    if mistakes:
        raise mistakes[0]
    return result


def _is_mistake() -> bool:
    """Whether the exception that is being handled is a mistake in a prompt. Its class is not imported for this."""
    return getattr(sys.exc_info()[1], "is_mistake_in_prompt", False)
