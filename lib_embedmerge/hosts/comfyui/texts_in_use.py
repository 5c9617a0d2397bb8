"""Whether what texts name has changed since they were encoded. ComfyUI asks this before each run (IS_CHANGED).

ComfyUI encodes a text again only if an input of a node changes, and an embedding's file is none. So each node that
reads texts notes for each of them what it names, with the state of the files. The node counts the changes of these
notes, and ComfyUI compares the count with that of the last run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

_MAX_TEXTS = 64
"""Texts that are remembered for each node. Only those of the last run matter."""


class TextsInUse:
    """The texts of each node, with what they named when they were encoded. Threads may share one."""

    def __init__(self) -> None:
        self._texts: dict[str, OrderedDict[str, object]] = {}
        self._changes: dict[str, int] = {}
        self._lock = threading.Lock()

    def note(self, node: str, text: str, uses: object) -> None:
        """Remember that a node has encoded a text. uses: what it names; equal only if nothing of that has changed."""
        with self._lock:
            texts = self._texts.setdefault(node, OrderedDict())
            texts[text] = uses
            texts.move_to_end(text)
            while len(texts) > _MAX_TEXTS:
                texts.popitem(last=False)

    def count_changes(self, node: str, find_uses: Callable[[str], object]) -> int:
        """How often what the texts of a node name has changed, since ComfyUI was started.

        find_uses: returns what a text names now.
        """
        with self._lock:
            texts = dict(self._texts.get(node, {}))
        is_changed = any(find_uses(text) != uses for text, uses in texts.items())
        with self._lock:
            if is_changed:
                self._texts.pop(node, None)  # they are noted again when they are encoded again
                self._changes[node] = self._changes.get(node, 0) + 1
            return self._changes.get(node, 0)


TEXTS_IN_USE = TextsInUse()
"""The texts of all nodes in this process."""
