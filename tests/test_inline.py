"""Inline expressions: found quickly, replaced by names that say what they stand for, and evaluated once."""

from __future__ import annotations

import itertools
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import pytest
import torch
from arrays import as_arrays, equal
from growth import grows_by_length
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memory_model import MemoryEncoder, MemoryModel, MemoryNames, random_model

from lib_embedmerge.core import inline
from lib_embedmerge.core.architecture import SDXL_REFINER
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.evaluate import Vectors, evaluate
from lib_embedmerge.core.inline import ExpressionReplacer, InlineEmbedding
from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.errors import EvaluationError, ExpressionError, StorageError
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.source import parse, read_prompt, replace_expressions
from lib_embedmerge.lang.stand_ins import STAND_IN
from lib_embedmerge.tokenizer import clip_tokenizer

ROWS = 6000
"""Tokens of the models here: of all words of the tests."""

Found = tuple[ExpressionError, Inline | BrokenInline]


# Is there an expression

NEARLY = st.lists(
    st.sampled_from([*"<{'(' ()+>}|*", "L", "G", "norm", "foo", "_", "9", "\n", "EM_1", "x", "é", "\t"]), max_size=24
).map("".join)
"""Texts rich in what may open an expression."""


@settings(max_examples=600)
@given(NEARLY)
@example("<norm ( L('a'")
@example("{ ( 'a'")
@example("<foo('a')>")
@example("<(\n(\t'")
@example("<'EM_1'>")
def test_no_expression_is_overlooked(prompt: str) -> None:
    found = [part for part in read_prompt(prompt) if isinstance(part, Inline | BrokenInline)]
    assert may_have_expressions(prompt) or not found


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", False),
        ("a cat, best quality, (masterpiece:1.2), [dog|cat]", False),
        ("it's a cat's toy", False),
        ("<lora:don't:1> a cat's toy", False),
        ("{it's|a cat}", False),
        ("<it's>", False),
        ("<foo(it's>", False),
        ("< 'a'>", False),
        ("a < b and 'c'", False),
        ("<>'a'", False),
        ("<<lora:x:1>'", False),
        ("<'a'>", True),
        ("x{'a'}", True),
        ("<norm('a')>", True),
        ("<norm ( ( 'a'", True),
        ("<foo('a')>", True),
    ],
)
def test_what_holds_an_expression(prompt: str, *, expected: bool) -> None:
    assert may_have_expressions(prompt) is expected


LENGTH = 100_000

HOSTILE = {
    "brackets": "<",
    "curly brackets": "{",
    "brackets and parentheses": "<(",
    "brackets, names and parentheses": "<norm(",
    "quotes": "'",
    "quotes in brackets": "<x'",
    "brackets and spaces": "< ",
}
HOSTILE_BEGINNINGS = {
    "spaces": ("<(", " "),
    "spaces after a name": ("<L", " "),
    "a long name": ("<", "a"),
    "a long name in parentheses": ("<(", "a"),
    "parentheses": ("<", "("),
    "parentheses and spaces": ("<", "(  "),
    "names in parentheses": ("<", "(a  "),
    "names": ("<(", "a "),
    "functions": ("<", "norm ( "),
}


@pytest.mark.parametrize(
    "prompt",
    [unit * (LENGTH // len(unit)) for unit in HOSTILE.values()]
    + [start + unit * (LENGTH // len(unit)) for start, unit in HOSTILE_BEGINNINGS.values()],
    ids=[*HOSTILE, *HOSTILE_BEGINNINGS],
)
def test_looking_for_expressions_takes_time_by_length(prompt: str) -> None:
    assert grows_by_length(lambda text: may_have_expressions("'" + text), prompt)
    assert grows_by_length(lambda text: may_have_expressions(text + "'"), prompt)
    assert grows_by_length(lambda text: may_have_expressions(text + "\n'"), prompt)


# Replacement


@pytest.mark.parametrize(
    ("prompt", "replacements", "expected"),
    [
        ("", [], ""),
        ("plain  text ", [], "plain  text "),
        ("<'a'>", ["N"], "N"),
        ("x<'a'>y", ["N"], "x N y"),
        ("x <'a'> y", ["N"], "x N y"),
        ("x\n<'a'>\ty", ["N"], "x\nN\ty"),
        ("x\r\n<'a'>\r\ny", ["N"], "x\r\nN\r\ny"),
        ("(<'a'>:1.2)", ["N"], "( N :1.2)"),
        ("[<'a'>:<'b'>:0.5]", ["N", "M"], "[ N : M :0.5]"),
        ("<'a'><'b'>", ["N", "M"], "N M"),
        ("<'a'> <'b'>", ["N", "M"], "N M"),
        ("x<'a'>y", [""], "x y"),
        ("x <'a'> y", [""], "x  y"),
        ("<'a'>y", [""], "y"),
        ("x<'a'>", [""], "x"),
        ("<'a'>", [""], ""),
        ("x<'a'><'b'>y", ["", ""], "x y"),
        ("x<'a'><'b'>y", ["", "N"], "x N y"),
        ("x<'a'>y", [None], "x<'a'>y"),
        ("x<'a' 'b'>y", [None], "x<'a' 'b'>y"),
        ("x<'a'><'b'>y", ["N", None], "x N <'b'>y"),
        ("x<'a'><'b'>y", [None, "N"], "x<'a'> N y"),
        ("x<'never closed", ["N"], "x N"),
        ("<'EM_1'>", [], "<'EM_1'>"),
        ("{'a'|'b'}{'c'}", ["N"], "{'a'|'b'} N"),
        # Not what a tokenizer splits at: the repair of texts takes these out.
        ("x\x0b<'a'>\x1fy", ["N"], "x\x0b N \x1fy"),
        ("x\u00a0<'a'>\u3000y", ["N"], "x\u00a0 N \u3000y"),
    ],
)
def test_replacement(prompt: str, replacements: list[str | None], expected: str) -> None:
    rest = iter(replacements)
    assert replace_expressions(prompt, read_prompt(prompt), lambda _: next(rest)) == expected
    assert list(rest) == []


@settings(max_examples=300)
@given(NEARLY, st.sampled_from(["N", "", None]))
@example("x<'a'>y<'b'>", "N")
def test_text_outside_of_expressions_stays(prompt: str, replacement: str | None) -> None:
    parts = read_prompt(prompt)
    kept = [prompt[part.start : part.end] for part in parts if not isinstance(part, Inline | BrokenInline)]
    result = replace_expressions(prompt, read_prompt(prompt), lambda _: replacement)
    if replacement is None or len(kept) == len(parts):
        assert result == prompt
    else:
        position = 0
        for text in kept:  # each whole, in order, with nothing but names and single spaces between
            place = result.index(text, position)
            assert set(result[position:place]) <= {"N", " "}
            position = place + len(text)
        assert set(result[position:]) <= {"N", " "}


# Models


class CountingEncoder(MemoryEncoder):
    """Remembers how often rows were asked for."""

    calls = 0

    def vectors(self, ids: Sequence[int]) -> Array:
        self.calls += 1
        return super().vectors(ids)


class Names(MemoryNames):
    """Gives the same embedding each time, until it is replaced, as a folder does."""

    def __init__(self, embeddings: Mapping[str, Mapping[str, Array]]) -> None:
        super().__init__(embeddings)
        self.loaded: dict[str, NamedEmbedding] = {}

    def load(self, name: str) -> Any:
        if name not in self.loaded:
            self.loaded[name] = super().load(name)
        return self.loaded[name]

    def replace(self, name: str, vectors: Mapping[str, Array]) -> None:
        """Another file of that name."""
        self._embeddings = {**self._embeddings, name: vectors}
        self.loaded.pop(name, None)


def named(count: int, *, seed: int = 0) -> dict[str, numpy.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    widths = {"clip_l": 768, "clip_g": 1280}
    return as_arrays({key: torch.randn(count, width, generator=generator) for key, width in widths.items()})


@pytest.fixture(scope="module")
def tables() -> dict[str, Array]:
    return {encoder.key: encoder.table for encoder in random_model(ROWS).encoders}


@dataclass
class Case:
    """A model, a substitution, and the mistakes that it told of."""

    model: MemoryModel
    substitution: ExpressionReplacer = field(default_factory=ExpressionReplacer)
    mistakes: list[Found] = field(default_factory=list)

    def replace(self, *prompts: str) -> tuple[list[str], Mapping[str, InlineEmbedding]]:
        return self.substitution.replace(prompts, self.model, lambda error, part: self.mistakes.append((error, part)))

    @property
    def calls(self) -> int:
        return sum(encoder.calls for encoder in self.model.encoders if isinstance(encoder, CountingEncoder))

    @property
    def names(self) -> Names:
        assert isinstance(self.model.embeddings, Names)
        return self.model.embeddings


def make_model(tables: Mapping[str, Array]) -> MemoryModel:
    names = Names({"mine": named(3), "other": named(2, seed=1)})
    return MemoryModel([CountingEncoder(key, table) for key, table in tables.items()], names)


@pytest.fixture
def case(tables: Mapping[str, Array]) -> Case:
    return Case(make_model(tables))


@pytest.fixture(scope="module")
def shared(tables: Mapping[str, Array]) -> Case:
    """For what does not depend on what was asked before."""
    return Case(make_model(tables))


# Names

EXPRESSIONS = [
    "'cat'",
    "'cat'*1",
    "('cat')",
    "'cat '",
    "'dog'",
    "'cat'+'dog'",
    "'dog'+'cat'",
    "'cat'-'dog'",
    "'cat'*0.5",
    "'cat'/2",
    "'cat'*0.5L",
    "'cat'*0.5G",
    "L('cat')",
    "G('cat')",
    "'cat dog'",
    "'cat','dog'",
    "'cat dog':1",
    "'cat dog':+1",
    "'dog cat'",
    "'cat':2",
    "cat('cat','dog')",
    "mean('cat','dog')",
    "('cat'+'dog')/2",
    "'mine'",
    "'mine'*2",
    "'other'",
    "norm('cat')",
    "near('cat')",
    "'cat'-'cat'",
    "'dog'-'dog'",
    "'cat dog'-'cat dog'",
    "slerp('cat','dog',0.25)",
    "'cat',267",
]


def bits(vectors: Mapping[str, Array]) -> dict[str, object]:
    """Comparable, bit by bit."""
    return {key: (rows.dtype, rows.shape, rows.tobytes()) for key, rows in as_arrays(vectors).items()}


def name_of(case: Case, expression: str) -> str:
    prompts, temporaries = case.replace(f"<{expression}>")
    assert prompts == list(temporaries) == [one.name for one in temporaries.values()]
    return prompts[0]


def test_names_are_addresses_of_vectors(shared: Case) -> None:
    values = {text: bits(evaluate(parse(f"<{text}>"), shared.model)) for text in EXPRESSIONS}
    names = {text: name_of(shared, text) for text in EXPRESSIONS}
    for one, other in itertools.product(EXPRESSIONS, repeat=2):
        assert (names[one] == names[other]) == (values[one] == values[other]), (one, other)
    assert 20 < len(set(names.values())) < len(EXPRESSIONS)
    assert not shared.mistakes


SCALES = st.floats(-3, 3, width=16)


@settings(max_examples=100)
@given(SCALES, SCALES)
@example(0.5, 0.5)
@example(1.0, 1.0000001)
def test_scaled_vectors_have_names_of_their_own(shared: Case, one: float, other: float) -> None:
    texts = [f"'cat'*{scale:.9f}" for scale in (one, other)]
    values = [bits(evaluate(parse(f"<{text}>"), shared.model)) for text in texts]
    names = [name_of(shared, text) for text in texts]
    assert (names[0] == names[1]) == (values[0] == values[1])
    assert all(STAND_IN.fullmatch(name) for name in names)


def test_rows_of_another_number_have_another_name() -> None:
    """The same bytes, cut in another way, and another encoder's."""
    rows = numpy.zeros((2, 4), "f4")
    given: list[Vectors] = [
        {"clip_l": rows},
        {"clip_l": rows.reshape(4, 2)},
        {"clip_g": rows},
        {"clip_l": rows, "clip_g": rows},
    ]
    made = [inline.make_inline_embedding(one) for one in given]
    assert len({one.name for one in made if one}) == len(given)


PUNCTUATION = [
    chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in {"Pc", "Pd", "Ps", "Pe", "Po"}
]
PUNCTUATION += list("+<>=|~$^`´¨°©€№™")
NAME = st.text(alphabet="abcdefghijklmnop", min_size=20, max_size=20).map("embedmerge".__add__)


def times_in(whole: list[int], part: list[int]) -> int:
    return sum(whole[place : place + len(part)] == part for place in range(len(whole)))


@settings(max_examples=300)
@given(NAME, st.text(alphabet=PUNCTUATION, max_size=4), st.text(alphabet=PUNCTUATION, max_size=4))
@example("embedmergeabcdefghijklmnopabcd", "'", "'s")
@example("embedmergeaaaaaaaaaaaaaaaaaaaa", "<|", "|>")
@example("embedmergepppppppppppppppppppp", "(", ":1.2)")
def test_names_are_found_next_to_any_punctuation(name: str, before: str, after: str) -> None:
    tokenizer = clip_tokenizer()
    assert times_in(tokenizer.encode(before + name + after), tokenizer.encode(name)) == 1


@settings(max_examples=400)
@given(NAME, st.text(max_size=6), st.text(max_size=6))
@example("embedmergeabcdefghijklmnopabcd", "x\x0b", "\x1cy")
@example("embedmergeabcdefghijklmnopabcd", "&#x", ";")
@example("embedmergeabcdefghijklmnopabcd", "\x1b[", "m")
@example("embedmergeabcdefghijklmnopabcd", "é", "\u0301")
@example("embedmergeabcdefghijklmnopabcd", "\u3000", "\u00a0x")
def test_names_are_found_in_any_prompt(name: str, before: str, after: str) -> None:
    prompt = f"{before.replace('<', '')}<'a'>{after}"
    places = [part for part in read_prompt(prompt) if isinstance(part, Inline)]
    tokenizer = clip_tokenizer()
    replaced = replace_expressions(prompt, read_prompt(prompt), lambda _: name)
    if places:
        assert times_in(tokenizer.encode(replaced), tokenizer.encode(name)) >= 1


# Their vectors


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_vectors_are_those_of_the_expression(shared: Case, text: str) -> None:
    expected = evaluate(parse(f"<{text}>"), shared.model)
    prompts, temporaries = shared.replace(f"a photo, <{text}>!")
    (name,) = temporaries
    assert prompts == [f"a photo, {name} !"]
    assert bits(temporaries[name].vectors) == bits(expected)
    assert list(temporaries[name].vectors) == ["clip_l", "clip_g"]


def test_prompts_without_expressions_stay(case: Case) -> None:
    prompts = ["", "a cat", "it's {a|b} <lora:x:1>", "{'a'|'b'}", "<'EM_1'>"]
    assert case.replace(*prompts) == (prompts, {})
    assert case.calls == 0
    assert not case.mistakes


def test_expressions_of_no_vectors_vanish(case: Case) -> None:
    assert case.replace("a <''> b", "x<'cat':0>y", "<''>") == (["a  b", "x y", ""], {})
    assert case.replace("a <''> b") == (["a  b"], {})  # and again, from memory
    assert not case.mistakes


def test_equal_expressions_share_one_embedding(case: Case) -> None:
    prompts, temporaries = case.replace("<'cat'> {'cat'}", "<'cat'*1>, <'dog'>")
    assert len(temporaries) == 2
    assert prompts[0].split() == [name_of(case, "'cat'")] * 2
    assert set(temporaries) == {name_of(case, "'cat'"), name_of(case, "'dog'")}


# Once


def test_nothing_is_evaluated_twice(case: Case) -> None:
    first = case.replace("a <'cat'+'dog'> b", "<'mine'*2>")
    calls = case.calls
    assert calls > 0
    assert case.replace("a <'cat'+'dog'> b", "<'mine'*2>") == first
    case.replace("another {'cat'+'dog'} prompt (<'mine'*2>:1.3)", "<'cat'+'dog'>")
    assert case.calls == calls
    case.replace("<'cat'-'dog'>")
    assert case.calls > calls


def test_repeated_in_one_prompt(case: Case) -> None:
    case.replace("<'cat'+'dog'>")
    once = case.calls
    other = Case(make_model({encoder.key: encoder.table for encoder in case.model.encoders}))
    other.replace("<'cat'+'dog'> [<'cat'+'dog'>:<'cat'+'dog'>:0.5]")
    assert other.calls == once


def test_another_model(case: Case, tables: Mapping[str, Array]) -> None:
    first, _ = case.replace("<'cat'>")
    same = case.model
    case.model = make_model({key: numpy.roll(to_numpy(table), 7, axis=0) for key, table in tables.items()})
    second, temporaries = case.replace("<'cat'>")
    assert second != first
    assert bits(temporaries[second[0]].vectors) == bits(evaluate(parse("<'cat'>"), case.model))
    case.model = same
    calls = case.calls
    assert case.replace("<'cat'>")[0] == first
    assert case.calls > calls


def test_other_encoders_of_the_same_model_object(case: Case) -> None:
    case.replace("<'cat'>")
    case.model.encoders = [CountingEncoder(encoder.key, encoder.table) for encoder in case.model.encoders]
    case.replace("<'cat'>")
    assert case.calls > 0


def test_another_state_of_the_embeddings(case: Case) -> None:
    case.replace("<'cat'>")
    calls = case.calls
    case.names.state = object()
    case.replace("<'cat'>")
    assert case.calls > calls


def test_a_named_embedding_that_was_replaced(case: Case) -> None:
    first = name_of(case, "'mine'+'cat'")
    untouched = name_of(case, "'other'")
    case.names.replace("mine", named(3, seed=9))
    second = name_of(case, "'mine'+'cat'")
    assert second != first
    _, temporaries = case.replace("<'mine'+'cat'>")
    assert bits(temporaries[second].vectors) == bits(evaluate(parse("<'mine'+'cat'>"), case.model))
    calls = case.calls
    assert name_of(case, "'other'") == untouched
    assert case.calls == calls


def test_a_named_embedding_that_cannot_be_read_any_more(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.replace("<'mine'> <'cat'>")

    def load(name: str) -> NamedEmbedding:
        raise StorageError(f"{name}.safetensors is damaged.")

    with monkeypatch.context() as patch:
        patch.setattr(case.names, "load", load)
        prompts, temporaries = case.replace("<'mine'> <'cat'>")
    assert prompts == [f"<'mine'> {name_of(case, chr(39) + 'cat' + chr(39))}"]
    assert len(temporaries) == 1
    ((error, part),) = case.mistakes
    assert "mine.safetensors is damaged" in error.message
    assert (part.start, part.end) == (0, 8)
    # and when it can be read again
    assert STAND_IN.fullmatch(name_of(case, "'mine'"))


def test_what_is_kept_is_bounded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "MAX_KEPT", 40)
    for number in range(60):
        case.replace(f"<'cat':{number % 20}*{number}>")
        kept = [one.cost for one in case.substitution._expressions.values()]
        assert case.substitution._vectors_kept == sum(kept) <= 40
        assert len(case.substitution._prompts) <= inline.MAX_PROMPTS
    assert list(case.substitution._prompts) == [f"<'cat':{number % 20}*{number}>" for number in range(52, 60)]
    # What was used last stays longest.
    case.replace("<'cat':19*59> again")
    case.replace("<'dog':19>")
    assert "'cat':19*59" in case.substitution._expressions


def test_prompts_used_last_stay(case: Case) -> None:
    prompts = [f"<'cat'*{number}>" for number in range(inline.MAX_PROMPTS)]
    case.replace(*prompts)
    case.replace(prompts[0], "<'dog'>")
    assert list(case.substitution._prompts) == [*prompts[2:], prompts[0], "<'dog'>"]


def test_of_the_largest_expressions_many_are_kept() -> None:
    assert inline.MAX_KEPT >= 75 * 20


# Mistakes


@pytest.mark.parametrize(
    ("prompt", "place", "words"),
    [
        ("a <'cat'+> b", (8, 9), "Nothing follows"),
        ("a <'cat' 'dog'> b", (9, 14), ""),
        ("a <'cat', b", (2, 3), "never closed"),
        ("x {'zzzzqx'*0.5, 'a'-", (2, 3), "never closed"),
        ("a <foo('b')>", (3, 6), ""),
        ("a <'cat',5999> b <'cat',6000>", (23, 28), "Token 6000 is not in the vocabulary"),
        ("a <'cat':76>", (2, 12), "makes 76 vectors"),
        ("a <'cat'*99999999999999999999999999*99999999999999999999>", (2, 57), "not finite"),
    ],
)
def test_a_mistake_is_told_with_its_place(case: Case, prompt: str, place: tuple[int, int], words: str) -> None:
    replaced, _ = case.replace(prompt)
    ((error, part),) = case.mistakes
    assert (error.start, error.end) == place
    assert error.source == prompt
    assert words in error.message
    assert part.start <= place[0] <= place[1] <= part.end
    assert prompt[part.start : part.end] in replaced[0]


def test_the_rest_of_the_prompt_still_works(case: Case) -> None:
    prompt = "<'cat'>, <'dog' 'cat'> and <'cat':80>,<'dog'>"
    cat, dog = name_of(case, "'cat'"), name_of(case, "'dog'")
    for _ in range(2):  # mistakes are told each time: nothing of them is remembered
        case.mistakes.clear()
        prompts, temporaries = case.replace(prompt, "<'dog'>")
        assert prompts == [f"{cat} , <'dog' 'cat'> and <'cat':80>, {dog}", dog]
        assert set(temporaries) == {cat, dog}
        assert [part.start for _, part in case.mistakes] == [9, 27]
    assert prompt not in case.substitution._prompts
    assert "'cat':80" not in case.substitution._expressions


def test_an_error_that_is_raised_stops_and_spoils_nothing(case: Case) -> None:
    def stop(error: ExpressionError, part: Inline | BrokenInline) -> None:
        raise RuntimeError(error.message)

    with pytest.raises(RuntimeError, match="Nothing follows"):
        case.substitution.replace(["<'cat'>", "<'dog'> <'cat'+>"], case.model, stop)
    calls = case.calls
    cat, dog = name_of(case, "'cat'"), name_of(case, "'dog'")
    assert case.replace("<'cat'> <'dog'>")[0] == [f"{cat} {dog}"]
    assert case.calls == calls


@pytest.mark.parametrize(("count", "fine"), [(74, True), (75, True), (76, False)])
def test_as_many_vectors_as_a_chunk_holds(case: Case, count: int, *, fine: bool) -> None:
    _, temporaries = case.replace(f"<'cat':{count}> <cat('dog':{count - 1},'cat')>")
    assert len(case.mistakes) == (0 if fine else 2)
    assert [len(one.vectors["clip_g"]) for one in temporaries.values()] == ([count] * 2 if fine else [])
    assert all(isinstance(error, EvaluationError) for error, _ in case.mistakes)


# The refiner


@pytest.fixture
def refiner(case: Case) -> Case:
    (_, encoder) = case.model.encoders
    names = Names(
        {"both": named(2), "refined": {"clip_g": named(2)["clip_g"]}, "small": {"clip_l": numpy.ones((1, 768), "f4")}}
    )
    return Case(MemoryModel([encoder], names, SDXL_REFINER))


@pytest.mark.parametrize(
    "text",
    ["L('cat')+G('dog')", "L('cat')", "'cat'*2L", "'cat'/2G", "L('both')+'cat'", "'both'", "G('refined')", "'refined'"],
)
def test_a_refiner_takes_what_is_written_for_its_base_model(case: Case, refiner: Case, text: str) -> None:
    _, temporaries = refiner.replace(f"<{text}>")
    assert refiner.mistakes == []
    ((name, one),) = temporaries.items()
    assert STAND_IN.fullmatch(name)
    case.model.embeddings = Names({"both": named(2), "refined": named(2)})
    expected = evaluate(parse(f"<{text}>"), case.model)
    assert list(one.vectors) == ["clip_g"]
    assert equal(one.vectors["clip_g"], expected["clip_g"])


def test_a_refiner_refuses_what_is_not_for_it(refiner: Case) -> None:
    refiner.replace("<'small'>")
    ((error, _),) = refiner.mistakes
    assert error.message == "The embedding small is for CLIP-L; this model has CLIP-G."


@pytest.mark.parametrize("text", ["L('cat')", "'cat'*2G"])
def test_other_models_of_one_encoder_refuse_letters(case: Case, text: str) -> None:
    single = Case(MemoryModel([case.model.encoders[0]]))
    single.replace(f"<{text}>")
    ((error, _),) = single.mistakes
    assert "needs a model with two text encoders" in error.message
