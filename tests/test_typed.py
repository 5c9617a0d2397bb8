"""What a user types, read as a web UI reads a prompt and written as a source (lang/typed.py, lang/attention.py)."""

from __future__ import annotations

import contextlib
import re

import pytest
from doubles import prompts as webui
from growth import grows_by_length
from hypothesis import example, given
from hypothesis import strategies as st

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.parts import find_parts
from lib_embedmerge.core.texts import NoEmbeddings, TextReader
from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.choices import ATTENTION, Attention
from lib_embedmerge.lang.source import parse
from lib_embedmerge.lang.typed import as_typed, escape_prompt, read_typed
from lib_embedmerge.tokenizer import clip_tokenizer

OUTLINER = Outliner(TextReader(clip_tokenizer(), NoEmbeddings()))


def ids(source: str) -> list[int | None]:
    return [token for part in find_parts(parse(source), OUTLINER) for token in part.ids]


def webui_ids(prompt: str) -> list[int]:
    """The tokens that a web UI gives to a prompt: each run of attention by itself."""
    text = re.sub(r"#[^\n]*(\n|\Z)", "\n", prompt)
    text, _ = webui.parse_prompt(text)
    return [token for run, _ in webui.parse_prompt_attention(text) for token in clip_tokenizer().encode(run)]


DROPPED = {
    r"saber \(fate\)": "saber (fate)",
    r"\[x\] \\ \a": "[x] \\ a",
    "(masterpiece:1.2)": "masterpiece",
    "(masterpiece:1.2), best (quality)": "masterpiece, best quality",
    "((cat)), [dog], [[bird]]": "cat, dog, bird",
    "((cat:1.2) dog:0.9)": "cat dog",
    "(cat:-0.5)": "cat",
    "(cat: +1.2 )": "cat",
    r"(cat \(animal\):1.3), x": "cat (animal) , x",  # `),` would be another token than `)` and `,`
    "cat(dog)": "cat dog",
    "(it)'s": "it 's",
    "(a)(b)": "ab",  # of one weight, which a web UI reads as one text
    "(cat, dog": "cat, dog",
    "cat) dog]": "cat) dog]",
    "cat :1.2)": "cat :1.2)",
    "(<'cat'+'dog'>:1.2), x": "<'cat'+'dog'>, x",
    "<lora:detail:0.8>cat": "cat",
    "cat, <lora:a b:1:2>, dog": "cat, , dog",
    "<hypernet:x:1> cat <lyco:y>": " cat ",
    "cat # a comment\ndog": "cat \ndog",
    "[cat:dog:0.5], (x:1.2)": "[cat:dog:0.5], x",
    "[cat|dog] (x)": "[cat|dog] x",
    "([a:b:3] c:1.1)": "[a:b:3] c",
    "(a|b)": "a|b",
    "a\\\nb [cat:dog:0.5]": "a\nb cat:dog:0.5",  # a web UI edits nothing here: it cannot read the backslash
    "cat BREAK\\n dog": "cat BREAK n dog",  # BREAK is read by itself
    "": "",
}
SCALED = {
    "(masterpiece:1.2), cat": "<'masterpiece'*1.2>, cat",
    "((cat))": "<'cat'*1.21>",
    "[cat]": "<'cat'*0.9090909>",
    "(cat:-0.5)": "<'cat'*-0.5>",
    "(cat:0) dog": "<'cat'*0> dog",
    "( cat :2)dog": " <'cat'*2> dog",
    "(it's:1.1)": "<'it''s'*1.1>",
    r"(cat \(animal\):1.3)": "<'cat (animal)'*1.3>",
    "(<'cat'+'dog'>:1.2)": "<('cat'+'dog')*1.2>",
    "({'cat'+'dog'} x:1.2)": "{('cat'+'dog')*1.2} <'x'*1.2>",
    "(cat:1)": "cat",
    "(<lora:x:1>cat:1.2)": "<'cat'*1.2>",
    r"saber \(fate\)": "saber (fate)",
}


@pytest.mark.parametrize("typed", DROPPED)
def test_attention_is_dropped(typed: str) -> None:
    assert read_typed(typed).source == DROPPED[typed]


@pytest.mark.parametrize("typed", SCALED)
def test_attention_is_written_as_multiplication(typed: str) -> None:
    assert read_typed(typed, "scale").source == SCALED[typed]


@pytest.mark.parametrize("typed", [*DROPPED, *SCALED])
def test_kept_is_as_typed(typed: str) -> None:
    found = read_typed(typed, "keep")
    assert (found.source, found.is_rewritten) == (typed, False)


@pytest.mark.parametrize(
    ("typed", "tokens"),
    [
        (r"saber \(fate\)", [25624, 263, 11734, 264]),
        ("(masterpiece:1.2)", clip_tokenizer().encode("masterpiece")),
    ],
)
def test_the_tokens_of_a_web_ui(typed: str, tokens: list[int]) -> None:
    assert ids(read_typed(typed).source) == tokens
    assert ids(read_typed(typed, "keep").source) != tokens


PROMPTS = st.lists(
    st.sampled_from(
        ["cat", "dog", "it's", " ", ", ", "!", "(", ")", "[", "]", ":1.2)", ":-0.5 )", ": +1)", ":", "\\", "\\(", "\\]",
         "\\\\", "<lora:x:1>", "#", "\n", "1", "猫", "'", "_", "."]
    ),
    max_size=14,
).map(lambda pieces: "a " + "".join(pieces))  # fmt: skip


@given(PROMPTS, st.sampled_from(ATTENTION[:2]))
@example("(a!)!", "drop")
@example("a(1)2", "drop")
@example("a (')s", "drop")
@example("<lora:x:1>'cat' dog", "drop")
@example("a <\\'cat'>", "drop")
@example("a <\\'cat'+> (b)", "scale")
@example("<lora:x:1>-'cat", "scale")
def test_a_prompt_has_the_tokens_that_a_web_ui_reads(prompt: str, attention: Attention) -> None:
    text, _ = webui.parse_prompt(prompt)
    if webui.get_learned_conditioning_prompt_schedules([text], 10) == [[[10, text]]]:  # prompt editing stays as it is
        assert ids(read_typed(prompt, attention).source) == webui_ids(prompt)


@given(PROMPTS | st.text(max_size=30), st.sampled_from(ATTENTION))
def test_a_rewritten_source_is_a_prompt_that_can_be_read(prompt: str, attention: Attention) -> None:
    try:
        found = read_typed(prompt, attention)
    except ExpressionError as error:
        assert error.source == prompt
        assert error.start is not None
        assert error.end is not None
        assert 0 <= error.start <= error.end <= len(prompt)
        return
    parse(found.source)


@pytest.mark.parametrize(
    "source", ["a cat", "saber (fate)", "(x:1.2)", "cat # x", "<lora:a:1> cat", "a <'b'> (c)", "'(x)'"]
)
def test_a_recipe_opens_as_what_reads_so_again(source: str) -> None:
    again = read_typed(as_typed(source)).source
    assert ids(again) == ids(source)


def test_a_prompt_of_the_language_is_escaped_for_a_web_ui() -> None:
    assert escape_prompt(r"saber (fate) <'(x)'> \o/") == r"saber \(fate\) <'(x)'> \\o/"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("(cat)", "Attention brackets and weights were removed"),
        (r"\(cat\)", "Backslashes were removed"),
        ("<lora:x:1> cat", "Removed <lora:x:1>: extra networks such as LoRA"),
        ("cat # note", "Removed # note: web UIs ignore text from #"),
        ("'(cat:1.2)'", "is inside quotes, where every character is read as it is"),
        ("'cat'+'<lora:x:1>'", "is inside quotes"),
        (r"a <'saber \(fate\)'>", "is inside quotes"),
        ("'embedding:catdog'+'sky'", "is inside quotes"),
        ("'{red|blue} hair'", "is inside quotes"),
        ("'__wild__'", "is inside quotes"),
        ("'[cat:dog:0.5]'", "is inside quotes"),
        (r"C:\Users\me", r"Backslashes were removed, as web UIs do: \U is read as U."),
        ("<embed:catdog> photo", "only SwarmUI calls an embedding like this; here write the name alone."),
    ],
)
def test_what_was_rewritten_is_said(typed: str, words: str) -> None:
    assert any(words in remark for remark in read_typed(typed).all_remarks)


@pytest.mark.parametrize("typed", ["a cat", "'cat'+'dog'", "a <'cat'+'dog'>, b"])
def test_nothing_is_said_where_nothing_was_rewritten(typed: str) -> None:
    assert read_typed(typed).all_remarks == ()
    assert not read_typed(typed).is_rewritten


def test_scaled_attention_is_said_not_to_be_the_same() -> None:
    assert "The effect differs" in read_typed("(cat:1.2)", "scale").all_remarks[0]


@pytest.mark.parametrize(
    ("typed", "message", "place"),
    [
        ("(cat:1.2.3)", "1.2.3 is not a weight.", "1.2.3"),
        ("(" * 101 + "cat", "Brackets are nested more than 100 levels deep.", "("),
        ("a <'cat'+> (b)", "Nothing follows +.", "+"),
    ],
)
def test_mistakes_have_their_place_in_what_was_typed(typed: str, message: str, place: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        read_typed(typed)
    assert caught.value.message == message
    assert typed[caught.value.start : caught.value.end] == place


def test_weights_beyond_numbers() -> None:
    with pytest.raises(ExpressionError, match="too large"):
        read_typed("((cat:" + "9" * 38 + "):" + "9" * 38 + ")", "scale")


def test_an_error_in_the_source_is_placed_in_what_was_typed() -> None:
    typed = r"(x:1.2), saber \(fate\), <lora:y:1> <'cat',99999>, z"
    found = read_typed(typed)
    with pytest.raises(ExpressionError) as caught:
        OUTLINER.outline(parse(found.source))
    placed = found.map_error(caught.value)
    assert typed[placed.start : placed.end] == ",99999"


def test_what_was_removed_is_said_where_nothing_is_left() -> None:
    found = read_typed("<lora:x:1>")
    with pytest.raises(ExpressionError) as caught:
        raise found.map_error(ExpressionError("This makes no vectors.", source="", start=0, end=0))
    assert "Removed <lora:x:1>" in (caught.value.hint or "")


class TestReadAs:
    def test_the_kind_is_that_of_what_was_typed(self) -> None:
        assert read_typed("'hello' sign", read_as="prompt").kind == "prompt"
        assert read_typed("'hello'").kind == "expression"
        assert read_typed("hello").kind == "prompt"

    def test_a_quoted_text_as_a_prompt(self) -> None:
        found = read_typed("'hello' sign", read_as="prompt")
        assert found.source == "'''hello'' sign'"
        assert ids(found.source) == clip_tokenizer().encode("'hello' sign")

    def test_a_prompt_stays_a_prompt(self) -> None:
        assert read_typed("cat+dog*0.5", read_as="prompt").source == "cat+dog*0.5"
        assert read_typed("cat+dog*0.5", read_as="prompt").meant is None

    def test_an_expression(self) -> None:
        assert read_typed("'cat'", read_as="expression").source == "'cat'"
        with pytest.raises(ExpressionError, match="no quotes around it"):
            read_typed("cat", read_as="expression")


@pytest.mark.parametrize(
    "text", ["(", "[a|b]", "(a:1.2)", "\\(", "[:1[", "#\n", "<lora:x>", ": ", ":1", "<'a'>(", "((a)"]
)
def test_time_grows_by_length(text: str) -> None:
    def read(prompt: str) -> None:
        with contextlib.suppress(ExpressionError):
            read_typed(prompt, "scale")

    assert grows_by_length(read, (text * 20_000)[:20_000])
