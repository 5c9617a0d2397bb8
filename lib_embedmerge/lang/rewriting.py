"""A prompt written as a source: without what is never encoded, its runs of attention as texts or expressions."""

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
"""As in A1111 modules/processing_scripts/comments.py, strip_comments, which puts a line break in the place."""

_WORD_END, _WORD_START = re.compile(r"[A-Za-z0-9]\Z"), re.compile(r"[A-Za-z0-9]")
_MARK_END, _MARK_START = re.compile(r"[,.;:!?()\[\]-]\Z"), re.compile(r"[,.;:!?()\[\]-]")


@dataclass(frozen=True)
class Plain:
    """A prompt without tags and comments. places: (offset in it, offset in what was typed), in order."""

    text: str
    places: tuple[tuple[int, int], ...]

    def typed_place(self, offset: int) -> int:
        ours, theirs = max((pair for pair in self.places if pair[0] <= offset), default=(0, 0))
        return theirs + offset - ours


def remove_what_is_never_encoded(typed: str) -> tuple[Plain, list[str], list[str]]:
    """The prompt without tags of extra networks and comments, which are only looked for outside of expressions."""
    text, places = "", []
    networks: list[str] = []
    comments: list[str] = []
    for part in read_prompt(typed):
        position = part.start
        for start, end, replacement in _never_encoded_in(part):
            places.append((len(text), position))
            text += typed[position:start] + replacement
            (comments if typed[start] == "#" else networks).append(typed[start:end])
            position = end
        places.append((len(text), position))
        text += typed[position : part.end]
    return Plain(text, tuple(places)), networks, comments


def _never_encoded_in(part: PromptPart) -> Iterator[tuple[int, int, str]]:
    """Start, end and replacement of each tag and comment in a part of a prompt. A broken part raises its error."""
    match part:
        case PromptText():
            return _never_encoded(part.text, part.start)
        case Inline():
            return iter(())
        case BrokenInline():
            raise part.error
        case _:
            assert_never(part)


def _never_encoded(text: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """Where a tag or comment stands, and what stands in its place."""
    position = 0
    while match := _first(_NETWORK.search(text, position), _COMMENT.search(text, position)):
        yield offset + match.start(), offset + match.end(), "\n" if match[0].endswith("\n") else ""
        position = match.end()


def _first(*matches: re.Match[str] | None) -> re.Match[str] | None:
    return min((match for match in matches if match), key=lambda match: match.start(), default=None)


class Writer:
    """Runs of attention written as a prompt of the language."""

    def __init__(self, plain: Plain) -> None:
        self._plain = plain
        self._pieces: list[Piece] = []
        self._places: list[tuple[int, int]] = []

    def write(self, run: Run, *, scale: bool) -> None:
        """Add a run. A web UI reads each by itself, so none may grow together with the one before."""
        weight = to_float32(run.weight) if scale else 1.0
        if weight is None:
            raise ExpressionError(
                "Together, these weights give a number that is too large.",
                source=self._plain.text,
                start=run.pieces[0].start,
                end=run.pieces[0].start + len(run.pieces[0].text),
                expected="smaller weights",
            )
        for number, piece in enumerate(run.pieces if weight == 1 else _scaled(run)):
            self._add(piece, is_apart=not number)

    def _add(self, piece: Piece, *, is_apart: bool) -> None:
        text = piece.text
        if is_apart and not piece.is_expression and self._pieces and not self._pieces[-1].is_expression:
            text = " " + text if _grows_together(self._pieces[-1].text, text) else text
        place = sum(len(one.text) for one in self._pieces[-1:]) + (self._places[-1][0] if self._places else 0)
        self._places.append((place, self._plain.typed_place(piece.start) - (len(text) - len(piece.text))))
        self._pieces.append(Piece(text, piece.start, piece.is_expression))

    def result(self) -> tuple[str, tuple[tuple[int, int], ...]]:
        """The source, and its places: (offset in it, offset in what was typed).

        One in quotes, without places, where the plain text would be read as other expressions than these.
        """
        source = "".join(piece.text for piece in self._pieces)
        pieces = [(piece.text, piece.is_expression) for piece in _texts_joined(self._pieces)]
        if _pieces_of(source) == pieces:
            return source, tuple(self._places)
        arguments = [text[1:-1] if is_expression else print_text(text) for text, is_expression in pieces]
        return print_concatenation(arguments or ["''"]), ()


def _pieces_of(source: str) -> list[tuple[str, bool]] | None:
    """The texts and expressions of a prompt; None where it is none."""
    try:
        read = parse(source)
    except ExpressionError:
        return None
    if read.kind == "expression":
        return None
    return [(source[part.start : part.end], isinstance(part, Inline)) for part in read.parts]


def _scaled(run: Run) -> Iterator[Piece]:
    """The pieces of a run as expressions times its weight; white space around them stays outside."""
    number = _printed(run.weight)
    for piece in _texts_joined(run.pieces):
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


def _texts_joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Texts that stand side by side as one; none that is empty."""
    for is_expression, group in itertools.groupby(pieces, key=lambda piece: piece.is_expression):
        if is_expression:
            yield from group
            continue
        texts = list(group)
        if joined := "".join(piece.text for piece in texts):
            yield Piece(joined, texts[0].start)


def _printed(weight: float) -> str:
    """A weight without the dust of multiplying decimals: 1.21 for 1.1 * 1.1."""
    return print_number(float(f"{weight:.7g}"))


def _grows_together(before: str, after: str) -> bool:
    """Whether texts that stand side by side may have other tokens than each by itself."""
    if not before or not after or before[-1].isspace() or after[0].isspace():
        return False
    if _WORD_END.search(before) and _MARK_START.match(after):
        return False
    return not (_MARK_END.search(before) and _WORD_START.match(after))
