"""EM's own results, measured in the real AUTOMATIC1111 v1.10.1: ours are the same, but where the language says
else.

tests/data/em_golden.json, .npz: each expression with the vectors that the extension made of it there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from arrays import assert_close
from memory_model import MemoryModel, MemoryNames, SparseEncoder

from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.nodes import Inline
from lib_embedmerge.lang.source import parse

DATA = Path(__file__).parent / "data"
GOLDEN: dict[str, Any] = json.loads((DATA / "em_golden.json").read_text(encoding="utf-8"))

OVER_75 = {205}
LEFT_OF_THE_FIRST_QUOTE = {215, 216, 232}
"""EM drops what stands before the first quote: `x'cat'` and `abc 'cat'` are prompts here, `+'cat'` a mistake."""
DIVISION_BY_ZERO = {220, 221}
NOTHING = {227}
"""An empty text is a prompt of nothing, not a mistake."""
SPECIAL_TOKEN_IN_A_TEXT = {157}
"""EM refuses `<|endoftext|>` where the tokenizers of A1111 disagree on it; those of a checkpoint agree."""


@pytest.fixture(scope="module")
def arrays() -> dict[str, torch.Tensor]:
    with numpy.load(DATA / "em_golden.npz") as loaded:
        return {name: torch.from_numpy(loaded[name]) for name in loaded.files}


@pytest.fixture(scope="module")
def model(arrays: dict[str, torch.Tensor]) -> MemoryModel:
    return make_model(arrays, lambda table: table.numpy())


def make_model(arrays: Mapping[str, torch.Tensor], place: Callable[[torch.Tensor], Array]) -> MemoryModel:
    """The model of EM's results. place: puts a table where it shall lie."""
    places = {int(token): place for place, token in enumerate(arrays["token_ids"])}
    names = {
        name: {"clip_l": arrays[f"emb_{name}_l"].float(), "clip_g": arrays[f"emb_{name}_g"].float()}
        for name in GOLDEN["meta"]["embeddings"]
    }
    encoders = [SparseEncoder(f"clip_{x}", place(arrays[f"rows_{x}"].float()), rows_by_id=places) for x in "lg"]
    return MemoryModel(encoders, MemoryNames(names))


def _id(case: dict[str, Any]) -> str:
    return f"{case['id']}: {case['expression'][:40]}"


SAME = [
    case
    for case in GOLDEN["expressions"]
    if case["error"] is None and case["id"] not in OVER_75 | LEFT_OF_THE_FIRST_QUOTE | DIVISION_BY_ZERO
]
REFUSED = [
    case
    for case in GOLDEN["expressions"]
    if (case["error"] is not None and case["id"] not in NOTHING | SPECIAL_TOKEN_IN_A_TEXT)
    or case["id"] in OVER_75 | DIVISION_BY_ZERO | {232}
]


@pytest.mark.parametrize("case", SAME, ids=_id)
def test_same_vectors_as_em(case: dict[str, Any], model: MemoryModel, arrays: dict[str, torch.Tensor]) -> None:
    check_same_vectors(case, model, arrays)


def check_same_vectors(case: Mapping[str, Any], model: MemoryModel, arrays: Mapping[str, torch.Tensor]) -> None:
    vectors = evaluate(parse(case["expression"]), model)
    for key, letter in (("clip_l", "l"), ("clip_g", "g")):
        expected = arrays[f"e{case['id']}_{letter}"]
        assert vectors[key].shape == expected.shape
        assert to_numpy(vectors[key]).dtype == numpy.float32
        assert_close(to_numpy(vectors[key]), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", REFUSED, ids=_id)
def test_refused_with_a_place(case: dict[str, Any], model: MemoryModel) -> None:
    text = case["expression"]
    with pytest.raises(ExpressionError) as caught:
        evaluate(parse(text), model)
    error = caught.value
    assert error.start is not None
    assert error.end is not None
    assert 0 <= error.start <= error.end <= len(text)
    assert error.message.endswith(".")
    assert error.expected or error.hint


@pytest.mark.parametrize("text", ["x'cat'", "abc 'cat' + 'dog'", ""])
def test_what_does_not_open_with_a_quote_is_a_prompt(text: str) -> None:
    assert parse(text).kind == "prompt"


@pytest.mark.parametrize("case", GOLDEN["prompts"], ids=lambda case: case["prompt"][:40] or "empty")
def test_same_expressions_found_in_prompts(case: dict[str, Any]) -> None:
    prompt = case["prompt"]
    if case["error"]:
        with pytest.raises(ExpressionError):
            parse(prompt)
        return
    source = parse(prompt)
    found = [prompt[part.start + 1 : part.end - 1].strip() for part in source.parts if isinstance(part, Inline)]
    assert set(found) == set(case["used"].values())
    assert "".join(prompt[part.start : part.end] for part in source.parts) == prompt
