"""Prompts in which one embedding after the other is put, for pictures that differ in nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from lib_embedmerge.core.calling import escape_name

PLACEHOLDER = "{embedding}"
"""What a user writes where the embedding is to be."""


class PromptFrame(NamedTuple):
    """A prompt and a negative prompt."""

    prompt: str
    negative_prompt: str

    def put(self, name: str | None, others: Iterable[str] = ()) -> PromptFrame:
        """The prompts with an embedding in place of the placeholder and of other embeddings; None removes these.

        If the prompts contain neither, the embedding is added at the end of the prompt.
        others: names of the embeddings that are replaced, as well as `name`.
        """
        replaced = {spelling for other in (*others, name or "") for spelling in (other, escape_name(other)) if other}
        longest_first = sorted((PLACEHOLDER, *replaced), key=len, reverse=True)
        found = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])", re.IGNORECASE)
        if any(map(found.search, self)):
            return PromptFrame(*(_replace(found, name, prompt) for prompt in self))
        if name is None:
            return self
        before = self.prompt.rstrip().removesuffix(",")
        return PromptFrame(f"{before}, {escape_name(name)}" if before else escape_name(name), self.negative_prompt)


def _replace(found: re.Pattern[str], name: str | None, prompt: str) -> str:
    if name is not None:
        return found.sub(lambda _: escape_name(name), prompt)
    weighted = re.compile(rf"(?:\(\s*{found.pattern}\s*(?::\s*[\d.]+\s*)?\)|{found.pattern})\s*,?\s*", re.IGNORECASE)
    removed = weighted.sub("", prompt)
    return removed if removed == prompt else removed.rstrip().removesuffix(",")
