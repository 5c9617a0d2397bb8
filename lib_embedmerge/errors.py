"""All errors that a user can cause, as data.

    EmbedMergeError
    ├── ExpressionError     a source text with a mistake
    │   ├── EvaluationError a source text without mistakes that has no meaning on this model
    │   └── LookalikeError  a prompt that looks like an expression, so that faces ask before they build it
    ├── CheckpointError     a model file that is damaged, has no text encoder, or is of another architecture
    ├── StorageError        an embedding file or name that cannot be read, written or used
    │   └── TakenError      a name that another file has
    └── HostError           a web UI without a model, or with a model whose text encoders are not known

An error has fields; `render` prints them for a terminal, and other faces show them in their own way. Bad input raises
nothing else: any other exception is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated, TypedDict
from unicodedata import combining, east_asian_width

MAX_SHOWN_LINE = 100


class Remedy(Enum):
    """What a user can do about an error. Each face words it in its own terms: an option, a switch, a field."""

    OVERWRITE = "replace the embedding of that name"
    SPLIT = "make several embeddings of a long source"
    READ_AS_PROMPT = "build a text as a prompt although it looks like an expression"
    SAVE_RECOVERED = "save a recovered text although it does not give the vectors"
    GIVE_NAME = "give the new embedding a name"
    LEAVE_OUT_NAME = "let each new embedding have its own name"
    CHOOSE_BUNDLED = "choose one of the embeddings that a file bundles"
    LEAVE_OUT_BUNDLED = "do not name a bundled embedding"
    GIVE_TEXT_ENCODERS = "give files of text encoders beside the checkpoint"
    SELECT = "select embeddings"
    GIVE_CHECKPOINT = "give a checkpoint"


Remedies = Mapping[Remedy, str]
"""How a face words remedies: a sentence for each that it can offer."""


class ErrorAnswer(TypedDict):
    """An error as programs read it: what is wrong, where, and what to do."""

    message: str
    start: Annotated[int | None, "Where the error begins in the source, counted in characters."]
    end: int | None
    expected: str | None
    hint: str | None


class EmbedMergeError(Exception):
    """The base of all errors that a user can cause: what is wrong, where, what was expected and what to do.

    message: one sentence for people.
    source: the text with the mistake, or None if the error is not about a text.
    start, end: the place in `source` as character offsets, 0 <= start <= end <= len(source); None without a source.
    expected: what could be in that place instead, or None.
    hint: what to write or do instead, or None.
    remedy: what the user can do in the face at hand, or None.
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
        remedy: Remedy | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.start = start
        self.end = start if end is None else end
        self.expected = expected
        self.hint = hint
        self.remedy = remedy

    def word_remedy(self, remedies: Remedies) -> None:
        """Add how a face words the remedy to the hint; once, however often it is called."""
        if self.remedy is not None and self.remedy in remedies:
            self.hint = " ".join(filter(None, (self.hint, remedies[self.remedy])))
            self.remedy = None

    @property
    def advice(self) -> str:
        """The message and, if there is one, the hint after it, for a place with room for one line."""
        return " ".join(filter(None, (self.message, self.hint)))

    def __str__(self) -> str:
        return self.message

    def render(self) -> str:
        """The error as lines of text: the message, the line of the source with carets below, `expected` and `hint`."""
        lines = [escape_unprintable(self.message)]
        if self.source is not None and self.start is not None and self.end is not None:
            lines += _caret_lines(self.source, self.start, self.end)
        if self.expected:
            lines.append(f"expected: {escape_unprintable(self.expected)}")
        if self.hint:
            lines.append(f"hint: {escape_unprintable(self.hint)}")
        return "\n".join(lines)

    def as_json(self) -> ErrorAnswer:
        """The fields for machines: message, start, end, expected, hint."""
        return {
            "message": self.message,
            "start": self.start,
            "end": self.end,
            "expected": self.expected,
            "hint": self.hint,
        }


class ExpressionError(EmbedMergeError):
    """A source text has a mistake. Always has a place."""


class EvaluationError(ExpressionError):
    """A source text without mistakes has no meaning on this model. Always has a place."""


class LookalikeError(ExpressionError):
    """A prompt looks like an expression. Always has a place.

    suggestion: the source that was probably meant.
    """

    def __init__(self, message: str, *, source: str, start: int, end: int, suggestion: str) -> None:
        super().__init__(message, source=source, start=start, end=end, hint=f"Did you mean {suggestion} ?")
        self.remedy = Remedy.READ_AS_PROMPT
        self.suggestion = suggestion


class CheckpointError(EmbedMergeError):
    """A model file cannot be used."""


class StorageError(EmbedMergeError):
    """An embedding file or name cannot be read, written or used."""


class TakenError(StorageError):
    """A name is taken by a file that must not be overwritten."""


class HostError(EmbedMergeError):
    """A web UI has no model, or no model that EmbedMerge can use."""


UNEXPECTED = "Something went wrong inside EmbedMerge."
"""The message for users about a bug in EmbedMerge, whose traceback is in the log."""

UNEXPECTED_HINT = (
    "Please report it. Add the text in the console and the text that Help, “Something went wrong?”, or the command "
    "`embedmerge report` shows."
)


def escape_unprintable(text: str) -> str:
    """A text of unknown origin with escapes in place of unprintable characters, which could act in a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quote(text: object) -> str:
    """A name, path or text of unknown origin in quotes, with escapes in place of unprintable characters.

    Backslashes are not doubled, so a path reads as its owner types it.
    """
    shown = escape_unprintable(str(text))
    return f'"{shown}"' if "'" in shown and '"' not in shown else f"'{shown}'"


def find_close_names(written: str, names: Iterable[str], count: int) -> list[str]:
    """The names that somebody who wrote `written` may have meant, the closest first: at most `count` of them."""
    import difflib  # which only a wrong name needs

    return difflib.get_close_matches(written, names, count)


def format_count(count: int, thing: str) -> str:
    """A number with its noun, in the plural if need be: `1 vector`, `1,200 vectors`."""
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
    # Control characters would move the caret to a wrong column.
    shown = "".join(character if character.isprintable() else " " for character in source[cut_start:cut_end])
    before, marked = shown[: start - cut_start], shown[start - cut_start : min(end, cut_end) - cut_start]
    return [f"  {head}{shown}{tail}", "  " + " " * _columns(head + before) + "^" * max(1, _columns(marked))]


def _columns(text: str) -> int:
    """Width of a text in a terminal, in columns: two for a wide character, none for a combining one."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
