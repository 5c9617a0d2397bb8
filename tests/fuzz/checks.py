"""What must hold for any source, however it was made."""

from __future__ import annotations

from lib_embedmerge.core.outline import Outline, Outliner
from lib_embedmerge.core.parts import find_parts
from lib_embedmerge.core.texts import NoEmbeddings, TextReader
from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.choices import ATTENTION
from lib_embedmerge.lang.lookalikes import find_likely_meaning
from lib_embedmerge.lang.prompt_notes import find_prompt_notes
from lib_embedmerge.lang.source import Source, parse, read_prompt
from lib_embedmerge.lang.typed import as_typed, read_typed
from lib_embedmerge.tokenizer import clip_tokenizer


class Checks:
    """The checks, with one reading of texts for all sources. `made` counts what sources came to."""

    def __init__(self) -> None:
        self._outliner = Outliner(TextReader(clip_tokenizer(), NoEmbeddings()))
        self.made = {"read": 0, "refused": 0, "meant": 0, "rewritten": 0}

    def check(self, source: str) -> None:
        """AssertionError, or whatever goes through, where something does not hold."""
        self._check_prompt(source)
        read = self._parsed(source)
        if read is not None:
            self._check_canonical(read)
            self._check_outline(read)
        self._check_typed(source)

    def _check_prompt(self, source: str) -> None:
        """The parts of a prompt cover every character of it."""
        parts = read_prompt(source)
        assert "".join(source[part.start : part.end] for part in parts) == source

    def _parsed(self, source: str) -> Source | None:
        try:
            read = parse(source)
        except ExpressionError as error:
            _check_place(error, source)
            self.made["refused"] += 1
            return None
        self.made["read"] += 1
        return read

    def _check_canonical(self, read: Source) -> None:
        """The canonical spelling means the same."""
        again = parse(read.canonical)
        assert again.kind == read.kind
        if read.kind == "expression":
            assert again.nodes == read.nodes
        assert again.canonical == read.canonical

    def _check_outline(self, read: Source) -> None:
        """It has as many vectors as its parts, or an error with a place."""
        try:
            outline = self._outliner.outline(read)
        except ExpressionError as error:
            _check_place(error, read.text)
            return
        assert sum(len(part.ids) for part in find_parts(read, self._outliner)) == len(outline)

    def _check_typed(self, source: str) -> None:
        """It is rewritten into something that can be read, and that opens as itself."""
        for attention in ATTENTION:
            try:
                typed = read_typed(source, attention)
            except ExpressionError as error:
                _check_place(error, source)
                continue
            read = parse(typed.source)
            find_prompt_notes(read)
            self.made["rewritten"] += typed.is_rewritten
            self._check_recipe(typed.source)
        meant = find_likely_meaning(source)
        if meant is not None:
            self.made["meant"] += 1
            assert parse(meant.source).expressions
            assert 0 <= meant.start < meant.end <= len(source)

    def _check_recipe(self, recipe: str) -> None:
        """What is written for a recipe in the text box is read as that recipe again."""
        ids = self._ids(recipe)
        if ids is not None:
            assert self._ids(read_typed(as_typed(recipe)).source) == ids

    def _ids(self, source: str) -> Outline | None:
        """The outline; None for a source that has none."""
        try:
            return self._outliner.outline(parse(source))
        except ExpressionError:
            return None


def _check_place(error: ExpressionError, source: str) -> None:
    assert error.source == source
    assert error.start is not None
    assert error.end is not None
    assert 0 <= error.start <= error.end <= len(source)
    assert error.message.strip()
    assert error.render()
