"""Prompts that a token counter can count: a word for each vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from memory_model import MemoryModel, MemoryNames, random_model

from lib_embedmerge.core.counting import make_countable
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.texts import NoEmbeddings, TextReader
from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.source import parse
from lib_embedmerge.tokenizer import clip_tokenizer

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "em_golden.json").read_text(encoding="utf-8"))


def tokens(text: str) -> int:
    return len(clip_tokenizer().encode(text))


@pytest.fixture(scope="module")
def outliner() -> Outliner:
    """Of no model, as where a web UI has none loaded."""
    return Outliner(TextReader(clip_tokenizer(), NoEmbeddings()))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", ""),
        ("a  photo of a cat", "a  photo of a cat"),
        ("<'cat'>", "the"),
        ("a<'cat'>b", "a the b"),
        ("(<'cat dog'>:1.2)", "( the the :1.2)"),
        ("[<'cat'>:<'dog'>:0.5]", "[ the : the :0.5]"),
        ("<'cat'>:<''>,<'dog':2>", "the :  , the the".replace("  ", " ")),
        ("x <''> y", "x  y"),
        ("<'cat'+'dog'><'cat':75>", " ".join(["the"] * 76)),
        # mistakes count nothing, and what else there is is counted
        ("x<'cat'+>y", "x y"),
        ("x <'cat':76>, <'dog'>", "x , the"),
        ("x <'never closed, y", "x "),
        ("<foo('cat')> <'dog'>", " the"),
        ("<'cat',49408> z", " z"),
        ("{'a'|'b'} {red|blue}", "{'a'|'b'} {red|blue}"),
        ("<lora:x:1> <'cat'>", "<lora:x:1> the"),
    ],
)
def test_countable(outliner: Outliner, prompt: str, expected: str) -> None:
    assert make_countable(prompt, outliner) == expected


VALID = [case["expression"] for case in GOLDEN["expressions"] if case["error"] is None]


def _inline(text: str) -> tuple[str, int] | None:
    """An expression of the golden set as a prompt, and the vectors of it; None for what is no expression."""
    prompt = f"<{text}>"
    try:
        source = parse(prompt)
        outlined = len(Outliner(TextReader(clip_tokenizer(), NoEmbeddings())).outline(source))
    except ExpressionError:
        return None
    return (prompt, outlined) if len(source.expressions) == 1 and len(source.parts) == 1 else None


CASES = [found for text in VALID if (found := _inline(text))]


def test_there_are_cases() -> None:
    assert len(CASES) > 100


@pytest.mark.parametrize(("prompt", "vectors"), CASES, ids=[prompt[:40] for prompt, _ in CASES])
def test_expressions_count_as_their_vectors(outliner: Outliner, prompt: str, vectors: int) -> None:
    around = f"masterpiece, ({prompt}:1.1), best quality,{prompt}it's BREAK {prompt}"
    rest = tokens("masterpiece, (") + tokens(":1.1), best quality,") + tokens("it's BREAK")
    assert tokens(make_countable(around, outliner)) == rest + 3 * vectors


def test_embeddings_in_expressions_count_as_their_vectors() -> None:
    base = random_model(3000)
    names = MemoryNames({"mine": {"clip_l": torch.ones(7, 768), "clip_g": torch.ones(7, 1280)}})
    model = MemoryModel(base.encoders, names)
    found = make_countable("mine <'mine'+'cat'> <'mine','cat'>", make_outliner(model))
    assert found == "mine " + " ".join(["the"] * 15)
    for text, count in (("'mine'+'cat'", 7), ("'mine','cat'", 8)):
        assert len(evaluate(parse(text), model)["clip_l"]) == count


def test_the_word_is_one_token_whatever_stands_beside_it() -> None:
    for beside in ("'s", ")", ":1.2)", "|", "]", "AND", ",", "1", "é", "\u0301", "\x1f"):
        text = f"x<'cat'>{beside}"
        replaced = make_countable(text, Outliner(TextReader(clip_tokenizer(), NoEmbeddings())))
        assert tokens(replaced) == tokens("x") + 1 + tokens(beside), beside
