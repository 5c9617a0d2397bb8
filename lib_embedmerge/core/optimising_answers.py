"""The fields of the JSON answers about embeddings whose vectors were improved: compress, port and repair."""

from __future__ import annotations

from typing import Annotated, TypedDict


class HeldOutAnswer(TypedDict):
    """Figures on prompts that the vectors were not improved on. What they mean depends on the command."""

    ours: Annotated[float | None, "Of the file that was written."]
    baselines: Annotated[dict[str, float | None], "Of the simple ways to do it."]


class OptimisedAnswer(TypedDict):
    """An embedding whose vectors were improved."""

    file: str
    vectors: int
    objective: Annotated[str, "What was made small, in one sentence."]
    held_out: HeldOutAnswer
    seconds: float
    notes: Annotated[list[str], "What a user should know about the result, one sentence each."]
