"""Prompts that look like expressions, and prompts that do not (lang/lookalikes.py)."""

from __future__ import annotations

import pytest
from growth import grows_by_length
from hypothesis import given
from hypothesis import strategies as st

from lib_embedmerge.actions.typed_input import read_to_build
from lib_embedmerge.errors import LookalikeError
from lib_embedmerge.lang.lookalikes import find_likely_meaning
from lib_embedmerge.lang.source import parse
from lib_embedmerge.lang.typed import read_typed

STOPPED = {
    # typed: meant
    "cat+dog*0.5": "'cat'+'dog'*0.5",  # a shell took the quotes
    "cat+'dog'": "'cat'+'dog'",
    "red hair * 1.2 + cat": "'red hair'*1.2+'cat'",
    "red hair + cat": "'red hair'+'cat'",
    "king - man": "'king'-'man'",
    "my-style*0.8": "'my-style'*0.8",  # a hyphen inside a word is part of it
    "spider-man+batman": "'spider-man'+'batman'",
    "king − man + woman": "'king'-'man'+'woman'",
    "cat−dog*0.1": "'cat'-'dog'*0.1",
    "cat*0,5": "'cat'*0.5",
    "cat*2L": "'cat'*2L",
    "photo of a <cat+dog> at night": "photo of a <'cat'+'dog'> at night",
    'a <"cat"+"dog">, <"oil painting"*1.5>': "a <'cat'+'dog'>, <'oil painting'*1.5>",
    "a <cat+'dog'> x": "a <'cat'+'dog'> x",
    '{"cat"+"dog"}': "{'cat'+'dog'}",
    "a ‹“cat”+“dog”> x": "a <'cat'+'dog'> x",
    "a ＜'cat'+'dog'＞ x": "a <'cat'+'dog'> x",
    "a &lt;'cat'+'dog'&gt; x": "a <'cat'+'dog'> x",
    "a <slerp(cat,dog,0.5)> photo": "a <slerp('cat','dog',0.5)> photo",
    "my 'cat' + 'dog'": "my <'cat'+'dog'>",
    "photo of 'cat'+'dog'": "photo of <'cat'+'dog'>",
    "a 'cat'+'dog' photo": "a <'cat'+'dog'> photo",
    'text "A" + "B"': "text <'A'+'B'>",
    "\"'cat'+'dog'*0.5\"": "'cat'+'dog'*0.5",
    "“'cat'+'dog'”": "'cat'+'dog'",
    "`'cat'+'dog'`": "'cat'+'dog'",
    "\\'cat\\'+\\'dog\\'": "'cat'+'dog'",
    "cat'*0.5": "'cat'*0.5",
    "(cat+dog)*2": "('cat'+'dog')*2",
    "cat*-1": "'cat'*-1",
    "2*cat": "'cat'*2",
    "0.5*cat+dog": "'cat'*0.5+'dog'",
    "slerp(cat, dog, 0.5)": "slerp('cat','dog',0.5)",
    "L(cat)+G(dog)": "L('cat')+G('dog')",
    "girl's hat + boy's hat": "'girl''s hat'+'boy''s hat'",
    "cat+dog, best quality": "<'cat'+'dog'>, best quality",
    "masterpiece, cat*1.2 , solo": "masterpiece, <'cat'*1.2> , solo",
    '"cat"+"dog"*0.5': "'cat'+'dog'*0.5",
    '("cat"+"dog")*2': "('cat'+'dog')*2",
    'slerp("cat", "dog", 0.5)': "slerp('cat','dog',0.5)",
    '"it\'s"+"b"': "'it''s'+'b'",
    "“cat”+“dog”": "'cat'+'dog'",
    "‘cat’*2": "'cat'*2",
    "’cat’+’dog’": "'cat'+'dog'",
    "«cat»+«dog»": "'cat'+'dog'",
    "`cat`+`dog`": "'cat'+'dog'",
    "cat × 1.2": "'cat'*1.2",
    "cat＋dog": "'cat'+'dog'",
    "\u200b'cat'+'dog'": "'cat'+'dog'",
    "\ufeff'cat'": "'cat'",
    "\u2060\u200e 'cat'+'dog'": " 'cat'+'dog'",
    "\u3164'cat'*2": "'cat'*2",
    "a <\u200b'cat'>": "a <'cat'>",
    "\u200bcat+dog": "'cat'+'dog'",
    "cat'+'dog'": "'cat'+'dog'",
    "'cat'+'dog".replace("'cat'", "cat'", 1): "'cat'+'dog'",
}
SAID = {
    "cat/2": "'cat'/2",
    "part/2": "'part'/2",
    "a < 'cat'>": "a <'cat'>",
    "a { 'cat'+'dog' }, b": "a {'cat'+'dog' }, b",
    "a < slerp('a','b',0.5)>": "a <slerp('a','b',0.5)>",
}
PROMPTS = (
    "a cat", "1girl, long-haired, fate/stay night, re:zero, 16:9, f/1.8", "6+girls, 3+boys, solo", "18+, c++ code, 4k+",
    "iphone 14+ photo", "portrait of a woman at night - oil painting", "masterpiece, woman - oil, best quality",
    "rock 'n' roll", "don't stop, it's", '"hello" sign', '"hello", text', 'sign says "hello": red', "cat (animal)",
    "+_+, ^_^, :3, =_=, >_<, *_*", "24/7 store, 22/7, may/2020", "half-life 2, x-ray, yu-gi-oh!", "5'6\" tall",
    "a 1/2 b", "cat:1.2", "(cat+dog:1.2)", "[cat|dog]", "<lora:a+b:1>", "{red|blue} hair", "**bold** text", "a & b",
    "nier:automata - 2b", "ben 10 - ultimate", "l'homme - l'amour", "x - y", "cat - 2", "90's anime - style",
    "sum(mer)", "near(tree)", "norm(red car)", "near(sea), far(away)", "a <lora:x+y:0.5>", "<lora:a+b>", "{a+b|c}",
    '"hello"', "rock 'n' roll", "score_9, score_8_up", "nier:automata", "2*2=4", "a , b", "cat cat cat", "1.5 m tall",
    "x < y and y > z", "",
)  # fmt: skip


@pytest.mark.parametrize("typed", STOPPED)
def test_what_looks_like_an_expression_is_not_built(typed: str) -> None:
    with pytest.raises(LookalikeError) as caught:
        read_to_build(typed)
    error = caught.value
    assert error.suggestion == STOPPED[typed]
    assert error.hint == f"Did you mean {STOPPED[typed]} ?"
    assert error.start is not None
    assert error.end is not None
    assert 0 <= error.start < error.end <= len(typed)
    assert parse(STOPPED[typed]).expressions


@pytest.mark.parametrize("typed", STOPPED)
def test_the_user_can_insist(typed: str) -> None:
    assert read_to_build(typed, insist=True).meant is not None
    assert read_to_build(typed, read_as="prompt").kind == "prompt"


@pytest.mark.parametrize("typed", SAID)
def test_what_is_less_certain_is_said(typed: str) -> None:
    found = read_to_build(typed)
    assert found.meant is not None
    assert found.meant.source == SAID[typed]
    assert f"Did you mean {SAID[typed]} ?" in found.all_remarks[0]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_are_no_expressions(prompt: str) -> None:
    assert find_likely_meaning(prompt) is None


@given(st.text(max_size=40) | st.text(alphabet="cat'\"+-*/().,:0 <>{}\u200b“", max_size=20))
def test_what_is_meant_can_be_read(prompt: str) -> None:
    found = find_likely_meaning(prompt)
    if found is not None:
        assert parse(found.source).expressions
        assert 0 <= found.start < found.end <= len(prompt)


@pytest.mark.parametrize("text", ["cat+", "cat,", "a'+'", "(", "cat+dog,", '"', "< '", "\u200b", "a-b ", "cat*2,"])
def test_time_grows_by_length(text: str) -> None:
    assert grows_by_length(find_likely_meaning, (text * 20_000)[:20_000])


def test_expressions_are_not_looked_at() -> None:
    assert read_typed("'cat+dog'*2").meant is None
