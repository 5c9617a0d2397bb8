"""Every example in docs/syntax.md, docs/quick-start.md and the README is run.

It means, counts, equals and fails as the page says.

How the page marks what it claims, all of it plain Markdown that reads well without knowing this:

- A table's first heading says what its first column holds: KINDS below. A column `Vectors` is the number of vectors, a
  column `Same as` expressions with the same vectors, a column `Message` the message of a mistake.
- A block ```embedmerge is evaluated; a block ```text after it is its canonical spelling, or `3 vectors`.
- Any other block ```text is a mistake exactly as the program draws it, the source being its second line; ```text sd1
  is one of a model with one text encoder.
- Every `code` in prose and in other columns has a meaning, as a prompt where it is no expression.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import assert_close
from markdown_it import MarkdownIt  # comes with rich, and is what gradio 3 renders the page with
from markdown_it.tree import SyntaxTreeNode
from memory_model import MemoryModel, MemoryNames, random_model

from lib_embedmerge.cli.arguments import make_argument_parser
from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, MAX_VECTORS, SD1, VOCABULARY_SIZE
from lib_embedmerge.core.calling import list_calls
from lib_embedmerge.core.evaluate import Vectors, evaluate
from lib_embedmerge.core.parts import COMMA_BACKTRACK
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.lang import parser
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.nodes import AppendText, AppendToken, Call, Expression, Modified, Resize, Rotate, Scale, Sum
from lib_embedmerge.lang.parser import MAX_COUNT, MAX_DEPTH
from lib_embedmerge.lang.source import MAX_LENGTH, parse
from lib_embedmerge.lang.typed import read_typed

ROOT = Path(__file__).parents[1]

KINDS = {
    # first heading of a table -> what its first column holds: kind of source, whether it holds an expression
    "You write": ("expression", True),
    "In a prompt": ("prompt", True),
    "Left alone": ("prompt", False),
    "Accepted": (None, None),
    "A mistake now": (None, None),
    "write": (None, None),
}
OTHER_TABLES = {"Place", "Function", "You type", "Program"}


@dataclass(frozen=True)
class Cell:
    text: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of a table, by its headings in order."""

    cells: dict[str, Cell]

    @property
    def kind(self) -> str:
        return next(iter(self.cells))

    @property
    def source(self) -> str:
        (code,) = self.cells[self.kind].codes
        return code


@dataclass(frozen=True)
class Block:
    section: str
    info: str
    text: str


@dataclass
class Page:
    """What a Markdown text holds.

    codes: all inline code but the first column of tables.  prose: what stands outside code.  kinds: of its elements.
    """

    rows: list[Row] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def claims(self) -> list[tuple[Block, Block | None]]:
        """Each block ```embedmerge, with the block ```text after it in the same section, if any."""
        return [
            (block, behind if behind and (behind.info, behind.section) == ("text", block.section) else None)
            for block, behind in zip(self.blocks, [*self.blocks, None][1:], strict=True)
            if block.info == "embedmerge"
        ]

    def mistakes(self) -> list[Block]:
        results = [behind for _, behind in self.claims()]
        return [b for b in self.blocks if b.info in ("text", "text sd1") and not any(b is r for r in results)]

    def sources(self) -> list[str]:
        """Every source that the page says has a meaning."""
        rows = [row.source for row in self.rows if row.kind in KINDS and row.kind != "A mistake now"]
        return [*rows, *self.codes, *(block.text for block, _ in self.claims())]


def read_page(markdown: str) -> Page:
    page = Page()
    section = ""
    for node in SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(markdown)).walk():
        page.kinds.add(node.type)
        if node.type == "heading":
            section = text_of(node)
        elif node.type == "fence":
            page.blocks.append(Block(section, node.info.strip(), node.content.removesuffix("\n")))
        elif node.type == "table":
            page.rows += rows_of(node)
        elif node.type == "text":
            page.prose.append(node.content)
        elif node.type == "code_inline" and not in_first_column(node):
            page.codes.append(node.content)
    return page


def rows_of(table: SyntaxTreeNode) -> Iterator[Row]:
    head, *bodies = table.children
    headings = [text_of(cell) for cell in head.children[0].children]
    for line in (line for body in bodies for line in body.children):
        cells = [Cell(text_of(cell), codes_of(cell)) for cell in line.children]
        yield Row(dict(zip(headings, cells, strict=True)))


def text_of(node: SyntaxTreeNode) -> str:
    return "".join(child.content for child in node.children if child.type == "inline")


def codes_of(node: SyntaxTreeNode) -> tuple[str, ...]:
    return tuple(child.content for child in node.walk() if child.type == "code_inline")


def in_first_column(code: SyntaxTreeNode) -> bool:
    cell = next((node for node in ancestors(code) if node.type == "td"), None)
    return cell is not None and cell.previous_sibling is None


def ancestors(node: SyntaxTreeNode) -> Iterator[SyntaxTreeNode]:
    while node.parent is not None:
        node = node.parent
        yield node


SYNTAX = read_page((ROOT / "docs" / "syntax.md").read_text(encoding="utf-8"))
QUICK_START = read_page((ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8"))
README = read_page((ROOT / "README.md").read_text(encoding="utf-8"))


class Models:
    """The models that the page speaks of: SDXL with two embeddings beside it, and Stable Diffusion 1."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        encoders = random_model().encoders
        vectors = {encoder.key: torch.randn(4, encoder.width, generator=generator) for encoder in encoders}
        names = MemoryNames({"my-style": vectors, "old-style": {CLIP_L: vectors[CLIP_L]}})
        self.sdxl = MemoryModel(encoders, names)
        self.sd1 = MemoryModel(encoders[:1], architecture=SD1)
        assert [encoder.key for encoder in encoders] == [CLIP_L, CLIP_G]

    def vectors(self, source: str) -> Vectors:
        return evaluate(parse(source), self.sdxl)

    def mistake(self, source: str, *, sd1: bool = False) -> EmbedMergeError:
        with pytest.raises(EmbedMergeError) as caught:
            evaluate(parse(source), self.sd1 if sd1 else self.sdxl)
        return caught.value


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


def count(vectors: Vectors) -> int:
    (number,) = {len(rows) for rows in vectors.values()}
    return number


def check_row(row: Row, models: Models) -> None:
    if row.kind == "A mistake now":
        assert models.mistake(row.source).message == row.cells["Message"].text
        return
    source = parse(row.source)
    kind, has_expressions = KINDS[row.kind]
    assert kind in (None, source.kind)
    assert has_expressions in (None, bool(source.expressions))
    vectors = models.vectors(row.source)
    if "Vectors" in row.cells:
        assert count(vectors) == int(row.cells["Vectors"].text)
    if "Same as" in row.cells:
        for other in row.cells["Same as"].codes:
            assert parse(other).kind == "expression"
            check_equal(vectors, models.vectors(other))


def check_equal(vectors: Vectors, others: Vectors) -> None:
    assert list(vectors) == list(others)
    for key, rows in vectors.items():
        assert_close(rows, others[key], rtol=1e-5, atol=1e-7)


def check_block(block: Block, behind: Block | None, models: Models) -> None:
    source = parse(block.text)
    assert source.expressions
    vectors = models.vectors(block.text)
    if behind is not None:
        assert behind.text in (source.canonical, f"{count(vectors)} vectors")


def check_mistake(block: Block, models: Models) -> None:
    """The page shows it exactly as the program does: message, source, caret, expectation and hint."""
    shown = block.text.splitlines()[1]
    assert shown.startswith("  ")
    assert models.mistake(shown[2:], sd1=block.info == "text sd1").render() == block.text


def ids(rows: list[Row]) -> list[str]:
    return [row.source for row in rows]


ROWS = [row for row in SYNTAX.rows if row.kind in KINDS]


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_row(row: Row, models: Models) -> None:
    check_row(row, models)


TYPED = [row for row in SYNTAX.rows if row.kind == "You type"]


@pytest.mark.parametrize("row", TYPED, ids=ids(TYPED))
def test_what_is_typed_is_built_as_the_page_says(row: Row) -> None:
    assert read_typed(row.source).source.strip() == row.cells["What is built"].codes[0].strip()


def test_programs_call_an_embedding_as_the_page_says() -> None:
    found = list_calls("catdog")
    rows = [row for row in SYNTAX.rows if row.kind == "Program"]
    assert {row.cells["Program"].text for row in rows} == set(found)
    for row in rows:
        if codes := row.cells["In a prompt"].codes:
            assert codes == (found[row.cells["Program"].text],)


@pytest.mark.parametrize(("block", "behind"), SYNTAX.claims(), ids=[b.text for b, _ in SYNTAX.claims()])
def test_block(block: Block, behind: Block | None, models: Models) -> None:
    check_block(block, behind, models)


@pytest.mark.parametrize("block", SYNTAX.mistakes(), ids=[b.text.splitlines()[1].strip() for b in SYNTAX.mistakes()])
def test_mistake_is_shown_as_the_program_shows_it(block: Block, models: Models) -> None:
    check_mistake(block, models)


@pytest.mark.parametrize("code", sorted({*SYNTAX.codes, *QUICK_START.codes}))
def test_code_in_prose_has_a_meaning(code: str, models: Models) -> None:
    models.vectors(code)


COMMANDS = [line for block in SYNTAX.blocks if block.info == "sh" for line in block.text.splitlines()]


@pytest.mark.parametrize("line", COMMANDS)
def test_command(line: str, models: Models) -> None:
    program, *arguments = shlex.split(line)
    assert program == "embedmerge"
    assert models.vectors(make_argument_parser().parse_args(arguments).source)


# the page as a whole


def test_examples_are_found() -> None:
    number = {kind: len(list(rows)) for kind, rows in groupby(sorted(row.kind for row in SYNTAX.rows))}
    assert number["You write"] >= 85
    assert number["In a prompt"] >= 20
    assert number["Left alone"] >= 5
    assert number["Accepted"] >= 8
    assert number["A mistake now"] >= 6
    assert sum("Same as" in row.cells and bool(row.cells["Same as"].codes) for row in ROWS) >= 70
    assert sum("Vectors" in row.cells for row in ROWS) >= 75
    assert len(SYNTAX.claims()) >= 4
    assert len(SYNTAX.mistakes()) >= 28
    assert len(COMMANDS) >= 2
    assert len(set(SYNTAX.codes)) >= 110


def test_nothing_on_the_page_is_of_an_unknown_kind() -> None:
    assert {row.kind for row in SYNTAX.rows} <= KINDS.keys() | OTHER_TABLES
    assert {block.info for block in SYNTAX.blocks} == {"embedmerge", "text", "text sd1", "text grammar", "sh"}


def test_every_mistake_has_its_way_out() -> None:
    advice = [child for child in SYNTAX.prose if child.startswith("Write ")]
    assert len(advice) >= len(SYNTAX.mistakes()) - 2  # the model's faults have none


def test_the_page_is_plain_markdown() -> None:
    """It is shown inside the web UI too: no HTML, no links to other pages, no dollar signs, which gradio reads as
    formulas, and no expression outside code, where gradio would curl its quotes."""
    assert not SYNTAX.kinds & {"html_block", "html_inline", "link", "image", "code_block"}
    prose = "\n".join(SYNTAX.prose)
    assert not re.search(r"[$<>{}\\]|''|'[^'\n]+'", prose)


def test_every_function_is_on_the_page() -> None:
    listed = [code for row in SYNTAX.rows if row.kind == "Function" for code in row.cells["Function"].codes]
    assert {code.partition("(")[0] for code in listed} == set(SIGNATURES)
    assert {signature.usage for signature in SIGNATURES.values()} <= set(listed)
    used = {node.function for node in all_nodes() if isinstance(node, Call)}
    assert used == set(SIGNATURES), "no example on the page calls these functions"


def test_every_postfix_is_on_the_page() -> None:
    forms = {form(postfix) for node in all_nodes() if isinstance(node, Modified) for postfix in node.postfixes}
    assert forms == {
        *("* ", "/ ", "*L", "*G", "/G"),
        *("fewer or more", "shift right", "shift left"),
        *("text", "token", "padding", "end", "start"),
    }
    written = " ".join("".join(source.split()) for source in SYNTAX.sources())
    for spelling in ("=*", "=/", "=:1", "=:+1", "=:-1", ",00 ", ",000 ", ",0000 ", "*(", "*-", "*."):
        assert spelling in written + " ", spelling


def form(postfix: Scale | Resize | Rotate | AppendText | AppendToken) -> str:
    if isinstance(postfix, Scale):
        return ("/" if postfix.divide else "*") + (postfix.encoder or " ")
    if isinstance(postfix, Resize):
        return "fewer or more"
    if isinstance(postfix, Rotate):
        return "shift right" if postfix.steps > 0 else "shift left"
    if isinstance(postfix, AppendText):
        return "text"
    return postfix.token if isinstance(postfix.token, str) else "token"


def all_nodes() -> Iterator[Expression]:
    for source in SYNTAX.sources():
        for expression in parse(source).expressions:
            yield from nodes_in(expression)


def nodes_in(node: Expression) -> Iterator[Expression]:
    yield node
    inner: list[Any] = []
    if isinstance(node, Sum):
        inner = [term.operand for term in node.terms]
    elif isinstance(node, Modified):
        inner = [node.base]
    elif isinstance(node, Call):
        inner = list(node.arguments)
    for child in inner:
        yield from nodes_in(child)


def test_the_grammar_is_the_parsers() -> None:
    (block,) = [block for block in SYNTAX.blocks if block.info == "text grammar"]
    own = inspect.getdoc(parser) or ""
    assert block.text == "\n".join(line[4:] for line in own.splitlines() if line.startswith("    "))
    assert block.text.count("=") >= 8


@pytest.mark.parametrize(
    "claim",
    [
        f"A prompt chunk holds {MAX_VECTORS} vectors, so one embedding has at most {MAX_VECTORS}",
        f"up to {MAX_COUNT} after",
        f"among the last {COMMA_BACKTRACK} vectors, else at {MAX_VECTORS}",
        f"{MAX_LENGTH} characters, and parentheses {MAX_DEPTH} levels deep",
        f"Token numbers go from 0 to {VOCABULARY_SIZE - 1}",
    ],
)
def test_the_limits_are_those_of_the_program(claim: str) -> None:
    assert claim in " ".join(SYNTAX.prose)


# the readme


def test_readme(models: Models) -> None:
    for block, behind in README.claims():
        check_block(block, behind, models)
    for row in README.rows:
        if row.kind == "write":
            check_row(row, models)


# what checks the page is itself held to find what is wrong

WRONG = {
    "count": "| You write | Vectors |\n|---|---|\n| `'red car'` | 3 |",
    "equality": "| You write | Same as |\n|---|---|\n| `'red'` | `'car'` |",
    "equality of counts": "| You write | Same as |\n|---|---|\n| `'red'` | `'red':2` |",
    "second equality": "| You write | Same as |\n|---|---|\n| `'red'` | `'red'*1` or `'red'*2` |",
    "kind": "| You write |\n|---|\n| `a <'cat'>` |",
    "no expression": "| In a prompt |\n|---|\n| `a cat` |",
    "an expression": "| Left alone |\n|---|\n| `a <'cat'>` |",
    "mistake in a row": "| You write |\n|---|\n| `'cat'*` |",
    "message": "| A mistake now | Message |\n|---|---|\n| `'cat'*` | No number. |",
    "no mistake in a row": "| A mistake now | Message |\n|---|---|\n| `'cat'` | No number follows *. |",
    "mistake in a block": "```embedmerge\n'cat'*\n```",
    "a block without an expression": "```embedmerge\ncat\n```",
    "canonical": "```embedmerge\n'cat'+'dog'\n```\n\n```text\n'cat'+'dog'\n```",
    "count of a block": "```embedmerge\n'cat'+'dog'\n```\n\n```text\n2 vectors\n```",
    "no mistake": "```text\nNothing follows +.\n  'cat'+'dog'\n       ^\n```",
    "caret": "```text\nThis quote is never closed.\n  'cat\n   ^\n```",
    "mistake in prose": "Write `'cat'*`.",
}


@pytest.mark.parametrize("markdown", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_claim_is_found(markdown: str, models: Models) -> None:
    page = read_page("# Heading\n\n" + markdown)
    with pytest.raises((AssertionError, EmbedMergeError, pytest.fail.Exception)):
        check_page(page, models)


def test_a_true_page_is_accepted(models: Models) -> None:
    page = read_page(
        "# Heading\n\n| You write | Vectors | Same as |\n|---|---|---|\n| `'red car'` | 2 | `'red', 'car'` |\n\n"
        "```embedmerge\n'cat'+'dog'\n```\n\n```text\n'cat' + 'dog'\n```\n\nWrite `'cat'`.\n"
    )
    assert ids(page.rows) == ["'red car'"]
    assert page.codes == ["'red', 'car'", "'cat'"]
    assert [block.info for block in page.blocks] == ["embedmerge", "text"]
    check_page(page, models)


def check_page(page: Page, models: Models) -> None:
    assert page.rows or page.blocks or page.codes
    for row in page.rows:
        check_row(row, models)
    for block, behind in page.claims():
        check_block(block, behind, models)
    for block in page.mistakes():
        check_mistake(block, models)
    for code in page.codes:
        models.vectors(code)
