"""Prompts that EM took the expressions out of get them back, whatever else stands in the generation info."""

from __future__ import annotations

import json

import pytest
from growth import grows_by_length
from hypothesis import given
from hypothesis import strategies as st
from strategies import expressions

from lib_embedmerge.core.infotext import find_source_in_infotext, restore_prompts
from lib_embedmerge.lang.nodes import Expression
from lib_embedmerge.lang.printer import print_expression

# The example of EM's own help.
EM_HELP = """a photo of <'EM_1'>
Negative prompt: {'EM_2'}
Steps: 8, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1374372309, Size: 512x512, Model hash: c6bbc15e32, \
Model: sd-v1-5-inpainting, EmbeddingMerge: "<'EM_1'>=<'sky' * 2/4 + 'forest' * 3/4>, {'EM_2'}={'blurry'+'cropped'}", \
Conditional mask weight: 1"""

SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7"


@pytest.mark.parametrize(
    ("parameter", "prompt", "expected"),
    [
        ("<'EM_1'>=<'cat'+'dog'>", "a <'EM_1'> b", "a <'cat'+'dog'> b"),
        ("{'EM_2'}={'cat'*2}", "a {'EM_2'} b", "a {'cat'*2} b"),
        ("<'EM_1'>=<'a'>, {'EM_2'}={'b'}, <'EM_10'>=<'c'>", "<'EM_10'> {'EM_2'} <'EM_1'>", "<'c'> {'b'} <'a'>"),
        ("<'EM_1'>=<'a'>", "<'EM_1'> and <'EM_1'>", "<'a'> and <'a'>"),
        # What looks like the next entry is part of a text.
        ("<'EM_1'>=<'x {'}, {'} y'>, <'EM_2'>=<'b'>", "<'EM_1'> <'EM_2'>", "<'x {'}, {'} y'> <'b'>"),
        ("{'EM_1'}={'x, {'+'} y'}, <'EM_2'>=<'b'>", "{'EM_1'} <'EM_2'>", "{'x, {'+'} y'} <'b'>"),
        ("<'EM_1'>=<'a>, <'>, <'EM_2'>=<'b'>", "<'EM_1'> <'EM_2'>", "<'a>, <'> <'b'>"),
        ("<'EM_1'>=<'it''s > 1'>", "<'EM_1'>", "<'it''s > 1'>"),
        # An expression that names another stays as it is.
        ("<'EM_1'>=<'x <''EM_2''>'>, <'EM_2'>=<'b'>", "<'EM_1'>", "<'x <''EM_2''>'>"),
        ("<'EM_1'>=<'{'EM_2'}'>, {'EM_2'}={'b'}", "<'EM_1'>", "<'{'EM_2'}'>"),
        # EM's spaces, where nobody writes one.
        ("<'EM_1'>=<'a'>", " <'EM_1'> ", "<'a'>"),
        ("<'EM_1'>=<'a'>", "( <'EM_1'> :1.2), b", "(<'a'>:1.2), b"),
        ("<'EM_1'>=<'a'>, <'EM_2'>=<'b'>", "[ <'EM_1'> : <'EM_2'> :0.5]", "[<'a'>:<'b'>:0.5]"),
        ("<'EM_1'>=<'a'>", "x <'EM_1'> , y", "x <'a'>, y"),
        ("<'EM_1'>=<'a'>", "[x| <'EM_1'> |y]", "[x|<'a'>|y]"),
        ("<'EM_1'>=<'a'>", "x <'EM_1'> y", "x <'a'> y"),
        ("<'EM_1'>=<'a'>", "x  <'EM_1'>  y", "x  <'a'>  y"),
        # Not known, or not to be read.
        ("<'EM_1'>=<'a'>", "<'EM_2'> <'EM_1'>", "<'EM_2'> <'a'>"),
        ("<'EM_1'>=<'a'>; <'EM_2'>=<'b'>", "<'EM_1'> <'EM_2'>", "<'a'> <'EM_2'>"),
        ("<'EM_1'>=<'a'>, <'EM_2'>=<'b", "<'EM_1'> <'EM_2'>", "<'a'> <'EM_2'>"),
        (json.dumps("<'EM_1'>=<'a'>, <'EM_2'>=<'\u00e9\n'>"), "<'EM_1'> <'EM_2'>", "<'a'> <'\u00e9\n'>"),
    ],
)
def test_names_are_replaced(parameter: str, prompt: str, expected: str) -> None:
    assert restore_prompts({"Prompt": prompt, "EmbeddingMerge": parameter}) == {"Prompt": expected}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"Prompt": "a <'EM_1'>"},
        {"Prompt": "a <'cat'>", "EmbeddingMerge": "<'EM_1'>=<'a'>"},
        {"Prompt": "a <'EM_1'>", "EmbeddingMerge": ""},
        {"Prompt": "a <'EM_1'>", "EmbeddingMerge": "nonsense"},
        {"Prompt": "a <'EM_1'>", "EmbeddingMerge": "\"<'EM_1'>=<'a'>"},
        {"Prompt": "a <'EM_1'>", "EmbeddingMerge": "<'EM_1'>=<a>"},
        {"Prompt": "a <'EM_1'>", "EmbeddingMerge": "<'EM_1'>={'a'"},
        {"Prompt": ["a <'EM_1'>"], "EmbeddingMerge": "<'EM_1'>=<'a'>"},
        {"Prompt": "a <'EM_1'>", "EmbeddingMerge": ["<'EM_1'>=<'a'>"]},
        {"Other": "a <'EM_1'>", "EmbeddingMerge": "<'EM_1'>=<'a'>"},
    ],
)
def test_nothing_changes_without_something_to_put_back(params: dict[str, str]) -> None:
    assert restore_prompts(params) == {}


def test_every_prompt_is_restored_and_only_those_that_change_are_given() -> None:
    params = {
        "Prompt": "<'EM_1'>",
        "Negative prompt": "plain",
        "Hires prompt": "x <'EM_1'>",
        "Hires negative prompt": "{'EM_2'}",
        "Seed": "<'EM_1'>",
        "EmbeddingMerge": "<'EM_1'>=<'a'>, {'EM_2'}={'b'}",
    }
    assert restore_prompts(params) == {"Prompt": "<'a'>", "Hires prompt": "x <'a'>", "Hires negative prompt": "{'b'}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EM_HELP, "a photo of <'sky' * 2/4 + 'forest' * 3/4>"),
        (EM_HELP.replace("\n", "\r\n"), "a photo of <'sky' * 2/4 + 'forest' * 3/4>"),
        (f"a cat,\na dog\nNegative prompt: bad,\nugly\n{SETTINGS}", "a cat,\na dog"),
        (f"a cat\n{SETTINGS}", "a cat"),
        (f"  a <'cat'*2> here \n{SETTINGS}\n\nTime taken: 3.2 sec.", "a <'cat'*2> here"),
        (f"Negative prompt: bad\n{SETTINGS}", ""),
        (SETTINGS, ""),
        (f"Steps: 1, to go\n{SETTINGS}", "Steps: 1, to go"),
        (f"<'EM_1'> x\n{SETTINGS}, EmbeddingMerge: <'EM_1'>=<'cat'*2>, Version: v1", "<'cat'*2> x"),
        (f"<'EM_1'>\n{SETTINGS}, Note: \"a, EmbeddingMerge: 3\", EmbeddingMerge: <'EM_1'>=<'b'>", "<'b'>"),
        (f"<'EM_1'>\n{SETTINGS}, EmbeddingMerge: \"<'EM_1'>=<'b'>", "<'EM_1'>"),
        ("a cat\nSteps: 20, Sampler: Euler a", None),
        ("a cat\nSteps: 20, b, c, d", None),
        ("a photo, style: anime, mood: dark, light: soft", None),
        ("'cat'+'dog'", None),
        ("", None),
        ("Steps: many, Sampler: a, b: c", None),
    ],
)
def test_the_prompt_of_a_whole_paste(text: str, expected: str | None) -> None:
    assert find_source_in_infotext(text) == expected


@given(st.lists(expressions(), min_size=1, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_what_em_wrote_comes_back(nodes: list[Expression], curly: list[bool]) -> None:
    written, prompt, expected = [], [], []
    for number, (node, is_curly) in enumerate(zip(nodes, curly, strict=False), 1):
        opening, closing = "{}" if is_curly else "<>"
        text = print_expression(node)
        if not text.startswith("'"):  # EM knew neither parentheses nor functions
            text = "'x' + " + text
        name = f"{opening}'EM_{number}'{closing}"
        written.append(f"{name}={opening}{text}{closing}")
        prompt.append(f"word {name}")
        expected.append(f"word {opening}{text}{closing}")
    parameter = ", ".join(written)
    quoted = json.dumps(parameter, ensure_ascii=False)
    for value in (parameter, quoted):
        params = {"Prompt": " ".join(prompt), "EmbeddingMerge": value}
        assert restore_prompts(params) == {"Prompt": " ".join(expected)}
    assert find_source_in_infotext(f"{' '.join(prompt)}\n{SETTINGS}, EmbeddingMerge: {quoted}, Seed: 1") == " ".join(
        expected
    )


@given(st.text(alphabet=st.sampled_from(list("<>{}'\"\\,:=_1EM \nSteps")), max_size=60))
def test_any_text_is_read(text: str) -> None:
    find_source_in_infotext(text)
    find_source_in_infotext(f"{text}\n{SETTINGS}, EmbeddingMerge: {text}")
    restore_prompts({"Prompt": text, "EmbeddingMerge": text})


SIZE = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "'" * SIZE,
        "<'EM_1'>=<" + "'" * SIZE,
        "<'EM_1'>=<'a'>, " * (SIZE // 16),
        "Steps: 1,\n" * (SIZE // 10),
        "Steps: 1," + 'a: "\\",' * (SIZE // 7),
        "Steps: 1,a:" + '"\\' * (SIZE // 2),
        "Steps: 1," + " " * SIZE,
        "Steps: 1," + "a " * (SIZE // 2),
        "Steps: 1," + "a:" * (SIZE // 2),
        "Steps: 1," + 'a:"' * (SIZE // 3),
        " <'EM_1'> " * (SIZE // 10),
        "<'EM_" + "1" * SIZE,
        "\0\ud800" * (SIZE // 2),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_long_texts_take_no_longer_than_they_are(text: str) -> None:
    assert grows_by_length(find_source_in_infotext, text)
    assert grows_by_length(lambda rest: find_source_in_infotext(f"a\n{SETTINGS}, EmbeddingMerge: {rest}"), text)
    assert grows_by_length(lambda both: restore_prompts({"Prompt": both, "EmbeddingMerge": both}), text)
