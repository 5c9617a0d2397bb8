"""The language: what each spelling means, that printing and parsing agree, and that every mistake has its place."""

from __future__ import annotations

import re

import pytest
from growth import grows_by_length
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import expressions, sources

from lib_embedmerge.core.vector_walk import FUNCTIONS
from lib_embedmerge.errors import EmbedMergeError, ExpressionError
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    BrokenInline,
    Call,
    Expression,
    Inline,
    Number,
    PromptText,
    Resize,
    Rotate,
    Scale,
    Sum,
    Term,
    Text,
    with_postfixes,
)
from lib_embedmerge.lang.parser import MAX_COUNT, MAX_DEPTH, parse_expression
from lib_embedmerge.lang.printer import print_expression
from lib_embedmerge.lang.source import MAX_LENGTH, parse, read_prompt

A, B, C = Text("a"), Text("b"), Text("c")


def total(*operands: Expression | tuple[str, Expression]) -> Sum:
    pairs = [operand if isinstance(operand, tuple) else ("+", operand) for operand in operands]
    return Sum(tuple(Term("-" if sign == "-" else "+", node) for sign, node in pairs))


def changed(base: Expression, *postfixes: object) -> Expression:
    return with_postfixes(base, postfixes, start=0, end=0)  # type: ignore[arg-type] # postfixes of any kind


MEANINGS: list[tuple[str, Expression]] = [
    ("'a'", A),
    ("''", Text("")),
    ("''''", Text("'")),
    ("'don''t'", Text("don't")),
    ("'a\nb'", Text("a\nb")),
    (" 'a' ", A),
    ("('a')", A),
    ("(('a'))", A),
    ("'a'+'b'", total(A, B)),
    ("'a'\n+\t'b'", total(A, B)),
    ("'a'-'b'+'c'", total(A, ("-", B), C)),
    ("'a'-('b'+'c')", total(A, ("-", total(B, C)))),
    ("('a'+'b')+'c'", total(total(A, B), C)),
    ("'a'*2", changed(A, Scale(2.0))),
    ("'a'*.5", changed(A, Scale(0.5))),
    ("'a'*5.", changed(A, Scale(5.0))),
    ("'a'*-1", changed(A, Scale(-1.0))),
    ("'a'*+0.75", changed(A, Scale(0.75))),
    ("'a' * ( 1 + 2 ) ", changed(A, Scale(3.0))),
    ("'a'*(1/4)", changed(A, Scale(0.25))),
    ("'a'*(2-3*2)", changed(A, Scale(-4.0))),
    ("'a'*((1+1)*-3)", changed(A, Scale(-6.0))),
    ("'a'*-(1/4)", changed(A, Scale(-0.25))),
    ("'a'/4", changed(A, Scale(4.0, divide=True))),
    ("'a'*3/5", changed(A, Scale(3.0), Scale(5.0, divide=True))),
    ("'a'*2L", changed(A, Scale(2.0, encoder="L"))),
    ("'a'/2 G", changed(A, Scale(2.0, divide=True, encoder="G"))),
    ("'a':3", changed(A, Resize(3))),
    ("'a':03", changed(A, Resize(3))),
    ("'a' : 0", changed(A, Resize(0))),
    ("'a':+1", changed(A, Rotate(1))),
    ("'a':-1", changed(A, Rotate(-1))),
    ("'a': - 1", changed(A, Rotate(-1))),
    ("'a':+-1", changed(A, Rotate(-1))),
    ("'a':--1", changed(A, Rotate(1))),
    ("'a',256", changed(A, AppendToken(256))),
    ("'a',+5", changed(A, AppendToken(5))),
    ("'a',+00", changed(A, AppendToken(0))),
    ("'a',+05", changed(A, AppendToken(5))),
    ("'a',-0", changed(A, AppendToken(0))),
    ("'a',0", changed(A, AppendToken(0))),
    ("'a',00", changed(A, AppendToken("padding"))),
    ("'a',000", changed(A, AppendToken("end"))),
    ("'a',0000", changed(A, AppendToken("start"))),
    ("'a','b'", changed(A, AppendText("b"))),
    ("'a'*2,'b'", changed(A, Scale(2.0), AppendText("b"))),
    ("'a'=*2", changed(A, Scale(2.0))),
    ("'a'=*2*3", changed(A, Scale(2.0), Scale(3.0))),
    ("'a'+'b'=*2", changed(total(A, B), Scale(2.0))),
    ("('a'+'b')*2", changed(total(A, B), Scale(2.0))),
    ("'a'+'b'=*2*3", changed(total(A, B), Scale(2.0), Scale(3.0))),
    ("'a'+'b'=*2=:3", changed(total(A, B), Scale(2.0), Resize(3))),
    ("'a'+'b'=*2,'c'", changed(total(A, B), Scale(2.0), AppendText("c"))),
    ("'a'+'b'=*2+'c'", total(changed(total(A, B), Scale(2.0)), C)),
    ("'a'+'b'=:+1", changed(total(A, B), Rotate(1))),
    ("L('a')", Call("L", (A,))),
    ("L ( 'a' )", Call("L", (A,))),
    ("L('a')+G('b')", total(Call("L", (A,)), Call("G", (B,)))),
    ("L('a')*2", changed(Call("L", (A,)), Scale(2.0))),
    ("cat('a','b','c')", Call("cat", (A, B, C))),
    ("cat(('a','b'),'c')", Call("cat", (changed(A, AppendText("b")), C))),
    ("cat('a'*2,'b'+'c')", Call("cat", (changed(A, Scale(2.0)), total(B, C)))),
    ("lerp('a','b',0.5)", Call("lerp", (A, B), Number(0.5))),
    ("slerp('a','b',-(1/2))", Call("slerp", (A, B), Number(-0.5))),
    ("lerp('a','b',1/4)", Call("lerp", (A, B), Number(0.25))),
    ("norm('a', 1 + 2*3)", Call("norm", (A,), Number(7.0))),
    ("norm('a')", Call("norm", (A,))),
    ("sum('a')", Call("sum", (A,))),
    ("avg('a')", Call("avg", (A,))),
    ("max('a')", Call("max", (A,))),
    ("pc('a')", Call("pc", (A,))),
    ("mean('a','b','c')", Call("mean", (A, B, C))),
    ("norm('a',2)", Call("norm", (A,), Number(2.0))),
    ("norm('a'),2", changed(Call("norm", (A,)), AppendToken(2))),
    ("near(orth('a','b'))", Call("near", (Call("orth", (A, B)),))),
]


@pytest.mark.parametrize(("text", "expected"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_meaning(text: str, expected: Expression) -> None:
    source = parse(text)
    assert source.kind == "expression"
    assert source.expressions == (expected,)
    assert parse(source.canonical).expressions == (expected,)


MISTAKES: list[tuple[str, int, str]] = [
    # text, where the caret stands, a word of the message
    ("'a", 0, "never closed"),
    ("'a''", 0, "never closed"),
    ("'a'+'b", 4, "never closed"),
    ("'a'+", 3, "follows"),
    ("'a'-", 3, "follows"),
    ("'a'+-'b'", 4, "missing between"),
    ("'a'+*2", 4, "missing between"),
    ("'a''b' 'c'", 7, "operator"),
    ("'a' 'b'", 4, "operator"),
    ("'don't'", 5, "operator"),
    ("'a'2", 3, "operator"),
    ("'a')", 3, "operator"),
    ("'a'*.", 4, "has no meaning"),
    ("'a'*-", 4, "No number"),
    ("'a'*", 3, "No number"),
    ("'a'*L", 3, "No number"),
    ("'a'*x", 3, "No number"),
    ("'a'*'b'", 3, "No number"),
    ("'a'*2l", 5, "Unknown letter"),
    ("'a'*2x", 5, "operator"),
    ("'a'*1e3", 5, "exponent"),
    ("'a'*2.5.1", 7, "operator"),
    ("'a'*" + "9" * 50, 4, "too large"),
    ("'a'*" + "9" * 400, 4, "too large"),
    ("'a'/0", 4, "zero"),
    ("'a'/0.0", 4, "zero"),
    ("'a'/(1-1)", 4, "zero"),
    ("'a'/." + "0" * 60 + "1", 4, "zero"),
    ("'a'*(1/0)", 7, "zero"),
    ("'a'*(1", 4, "never closed"),
    ("'a'*(1 2)", 7, "does not belong in this calculation"),
    ("'a'*()", 4, "No number"),
    ("'a'*(1+)", 6, "No number"),
    ("'a':", 3, "No number"),
    ("'a':1.5", 4, "whole number"),
    ("'a':+", 4, "No number"),
    ("'a':+1.5", 5, "whole number"),
    ("'a':9999", 4, "too many"),
    ("'a':+9999999999", 5, "too large"),
    ("'a':'b'", 3, "No number"),
    ("'a',", 3, "comma"),
    ("'a',,'b'", 3, "comma"),
    ("'a',-5", 5, "not a token id"),
    ("'a',1.5", 4, "not a token id"),
    ("'a',007", 4, "not a token id"),
    ("'a',00000", 4, "not a token id"),
    ("'a',99999999999", 4, "not a token id"),
    ("'a'=", 3, "missing after ="),
    ("'a'=+'b'", 3, "missing after ="),
    ("'a'=,'b'", 4, "comma"),
    ("'a'^2", 3, "has no meaning"),
    ("'a'×2", 3, "has no meaning"),
    ("'a'−'b'", 3, "has no meaning"),
    ("'a'*１", 4, "has no meaning"),
    ("'a'+\"b\"", 4, "has no meaning"),
    ("'a'\x00", 3, "There is an invisible character here: U+0000"),
    ("('a'", 0, "never closed"),
    ("('a'+'b'", 0, "never closed"),
    ("(('a')", 0, "never closed"),
    ("('a' 'b')", 5, "operator"),
    ("'a'+()", 5, "are empty"),
    ("('a')()", 5, "operator"),
    ("-'a'", 0, "cannot begin"),
    ("+'a'", 0, "cannot begin"),
    ("2*'a'", 0, "cannot begin"),
    ("0.5 * ('a'+'b')", 0, "cannot begin"),
    ("'a'+cat", 4, "no quotes around it"),
    ("'a'+dog", 4, "no quotes around it"),
    ("'a' AND 'b'", 4, "operator"),
    ("foo('a')", 0, "no function"),
    ("Mean('a','b')", 0, "no function"),
    ("cat('a')", 0, "two expressions or more"),
    ("cat('a',)", 7, "comma"),
    ("lerp('a','b')", 0, "two expressions and a number"),
    ("slerp('a',0.5)", 10, "not a number"),
    ("lerp('a','b','c')", 13, "number"),
    ("lerp('a','b',0.5,1)", 17, "no more arguments"),
    ("L('a','b')", 6, "no more arguments"),
    ("L('a'", 1, "never closed"),
    ("cat('a' 'b')", 8, "operator"),
    ("cat('a',256)", 8, "not a number"),
    ("sum('a',2)", 8, "no more arguments"),
]


@pytest.mark.parametrize(("text", "place", "words"), MISTAKES, ids=[text[:40] for text, _, _ in MISTAKES])
def test_mistake(text: str, place: int, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    error = caught.value
    assert error.start == place, error.render()
    assert error.end is not None
    assert place <= error.end <= len(text)
    assert words in error.message
    assert error.expected
    assert error.source == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("'don't'", "twice"),
        ("'a'+“b”", "Did you mean '"),
        ("'a'×2", "Did you mean *"),
        ("'a'−'b'", "Did you mean -"),
        ("slrp('a','b',1)", "Did you mean slerp"),
        ("-'a'", "*-1"),
        ("2*'a'", "'cat'*2"),
        ("'a'*2g", "Did you mean G"),
        ("'a' 'b'", "comma"),
        ("'a'+dog", "'dog'"),
        ("'a'+cat", "'cat'"),
        ("l('a')", "Did you mean L"),
        ("'a':1.2", "(<'cat'>:1.2)"),
        ("'a',('b'+'c')", "cat(a, b)"),
        ("'a',dog", "'dog'"),
        ("'a' AND 'b'", "<'cat'> AND <'dog'>"),
        ("'a'*(0,5)", "0.5"),
        ("'a'*50%", "0.5"),
        ("'a'*2x", "L or G"),
        ("'a'*2.5.1", "one point"),
        ("mean('a',2*'b')", "'cat'*2"),
    ],
)
def test_hint_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_render_puts_the_caret_under_the_mistake() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("'a'+\n'b'*x")
    assert caught.value.render().splitlines()[1:3] == ["  'b'*x", "     ^"]


def test_render_cuts_a_long_line_around_the_mistake() -> None:
    text = "'" + "x" * 300 + "' ! '" + "y" * 300 + "'"
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    shown, caret = caught.value.render().splitlines()[1:3]
    assert len(shown) < 110
    assert shown[caret.index("^")] == "!"


def test_render_counts_wide_characters_as_two_columns() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("'猫猫e\u0301' 5")
    assert caught.value.render().splitlines()[2] == "  " + " " * 8 + "^"


def test_render_has_nothing_that_a_terminal_acts_on() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("'a' '\x1b[31mRED'")
    assert "\x1b" not in caught.value.render()


def test_error_as_json_has_every_field() -> None:
    with pytest.raises(EmbedMergeError) as caught:
        parse("'a'+")
    assert caught.value.as_json() == {
        "message": "Nothing follows +.",
        "start": 3,
        "end": 4,
        "expected": "a text in quotes such as 'dog', a function, or (",
        "hint": "Remove the + or write a text after it.",
    }


PROMPTS: list[tuple[str, list[str]]] = [
    # a prompt, and the expressions in it
    ("", []),
    ("a photo of a cat", []),
    ("it's a cat", []),
    ("< 'a'>", []),
    ("{ 'a'}", []),
    ("<lora:x:1>", []),
    ("{red|blue}", []),
    ("{2$$a|b}", []),
    ("a < 'b' and c > d", []),
    ("<-'a'>", []),
    ("<'EM_1'> {'EM_22'}", []),
    ("<'a'>", ["'a'"]),
    ("{'a'}", ["'a'"]),
    ("x<'a'>y", ["'a'"]),
    ("<'a'+'b'>, {'c'}", ["'a' + 'b'", "'c'"]),
    ("<'a'><'b'>", ["'a'", "'b'"]),
    ("<('a'+'b')*2>", ["('a' + 'b')*2"]),
    ("{slerp('a','b',0.5)}", ["slerp('a', 'b', 0.5)"]),
    ("<L('a')>", ["L('a')"]),
    ("<'a>b'>", ["'a>b'"]),
    ("{'a}b'}", ["'a}b'"]),
    ("<'a{b'>", ["'a{b'"]),
    ("<'it''s'>", ["'it''s'"]),
    ("(<'a'>:1.2) [<'b'>:<'c'>:0.5]", ["'a'", "'b'", "'c'"]),
    ("<'EM_x'>", ["'EM_x'"]),
    ("{'a'|'b'}", []),
    ("{('quoted' text)|b} <'c'>", ["'c'"]),
    ("{'a|b'}", ["'a|b'"]),
    ("{'a' and b|'c'}", []),
]


@pytest.mark.parametrize(("prompt", "expected"), PROMPTS, ids=[prompt[:30] or "empty" for prompt, _ in PROMPTS])
def test_expressions_in_a_prompt(prompt: str, expected: list[str]) -> None:
    source = parse(prompt)
    assert source.kind == "prompt"
    assert [print_expression(node) for node in source.expressions] == expected


@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ("a <'b'", 2),
        ("<'don't> x", 6),
        ("x {'a'", 2),
        ("ok <'a'+> then", 7),
        ("{'a' 'b|c'}", 5),
        ("a {'cat'+'dog'*0.5, {red|blue} hair", 20),
        ("a {'cat'*|0.5} b", 9),
        ("<'a'> <'b' 'c'>", 11),
    ],
)
def test_mistake_in_a_prompt_is_placed_in_the_prompt(prompt: str, place: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(prompt)
    assert caught.value.start == place
    assert caught.value.source == prompt


def test_a_mistake_leaves_the_rest_of_the_prompt_readable() -> None:
    parts = read_prompt("a <'b'+> c <'d'>")
    assert [type(part) for part in parts] == [PromptText, BrokenInline, PromptText, Inline]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("'a'", "expression"),
        ("  ('a')", "expression"),
        ("norm ('a')", "expression"),
        ("foo('a' *2)", None),
        ("portrait ('mona lisa')", "prompt"),
        ("1girl, 'quoted'", "prompt"),
        ("3/4 'view'", "prompt"),
        ("a 'b'", "prompt"),
        ("cat", "prompt"),
        ("(cat:1.2)", "prompt"),
    ],
)
def test_kind_of_source(text: str, kind: str | None) -> None:
    if kind is None:
        with pytest.raises(ExpressionError):
            parse(text)
    else:
        assert parse(text).kind == kind


@given(expressions())
def test_printing_and_parsing_agree(node: Expression) -> None:
    printed = print_expression(node)
    again = parse_expression(printed)
    assert again == node
    assert print_expression(again) == printed


@given(st.text(max_size=60) | sources)
@example("<'")
@example("'" * 7)
@example("((((((('a")
@settings(max_examples=400)
def test_any_text_is_read_or_has_a_placed_mistake(text: str) -> None:
    try:
        source = parse(text)
    except ExpressionError as error:
        assert error.start is not None
        assert error.end is not None
        assert 0 <= error.start <= error.end <= len(text)
        assert error.render()
        return
    assert parse(source.canonical).nodes == source.nodes or source.kind == "prompt"
    for node in source.nodes:
        assert 0 <= node.start <= node.end <= len(text)


@given(st.text(max_size=60) | sources)
def test_parts_cover_a_prompt(text: str) -> None:
    parts = read_prompt(text)
    assert "".join(text[part.start : part.end] for part in parts) == text


@given(expressions())
def test_every_node_has_its_place(node: Expression) -> None:
    text = print_expression(node)
    for part in _nodes(parse_expression(text)):
        assert 0 <= part.start < part.end <= len(text)
        if isinstance(part, Text):
            assert text[part.start : part.end] == print_expression(part)


def _nodes(node: Expression) -> list[Expression]:
    if isinstance(node, Text):
        return [node]
    if isinstance(node, Sum):
        inner = [term.operand for term in node.terms]
    else:
        inner = list(node.arguments) if isinstance(node, Call) else [node.base]
    return [node, *(found for each in inner for found in _nodes(each))]


HOSTILE = {
    "10,000 terms": "'a'" + "+'a'" * 4_900,
    "10,000 postfixes": "'a'" + "*2" * 9_900,
    "10,000 equals": "'a'" + "+'a'=*2" * 2_800,
    "10,000 openings": "(" * 9_999 + "'a'",
    "10,000 functions": "L(" * 9_000 + "'a'",
    "10,000 quotes": "'" * 19_999,
    "10,000 inline openings": "<'a'>" * 3_999,
    "unclosed inlines": "<'" * 9_999,
    "parentheses of numbers": "'a'*" + "(" * 9_000,
    "brackets": "<(" * 9_999,
    "one long word": "'" + "x" * 19_990 + "'",
    "long digits": "'a'*" + "1" * 19_000,
    "minus signs": "'a'*" + "-" * 19_000,
    "names": "'a'+" + "n" * 19_000,
    "nested functions in a prompt": "norm(" * 3_900,
    "inline functions": "masterpiece, <" + "L(" * 9_000,
    "functions and spaces": "<norm (" * 2_500,
    "a sign and spaces": "-" + " " * 19_998,
    "signs and spaces": "- " * 9_999,
    "choices": "{'|" * 6_660,
    "closed choices": "{'a'|" * 3_000 + "}" * 3_000,
    "unclosed brackets": "{'" * 9_000 + "|",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_source_takes_time_by_length(text: str) -> None:
    def read(source: str) -> None:
        try:
            parse(source)
        except ExpressionError as error:
            assert error.render()

    assert grows_by_length(read, text)


def test_a_source_too_long_is_refused_unread() -> None:
    with pytest.raises(ExpressionError, match="100000 characters") as caught:
        parse("'" * 100_000)
    assert caught.value.start == MAX_LENGTH


def test_nesting_is_bounded() -> None:
    parse("(" * MAX_DEPTH + "'a'" + ")" * MAX_DEPTH)
    with pytest.raises(ExpressionError, match="levels deep"):
        parse("(" * (MAX_DEPTH + 1) + "'a'" + ")" * (MAX_DEPTH + 1))
    with pytest.raises(ExpressionError, match="levels deep"):
        parse("'a'" + "+'a'=*2" * (MAX_DEPTH + 1))
    with pytest.raises(ExpressionError, match="levels deep"):
        parse("'a'*" + "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1))


def test_count_is_bounded() -> None:
    parse(f"'a':{MAX_COUNT}")
    with pytest.raises(ExpressionError, match="too many"):
        parse(f"'a':{MAX_COUNT + 1}")


def test_every_function_has_a_meaning() -> None:
    assert set(FUNCTIONS) == set(SIGNATURES)


def test_every_function_is_in_the_table() -> None:
    called = {name for source, _ in MEANINGS for name in re.findall(r"(\w+)\(", source)}
    assert set(SIGNATURES) <= called, "MEANINGS has no row that calls these functions"


def test_a_prompt_as_one_expression() -> None:
    assert parse("a <'b'*2> c").as_expression() == "cat(('a '), ('b'*2), (' c'))"
    assert parse("<'b'>").as_expression() == "'b'"
    assert parse("it's").as_expression() == "'it''s'"
    assert parse("").as_expression() == "''"
    assert parse(" 'a' ").as_expression() == "'a'"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<('A':('B'+'C'):1)>", "To blend two texts, write lerp('a', 'b', 0.5)"),
        ("'A':'B'", "[<'a'>:<'b'>:0.5]"),
        ("'A':L('B')", "lerp('a', 'b', 0.5)"),
        ("{'80s anime|'90s anime}", "An apostrophe after { starts a text."),
        ("a {'90s anime} b", "put a space between the two"),
        ("'90s anime", "For a prompt, write the apostrophe"),
        ("'cat'+'dog'\u200b", "Remove it."),
        ("'cat\u2019+'dog\u2019'", "not with \u2019"),
        ("'cat' <lora:x:1>", "Remove tags such as <lora:name:1> from the expression."),
        ("<'til dawn>", "An apostrophe after < starts a text."),
    ],
)
def test_hints_that_fit(source: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(source)
    assert words in (caught.value.hint or "")


def test_other_hints_stay() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("'cat':x")
    assert "lerp" in (caught.value.hint or "")
    with pytest.raises(ExpressionError) as caught:
        parse("'cat':*")
    assert caught.value.hint is None
