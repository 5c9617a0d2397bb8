"""The parts of EmbedMerge in a web UI, and what each needs of it. Where a need is missing, the part is left out.

A web UI that nobody has tried can lack anything. Then it stays as it was, and one sentence says which part does not
work: on the console, in the tab's status line, and with the missing names in a bug report. This module is imported when
a web UI starts, so it imports nothing heavy.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_faults: dict[str, str] = {}  # what EmbedMerge was to do -> the sentence that says why it did not


@dataclass(frozen=True)
class Part:
    """One part of EmbedMerge.

    task: what EmbedMerge does, after "EmbedMerge cannot".
    needs: names below the web UI's `modules`: `processing.StableDiffusionProcessing.get_conds_with_caching`.
    """

    task: str
    needs: tuple[str, ...]

    def find_missing(self) -> tuple[str, ...]:
        """The needs that the web UI does not have."""
        return tuple(name for name in self.needs if not _has(name))

    def describe_missing(self) -> str | None:
        """A sentence that says that the part does not work, and why; None if nothing is missing."""
        missing = self.find_missing()
        return f"EmbedMerge cannot {self.task}: this web UI has no {' and no '.join(missing)}." if missing else None


def _has(name: str) -> bool:
    module, *attributes = name.split(".")
    try:
        found: Any = importlib.import_module(f"modules.{module}")
        for attribute in attributes:
            found = getattr(found, attribute)
    except (ImportError, AttributeError):
        return False
    return True


def describe_missing_parts(parts: tuple[Part, ...]) -> list[str]:
    """A sentence for each part that does not work: a need is missing, or it has failed when it was connected."""
    sentences = [sentence for part in parts if (sentence := part.describe_missing())]
    return list(dict.fromkeys((*sentences, *list_faults())))


def list_faults() -> list[str]:
    """The sentences of `leave_out` so far."""
    return list(_faults.values())


def leave_out(task: str, sentence: str) -> None:
    """Say on the console, once, that a part does not work, and keep the sentence for the tab."""
    if _faults.get(task) != sentence:
        _faults[task] = sentence
        sys.stderr.write(f"EmbedMerge: {sentence}\n")


def guard(task: str, callback: Callable[..., Result], otherwise: Result) -> Callable[..., Result]:
    """The callback, which says in one sentence if it fails, so that the web UI prints no stack trace.

    task: as in Part.  otherwise: what a failed call returns.
    """

    def call(*args: Any) -> Result:
        try:
            return callback(*args)
        except Exception as error:  # noqa: BLE001 -- an unknown web UI can raise anything; the sentence names it
            reason = f"{type(error).__name__}: {error}".removesuffix(".")
            _log.debug("The callback has failed.", exc_info=True)
            leave_out(task, f"EmbedMerge cannot {task} in this web UI ({reason}).")
            return otherwise

    return call
