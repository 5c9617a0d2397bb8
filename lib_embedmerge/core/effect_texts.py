"""The texts with which the effect of an embedding is measured: templates that it stands in, and unrelated subjects.

A web UI cuts a prompt into chunks of 75 vectors; an embedding is not cut, so it moves to the next chunk if it does not
fit (AUTOMATIC1111: sd_hijack_clip, `tokenize_line`). Chunks are laid out here in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from lib_embedmerge.core.architecture import MAX_VECTORS


@dataclass(frozen=True)
class Template:
    """A prompt around an embedding. before, after: its words."""

    before: str
    after: str = ""

    @property
    def title(self) -> str:
        """The prompt with X for the embedding."""
        comma = "" if not self.after or self.after.startswith(",") else " "
        return f"{self.before}{' ' if self.before else ''}X{comma}{self.after}"


BARE = Template("")
"""Only the embedding."""

TEMPLATES = (
    BARE,
    Template("a photo of"),
    Template("", ", best quality, masterpiece"),
    Template("a detailed painting of", ", soft light"),
    Template("portrait, close-up,", ", city street at night"),
    Template("a cat and", "in a garden"),
    Template("", ", worst quality, low quality"),
    Template("blurry, watermark, text,"),
)
"""The templates in which an effect is measured. The last two are what people write into negative prompts."""

YARDSTICK_TEMPLATE = TEMPLATES[1]

YARDSTICK_TEXTS = ("a red sports car", "a sleeping dog", "a snowy mountain", "an old woman reading", "a bowl of fruit")
"""Subjects that have nothing to do with each other. All pairs are compared: few texts give many pairs, and each text
takes as long as a template of an embedding."""

WORDS = (
    "cat", "woman", "castle", "forest", "portrait", "robot", "sunset", "dragon",
    "watercolor", "cyberpunk", "dress", "smile",
)  # fmt: skip
"""Words by which checkpoints are grouped if no embedding is given."""

Span = tuple[int, int]
"""From which vector on, and up to which one, exclusive."""


def lay_out(before: int, count: int, after: int, *, whole: bool = True) -> list[list[tuple[str, Span]]]:
    """The chunks of a template: for each the spans of `before`, `x` and `after` in it, in order.

    before, count, after: numbers of vectors of the words before, of the embedding, and of the words after it. An
    embedding of at most 75 vectors stays in one chunk; a longer text is cut.
    whole: whether it is an embedding. A text is cut wherever a chunk ends, however short it is.
    """
    chunks: list[list[tuple[str, Span]]] = [[]]
    room = MAX_VECTORS
    for name, length in (("before", before), ("x", count), ("after", after)):
        start = 0
        if whole and name == "x" and room < count <= MAX_VECTORS:
            chunks.append([])
            room = MAX_VECTORS
        while start < length:
            if not room:
                chunks.append([])
                room = MAX_VECTORS
            step = min(room, length - start)
            chunks[-1].append((name, (start, start + step)))
            start, room = start + step, room - step
    return chunks


def list_yardstick_pairs() -> list[Span]:
    """The pairs of unrelated texts, as indices into YARDSTICK_TEXTS."""
    return list(combinations(range(len(YARDSTICK_TEXTS)), 2))
