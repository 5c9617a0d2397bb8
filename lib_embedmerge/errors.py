"""Every error a user can cause, as data.

    EmbedMergeError
    ├── ExpressionError     a source text that cannot be read: where, what was expected, what to write instead
    │   ├── EvaluationError a source text that reads well but has no meaning on this model
    │   └── LookalikeError  a prompt that looks like an expression, and is better not built without asking
    ├── CheckpointError     a model file that is damaged, not a text-encoder source, or of another architecture
    ├── StorageError        an embedding file or name that cannot be read, written or used
    └── HostError           a web UI that has no model to work with, or one without text encoders that are known here

An error carries fields; `render` draws them for a terminal, other faces draw their own. Nothing else is raised for bad
input: any other exception is a bug.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

MAX_SHOWN_LINE = 100


class EmbedMergeError(Exception):
    """What is wrong, where, what was expected there and what to do.

    message: one sentence for people.
    source: the text that was read, or None where the fault is not in a text.
    start, end: the place in `source` as character offsets, 0 <= start <= end <= len(source); None without a source.
    expected: what could have stood there, or None.
    hint: what to write or do instead, or None.
    """

    def __init__(  # noqa: PLR0913 -- an error is the sum of its fields, each named at the call
        self,
        message: str,
        *,
        source: str | None = None,
        start: int | None = None,
        end: int | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.start = start
        self.end = start if end is None else end
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def render(self) -> str:
        """The error as lines of text: the message, the place in the source under a caret, expectation and hint."""
        lines = [printable(self.message)]
        if self.source is not None and self.start is not None and self.end is not None:
            lines += _caret_lines(self.source, self.start, self.end)
        if self.expected:
            lines.append(f"expected: {printable(self.expected)}")
        if self.hint:
            lines.append(f"hint: {printable(self.hint)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """The fields for machines: message, start, end, expected, hint."""
        return {
            "message": self.message,
            "start": self.start,
            "end": self.end,
            "expected": self.expected,
            "hint": self.hint,
        }


class ExpressionError(EmbedMergeError):
    """A source text that cannot be read; always with a place."""


class EvaluationError(ExpressionError):
    """A source text that reads well but has no value on this model; always with a place."""


class LookalikeError(ExpressionError):
    """A prompt that looks like an expression; always with a place.

    suggestion: the source that was probably meant.
    """

    def __init__(self, message: str, *, source: str, start: int, end: int, suggestion: str) -> None:
        super().__init__(message, source=source, start=start, end=end, hint=f"Did you mean {suggestion} ?")
        self.suggestion = suggestion


class CheckpointError(EmbedMergeError):
    """A model file that cannot be used."""


class StorageError(EmbedMergeError):
    """An embedding file or name that cannot be read, written or used."""


class TakenError(StorageError):
    """A name that another embedding has, which is not to be replaced."""


class HostError(EmbedMergeError):
    """A web UI without a model that can be worked with."""


UNEXPECTED = "Something went wrong inside EmbedMerge."
"""What people are told of a bug of ours, whose trace is in the log."""

UNEXPECTED_HINT = (
    "Please report it, with the text in the console and what the command `embedmerge report` prints, or the page Help "
    'of the tab shows under "Something went wrong?".'
)


def printable(text: str) -> str:
    """Text of unknown origin with nothing in it that a terminal or a reader's eye would act on: escapes instead."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quote(text: object) -> str:
    """A name, path or text of unknown origin in quotes, as its owner typed it: a backslash stays one."""
    shown = printable(str(text))
    return f'"{shown}"' if "'" in shown and '"' not in shown else f"'{shown}'"


def counted(count: int, thing: str) -> str:
    """`1 vector`, `1,200 vectors`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _caret_lines(source: str, start: int, end: int) -> list[str]:
    """The line of `source` that holds `start`, cut around it, and a line of carets under start..end."""
    line_start = source.rfind("\n", 0, start) + 1
    line_end = source.find("\n", start)
    line_end = len(source) if line_end < 0 else line_end
    cut_start = line_start if start - line_start <= MAX_SHOWN_LINE // 2 else start - MAX_SHOWN_LINE // 2
    cut_end = min(line_end, cut_start + MAX_SHOWN_LINE)
    head = "…" if cut_start > line_start else ""
    tail = "…" if cut_end < line_end else ""
    # Control characters would move the caret away from its place.
    shown = "".join(character if character.isprintable() else " " for character in source[cut_start:cut_end])
    before, marked = shown[: start - cut_start], shown[start - cut_start : min(end, cut_end) - cut_start]
    return [f"  {head}{shown}{tail}", "  " + " " * _columns(head + before) + "^" * max(1, _columns(marked))]


def _columns(text: str) -> int:
    """How many columns a terminal gives a text: two for a wide character, none for one that combines."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
