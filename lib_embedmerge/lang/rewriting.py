"""Write a typed prompt as a source: without tags and comments, its runs of attention as texts or expressions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.attention import Piece, Run
from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import BrokenInline, Inline, PromptPart, PromptText
from lib_embedmerge.lang.numbers import print_number, to_float32
from lib_embedmerge.lang.printer import print_concatenation, print_text
from lib_embedmerge.lang.source import parse, read_prompt

_NETWORK = re.compile(r"<(\w+):[^>]+>")
"""A tag such as <lora:name:0.8>, as in A1111 modules/extra_networks.py, parse_prompt."""

_COMMENT = re.compile(r"#[^\n]*(\n|\Z)")
"""A comment, as in A1111 modules/processing_scripts/comments.py, strip_comments, which leaves its line break."""

_WORD_END, _WORD_START = re.compile(r"[A-Za-z0-9]\Z"), re.compile(r"[A-Za-z0-9]")
_MARK_END, _MARK_START = re.compile(r"[,.;:!?()\[\]-]\Z"), re.compile(r"[,.;:!?()\[\]-]")


@dataclass(frozen=True)
class PlainPrompt:
    """A prompt without tags of extra networks and comments.

    offsets: (offset in `text`, offset of the same character in the typed text), ascending, at each removal.
    """

    text: str
    offsets: tuple[tuple[int, int], ...]

    def find_typed_offset(self, offset: int) -> int:
        """The offset in the typed text of the character at this offset in `text`."""
        plain, typed = max((pair for pair in self.offsets if pair[0] <= offset), default=(0, 0))
        return typed + offset - plain


def remove_tags_and_comments(typed: str) -> tuple[PlainPrompt, list[str], list[str]]:
    """Remove tags of extra networks and comments from a prompt, but not inside its inline expressions.

    Returns the prompt without them, the tags and the comments. ExpressionError for the first broken expression.
    """
    text, offsets = "", []
    networks: list[str] = []
    comments: list[str] = []
    for part in read_prompt(typed):
        position = part.start
        for start, end, replacement in _find_removals(part):
            offsets.append((len(text), position))
            text += typed[position:start] + replacement
            (comments if typed[start] == "#" else networks).append(typed[start:end])
            position = end
        offsets.append((len(text), position))
        text += typed[position : part.end]
    return PlainPrompt(text, tuple(offsets)), networks, comments


def _find_removals(part: PromptPart) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of each tag and comment in a part of a prompt. A broken part raises its error."""
    match part:
        case PromptText():
            return _find_tags_and_comments(part.text, part.start)
        case Inline():
            return iter(())
        case BrokenInline():
            raise part.error
        case _:
            assert_never(part)


def _find_tags_and_comments(text: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of each tag and comment in a text that begins at `offset` of the prompt."""
    position = 0
    while match := _find_first(_NETWORK.search(text, position), _COMMENT.search(text, position)):
        yield offset + match.start(), offset + match.end(), "\n" if match[0].endswith("\n") else ""
        position = match.end()


def _find_first(*matches: re.Match[str] | None) -> re.Match[str] | None:
    return min((match for match in matches if match), key=lambda match: match.start(), default=None)


class Writer:
    """Writes runs of attention as a prompt of the language."""

    def __init__(self, plain: PlainPrompt) -> None:
        self._plain = plain
        self._pieces: list[Piece] = []
        self._offsets: list[tuple[int, int]] = []

    def write(self, run: Run, *, scale: bool) -> None:
        """Add a run, with a space before it if it would merge with the run before, since a web UI reads each by itself.

        scale: whether to write its weight as a multiplication. ExpressionError if the weight is too large for float32.
        """
        weight = to_float32(run.weight) if scale else 1.0
        if weight is None:
            raise ExpressionError(
                "Together, these weights give a number that is too large.",
                source=self._plain.text,
                start=run.pieces[0].start,
                end=run.pieces[0].start + len(run.pieces[0].text),
                expected="smaller weights",
            )
        for number, piece in enumerate(run.pieces if weight == 1 else _scale_pieces(run)):
            self._add(piece, is_apart=not number)

    def _add(self, piece: Piece, *, is_apart: bool) -> None:
        text = piece.text
        if is_apart and not piece.is_expression and self._pieces and not self._pieces[-1].is_expression:
            text = " " + text if _would_merge(self._pieces[-1].text, text) else text
        offset = sum(len(last.text) for last in self._pieces[-1:]) + (self._offsets[-1][0] if self._offsets else 0)
        self._offsets.append((offset, self._plain.find_typed_offset(piece.start) - (len(text) - len(piece.text))))
        self._pieces.append(Piece(text, piece.start, piece.is_expression))

    def result(self) -> tuple[str, tuple[tuple[int, int], ...]]:
        """The source, and its offsets: (offset in the source, offset of the same character in the typed text).

        If the source would be read as other texts and expressions than those written, it is an expression with the
        texts in quotes, and has no offsets.
        """
        source = "".join(piece.text for piece in self._pieces)
        pieces = [(piece.text, piece.is_expression) for piece in _join_texts(self._pieces)]
        if _split_pieces(source) == pieces:
            return source, tuple(self._offsets)
        arguments = [text[1:-1] if is_expression else print_text(text) for text, is_expression in pieces]
        return print_concatenation(arguments or ["''"]), ()


def _split_pieces(source: str) -> list[tuple[str, bool]] | None:
    """(text, whether it is an inline expression) for each part of a prompt, or None if it is not read as a prompt."""
    try:
        read = parse(source)
    except ExpressionError:
        return None
    if read.kind == "expression":
        return None
    return [(source[part.start : part.end], isinstance(part, Inline)) for part in read.parts]


def _scale_pieces(run: Run) -> Iterator[Piece]:
    """The pieces of a run as expressions, multiplied by its weight; white space around them stays outside."""
    number = _print_weight(run.weight)
    for piece in _join_texts(run.pieces):
        inner = piece.text.strip()
        if not inner:
            yield piece
        elif piece.is_expression:
            scaled = f"{inner[0]}({inner[1:-1]})*{number}{inner[-1]}"
            yield Piece(scaled, piece.start, is_expression=True)
        else:
            lead, trail = len(piece.text) - len(piece.text.lstrip()), len(piece.text.rstrip())
            yield Piece(piece.text[:lead], piece.start)
            yield Piece(f"<{print_text(inner)}*{number}>", piece.start + lead, is_expression=True)
            yield Piece(piece.text[trail:], piece.start + trail)


def _join_texts(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces with neighbouring texts joined and empty texts removed."""
    for is_expression, group in itertools.groupby(pieces, key=lambda piece: piece.is_expression):
        if is_expression:
            yield from group
            continue
        texts = list(group)
        if joined := "".join(piece.text for piece in texts):
            yield Piece(joined, texts[0].start)


def _print_weight(weight: float) -> str:
    """A weight with seven digits, which hides the rounding errors of floats: 1.21 for 1.1 * 1.1."""
    return print_number(float(f"{weight:.7g}"))


def _would_merge(before: str, after: str) -> bool:
    """Whether two texts, one directly after the other, may have other tokens than each alone."""
    if not before or not after or before[-1].isspace() or after[0].isspace():
        return False
    if _WORD_END.search(before) and _MARK_START.match(after):
        return False
    return not (_MARK_END.search(before) and _WORD_START.match(after))
