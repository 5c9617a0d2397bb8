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
        names = "|".join(map(re.escape, sorted(replaced, key=len, reverse=True)))
        named = rf"|(?<![\w-])(?:{names})(?![\w-])" if names else ""
        found = re.compile(f"{re.escape(PLACEHOLDER)}{named}", re.IGNORECASE)
        if any(map(found.search, self)):
            return PromptFrame(*(_replace(found, name, prompt) for prompt in self))
        if name is None:
            return self
        before = self.prompt.rstrip().removesuffix(",")
        return PromptFrame(f"{before}, {escape_name(name)}" if before else escape_name(name), self.negative_prompt)


_HERE = "\0"
"""Marks the place of an embedding that is to be removed, together with brackets around it alone."""

_ALONE = re.compile(
    rf"\(\s*{_HERE}\s*(?::\s*[-+]?[\d.]+\s*)?\)"  # (embedding:-0.5)
    rf"|\[\s*{_HERE}\s*(?::{{1,2}}\s*[\d.]+\s*)?\]"  # [embedding], and [embedding:0.5] from a step on
)


def _replace(found: re.Pattern[str], name: str | None, prompt: str) -> str:
    if name is not None:
        return found.sub(lambda match: _separate(match, escape_name(name)), prompt)
    removed, count = found.subn(_HERE, prompt.replace(_HERE, ""))
    if not count:
        return prompt
    while count:
        removed, count = _ALONE.subn(_HERE, removed)
    return re.sub(rf"{_HERE}\s*,?\s*", "", removed).rstrip().removesuffix(",")


def _separate(match: re.Match[str], name: str) -> str:
    """The name for a place in a prompt, with a blank between it and a word beside it, which would hide the name."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    opening = " " if re.search(r"\w\Z", before) else ""
    closing = " " if re.match(r"\w", after) else ""
    return f"{opening}{name}{closing}"
