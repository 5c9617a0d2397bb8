"""What expressions come to: every form against torch written out, the algebra as properties, limits and mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy
import pytest
import torch
from arrays import as_tensor, as_tensors, assert_close, equal
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_model import MemoryEncoder, MemoryModel, MemoryNames, own_random_model, random_model
from strategies import expressions, words
from torch import Tensor

from lib_embedmerge.core import operations
from lib_embedmerge.core.architecture import SD1
from lib_embedmerge.core.arrays import Array, hash_rows, hash_words, to_numpy, to_tensor
from lib_embedmerge.core.evaluate import (
    Preparation,
    Vectors,
    evaluate,
    evaluate_prepared,
    evaluate_together,
    make_text_readers,
)
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.parts import find_parts
from lib_embedmerge.core.token_rows import TokenRows
from lib_embedmerge.errors import EmbedMergeError, EvaluationError, ExpressionError
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.nodes import Expression
from lib_embedmerge.lang.printer import print_expression
from lib_embedmerge.lang.source import Source, parse, read_prompt
from lib_embedmerge.tokenizer import ClipTokenizer, clip_tokenizer

MODEL = random_model()
MODELS = {
    "numpy": MODEL,
    "torch": MemoryModel([MemoryEncoder(one.key, to_tensor(one.table)) for one in MODEL.encoders]),  # as on a GPU
}
ONE_BY_ONE = MemoryModel(
    [MemoryEncoder(one.key, one.table, tokenizer=ClipTokenizer()) for one in MODEL.encoders]  # which share no tokenizer
)
SD1_MODEL = MemoryModel([MODEL.encoders[0]], architecture=SD1)


def value(text: str, model: MemoryModel = MODEL) -> Vectors:
    return evaluate(parse(text), model, limit=None)


def rows(text: str, encoder: MemoryEncoder) -> Tensor:
    return by_ids(encoder, clip_tokenizer().encode(text))


def by_ids(encoder: MemoryEncoder, ids: list[int]) -> Tensor:
    return as_tensor(encoder.table)[ids]


def padded(vectors: Tensor, count: int) -> Tensor:
    return torch.cat([vectors, torch.zeros(count - len(vectors), vectors.shape[1])])


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def arc(a: Tensor, b: Tensor, t: float) -> Tensor:
    angle = torch.acos((unit(a.double()) * unit(b.double())).sum(-1, keepdim=True))
    return ((torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)).float()


def strongest(rows: Tensor) -> Tensor:
    values = rows.cpu().numpy()
    return torch.from_numpy(values[abs(values).argmax(axis=0), range(values.shape[1])][None])


def main_direction(rows: Tensor) -> Tensor:
    """By the definition: the first right singular vector, at the mean length, where the sum points."""
    values = rows.double().cpu().numpy()
    first = numpy.linalg.svd(values, full_matrices=False)[2][:1]
    first *= numpy.sign(first @ values.sum(axis=0)) * numpy.linalg.norm(values, axis=1).mean()
    return torch.from_numpy(first).float()


FORMS: list[tuple[str, Callable[[Callable[[str], Tensor], MemoryEncoder], Tensor]]] = [
    # text, and what it must be, from r(text) = the token rows and the encoder
    ("'a photo of a cat'", lambda r, _: r("a photo of a cat")),
    ("'cat'+'dog'*0.5", lambda r, _: r("cat") + r("dog") * 0.5),
    ("'cat'-'a dog'", lambda r, _: padded(r("cat"), 2) - r("a dog")),
    ("('cat'+'dog')*2", lambda r, _: (r("cat") + r("dog")) * 2),
    ("'cat'/3", lambda r, _: r("cat") / 3),
    ("'cat'*2L", lambda r, e: r("cat") * (2 if e.key == "clip_l" else 1)),
    ("'cat'/2G", lambda r, e: r("cat") / (2 if e.key == "clip_g" else 1)),
    ("'a red cat':2", lambda r, _: r("a red")),
    ("'cat':3", lambda r, _: padded(r("cat"), 3)),
    ("'a red cat':+1", lambda r, _: torch.cat([r("cat"), r("a red")])),
    ("'a red cat':-1", lambda r, _: torch.cat([r("red cat"), r("a")])),
    ("'':+3", lambda r, _: r("")),
    ("'cat',2368", lambda r, _: r("cat cat")),
    ("'cat','a dog'", lambda r, _: r("cat a dog")),
    ("'',00", lambda _, e: by_ids(e, [49407 if e.key == "clip_l" else 0])),
    ("'',000,0000", lambda _, e: by_ids(e, [49407, 49406])),
    ("L('cat')+G('dog')", lambda r, e: r("cat") if e.key == "clip_l" else r("dog")),
    ("cat('cat','a dog',L(''))", lambda r, _: r("cat a dog")),
    ("mean('cat','dog','cow')", lambda r, _: (r("cat") + r("dog") + r("cow")) / 3),
    ("mean('cat','a dog')", lambda r, _: (padded(r("cat"), 2) + r("a dog")) / 2),
    ("lerp('cat','dog',0.25)", lambda r, _: r("cat") * 0.75 + r("dog") * 0.25),
    ("lerp('cat','dog',2)", lambda r, _: r("cat") * -1 + r("dog") * 2),
    ("slerp('cat','dog',0.25)", lambda r, _: arc(r("cat"), r("dog"), 0.25)),
    ("slerp('cat','dog',0)", lambda r, _: r("cat")),
    ("slerp('cat','dog',1)", lambda r, _: r("dog")),
    ("slerp('cat','cat',0.3)", lambda r, _: r("cat")),
    ("slerp('cat','cat'*-1,0.5)", lambda r, _: r("cat") * 0),
    ("slerp('cat','':1,0.25)", lambda r, _: r("cat") * 0.75),
    ("sum('a red cat')", lambda r, _: r("a red cat").sum(0, keepdim=True)),
    ("avg('a red cat')", lambda r, _: r("a red cat").mean(0, keepdim=True)),
    ("max('a red cat')", lambda r, _: strongest(r("a red cat"))),
    ("max(cat('cat'*-3,'dog'))", lambda r, _: strongest(torch.cat([r("cat") * -3, r("dog")]))),
    ("max('')", lambda r, _: r("")),
    ("max('cat')", lambda r, _: r("cat")),
    ("pc('a red cat')", lambda r, _: main_direction(r("a red cat"))),
    ("pc('a red cat'*-1)", lambda r, _: -main_direction(r("a red cat"))),
    ("pc('cat'*3)", lambda r, _: r("cat") * 3),
    ("pc('':2)", lambda r, _: r("cat") * 0),
    ("pc('')", lambda r, _: r("")),
    ("sum('')", lambda r, _: r("")),
    ("avg('')", lambda r, _: r("")),
    ("norm('cat'*5)", lambda r, e: unit(r("cat")) * e.mean_length()),
    ("norm('cat',2)", lambda r, e: unit(r("cat")) * e.mean_length() * 2),
    ("norm('':1)", lambda r, _: r("cat") * 0),
    ("orth('cat','dog')", lambda r, _: r("cat") - (r("cat") * unit(r("dog"))).sum() * unit(r("dog"))),
    ("orth('cat','')", lambda r, _: r("cat")),
    ("orth('cat','':1)", lambda r, _: r("cat")),
    ("orth('a cat','cat dog cat')", lambda r, e: torch.cat([_beside(r("a"), r("cat dog")), r("cat") * 0])),
    ("near('cat'*3+'dog'*0.1)", lambda r, _: r("cat")),
    ("near(near('cat'*3+'dog'*0.1))", lambda r, _: r("cat")),
    ("near(" * 40 + "'cat':75" + ")" * 40, lambda r, _: padded(r("cat"), 75)),
    ("near('cat':2)", lambda r, _: padded(r("cat"), 2)),
    ("near('')", lambda r, _: r("")),
    ("a photo of <'cat'+'dog'>, best", lambda r, _: torch.cat([r("a photo of"), r("cat") + r("dog"), r(", best")])),
]


def _beside(vector: Tensor, others: Tensor) -> Tensor:
    solution = torch.linalg.lstsq(others.double().T, vector.double().T).solution
    return (vector.double().T - others.double().T @ solution).T.float()


@pytest.mark.parametrize("library", MODELS)
@pytest.mark.parametrize(("text", "expected"), FORMS, ids=[text for text, _ in FORMS])
def test_value(text: str, expected: Callable[[Callable[[str], Tensor], MemoryEncoder], Tensor], library: str) -> None:
    model = MODELS[library]
    vectors = value(text, model)
    assert list(vectors) == ["clip_l", "clip_g"]
    for encoder in model.encoders:
        wanted = expected(lambda part, encoder=encoder: rows(part, encoder), encoder)  # type: ignore[misc] # a default
        assert type(vectors[encoder.key]) is type(encoder.table)
        assert as_tensor(vectors[encoder.key]).dtype == torch.float32
        assert_close(vectors[encoder.key], wanted.float(), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_result_is_not_the_table(model: MemoryModel) -> None:
    table = as_tensor(model.encoders[0].table)
    before = table.clone()
    as_tensor(value("'cat'", model)["clip_l"]).zero_()
    assert equal(table, before)


def test_every_function_is_in_the_table() -> None:
    called = {name for source, _ in FORMS for name in re.findall(r"(\w+)\(", source)}
    assert set(SIGNATURES) <= called, "FORMS has no row that calls these functions"


MISTAKES = [
    # text, model, where, a word of the message
    ("'a',49408", MODEL, 3, "not in the vocabulary"),
    ("'a',999999999", MODEL, 3, "not in the vocabulary"),
    ("'a'*2L", SD1_MODEL, 3, "two text encoders"),
    ("'a'+G('b')", SD1_MODEL, 4, "two text encoders"),
    ("x <'a'*2G>", SD1_MODEL, 6, "two text encoders"),
    ("'a':76", MODEL, 0, "76 vectors"),
    ("a <'a':76> b", MODEL, 2, "76 vectors"),
    ("'a'*" + "9" * 38 + "*" + "9" * 38, MODEL, 0, "not finite"),
    ("a <'b'> <'a'*" + "9" * 38 + "*" + "9" * 38 + ">", MODEL, 8, "not finite"),
    ("+".join(["'':1000"] * 30), MODEL, None, "too much"),
    ("near('a':1000)", MODEL, 0, "too much"),
    ("+".join(["near('a')"] * 40), MODEL, None, "too much"),
    ("orth('a':500,'b':500)", MODEL, 0, "too much"),
]


@pytest.mark.parametrize(("text", "model", "place", "words"), MISTAKES, ids=[text[:30] for text, *_ in MISTAKES])
def test_mistake(text: str, model: MemoryModel, place: int | None, words: str) -> None:
    with pytest.raises(EvaluationError, match=words) as caught:
        evaluate(parse(text), model)
    assert caught.value.source == text
    assert caught.value.hint
    assert place is None or caught.value.start == place


@pytest.mark.parametrize("model", [*MODELS.values(), ONE_BY_ONE], ids=[*MODELS, "one by one"])
def test_together_is_one_by_one(model: MemoryModel) -> None:
    """Each source has the vectors, or the mistake, that it has alone, also where several batches are needed."""
    texts = ["'cat'", *(text for text, of_model, *_ in MISTAKES if of_model is MODEL), "'a':70", "''", "a <'b'> dog"]
    texts += ["'dog':75", "'cat'+'dog'"] * 12
    sources = [parse(text) for text in texts]
    readers = make_text_readers(model)
    batches = evaluate_together(sources, model, Preparation(readers, make_outliner(model, readers[0])))
    assert len(batches) > 2
    found = [(place, batch.vectors) for batch in batches for place in batch.places]
    for source, (place, vectors) in zip(sources, found, strict=True):
        if isinstance(place, ExpressionError):
            with pytest.raises(EvaluationError) as caught:
                evaluate(source, model)
            assert (str(place), place.start) == (str(caught.value), caught.value.start)
        else:
            assert all(equal(vectors[key][place], alone) for key, alone in evaluate(source, model).items())


@given(st.integers(0, 5), st.lists(st.integers(1, 700), min_size=1, max_size=3))
def test_hash_of_rows_side_by_side(count: int, halves: list[int]) -> None:
    """Two float32 make the 8 bytes of a word."""
    arrays = [numpy.random.default_rng(half).normal(size=(count, 2 * half)).astype("f4") for half in halves]
    expected = [hash_words(row) for row in numpy.concatenate(arrays, axis=1)]
    assert [row.tobytes() for row in hash_rows(arrays)] == expected


def test_a_part_that_cannot_be_read_has_no_value() -> None:
    text = "a <'b'+>"
    source = Source("prompt", text, read_prompt(text))
    assert len(make_outliner(MODEL).outline(source)) == 1
    with pytest.raises(ExpressionError, match="follows"):
        evaluate(source, MODEL)


def test_broken_rows_of_a_model_are_named_not_returned() -> None:
    model = own_random_model(4000)
    as_tensor(model.encoders[1].table)[2368, 7] = torch.nan
    with pytest.raises(EvaluationError, match="not finite"):
        evaluate(parse("'dog'+'cat'"), model)


@pytest.mark.parametrize("text", ["orth('cat','dog')", "orth('dog','cat')", "slerp('cat','dog',0.5)", "'cat'*0"])
def test_broken_rows_are_not_hidden_by_arithmetic(text: str) -> None:
    for broken in (torch.nan, torch.inf):
        model = own_random_model(4000)
        for encoder in model.encoders:
            as_tensor(encoder.table)[2368, 7] = broken
        with pytest.raises(EvaluationError, match="not finite"):
            evaluate(parse(text), model)


def test_parts_and_the_counter_spend_only_what_is_theirs() -> None:
    source = parse("x <near('cat':75)>")
    outliner = make_outliner(MODEL)
    assert sum(len(part.ids) for part in find_parts(source, outliner)) == 76
    for _ in range(10):
        assert len(outliner.part(source.text, source.parts[1])) == 75


@pytest.fixture(scope="module")
def named() -> MemoryModel:
    generator = torch.Generator().manual_seed(3)
    both = {"clip_l": torch.randn(2, 768, generator=generator), "clip_g": torch.randn(2, 1280, generator=generator)}
    return MemoryModel(
        MODEL.encoders,
        MemoryNames({"mystyle": both, "my": {k: v[:1] for k, v in both.items()}, "old": {"clip_l": both["clip_l"]}}),
    )


def test_a_named_embedding_stands_for_its_vectors(named: MemoryModel) -> None:
    vectors = value("'cat mystyle dog'", named)
    own = as_tensors(named.embeddings.load("mystyle").vectors)
    for encoder in MODEL.encoders:
        expected = torch.cat([rows("cat", encoder), own[encoder.key], rows("dog", encoder)])
        assert equal(vectors[encoder.key], expected)


LONG = " ".join(["cat dog"] * 10)
"""More tokens than those whose rows are laid side by side."""


@pytest.mark.parametrize(
    "text", ["'cat'", f"'{LONG}'", f"'{LONG}'+'dog'", f"L('{LONG}')", "'mystyle'", f"'mystyle {LONG}'"]
)
def test_vectors_share_no_memory(named: MemoryModel, text: str) -> None:
    source, texts = parse(text), make_text_readers(named)
    rows = TokenRows(named, texts, source.texts())
    made = evaluate_prepared(source, named, Preparation(texts, make_outliner(named, texts[0]), rows))
    kept = [run for group in rows.groups for run in group.runs.values()]
    kept += named.embeddings.load("mystyle").vectors.values()
    for number, vectors in enumerate(made.values()):
        others = [*kept, *list(made.values())[number + 1 :]]
        assert not any(numpy.shares_memory(to_numpy(vectors), to_numpy(other)) for other in others)


def test_the_longest_name_wins_and_case_does_not_matter(named: MemoryModel) -> None:
    assert len(value("'MyStyle'", named)["clip_l"]) == 2
    assert len(value("'my'", named)["clip_l"]) == 1


def test_an_embedding_of_another_architecture_is_named(named: MemoryModel) -> None:
    with pytest.raises(EvaluationError, match="old is for CLIP-L") as caught:
        value("'cat'+'old'", named)
    assert caught.value.start == 6


def test_encoders_that_read_a_text_differently() -> None:
    class Letters:
        vocabulary_size, start_id, end_id, comma_id = 49408, 49406, 49407, 267

        def encode(self, text: str) -> list[int]:
            return [ord(letter) for letter in text]

    second = MemoryEncoder("clip_g", MODEL.encoders[1].table, tokenizer=Letters())  # type: ignore[arg-type] # a part
    with pytest.raises(EvaluationError, match="1 and 3 tokens"):
        value("'cat'", MemoryModel([MODEL.encoders[0], second]))


@given(expressions(words))
@settings(max_examples=150)
def test_outline_and_value_agree_for_every_expression(node: Expression) -> None:
    source = parse(print_expression(node))
    try:
        outline = make_outliner(MODEL).outline(source)
        vectors = evaluate(source, MODEL, limit=None)
    except EmbedMergeError as error:
        assert isinstance(error, EvaluationError)
        assert error.start is not None
        return
    for encoder in MODEL.encoders:
        assert vectors[encoder.key].shape == (len(outline), encoder.width)
        assert as_tensor(vectors[encoder.key]).isfinite().all()


@given(expressions(words))
@settings(max_examples=150)
def test_side_by_side_text_encoders_have_the_vectors_of_each_alone(node: Expression) -> None:
    source = parse(print_expression(node))
    try:
        together, alone = (evaluate(source, model, limit=None) for model in (MODEL, ONE_BY_ONE))
    except EvaluationError:
        return
    assert all(to_numpy(together[key]).tobytes() == to_numpy(alone[key]).tobytes() for key in together)


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_function_of_side_by_side_text_encoders(name: str) -> None:
    signature = SIGNATURES[name]
    texts = ["'a cat on a mat'", "'dog'", "'bird'"][: max(signature.least, signature.most or 3)]
    call = f"{name}({', '.join([*texts, *(['0.3'] if signature.number else [])])})"
    together, alone = value(call), value(call, ONE_BY_ONE)
    assert all(to_numpy(together[key]).tobytes() == to_numpy(alone[key]).tobytes() for key in together)
    assert len(together) == 2


runs = st.integers(1, 6).flatmap(
    lambda count: st.integers(0, 1000).map(
        lambda seed: torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    )
)

libraries = pytest.mark.parametrize("kind", [to_numpy, to_tensor], ids=["numpy", "torch"])
"""Each operation on arrays of numpy, and on tensors."""

Kind = Callable[[Array], Array]


@libraries
@given(runs, runs)
def test_adding_is_commutative(kind: Kind, a: Tensor, b: Tensor) -> None:
    assert equal(operations.add(kind(a), kind(b)), operations.add(kind(b), kind(a)))


@libraries
@given(runs, st.integers(-20, 20))
def test_rotating_there_and_back_changes_nothing(kind: Kind, a: Tensor, steps: int) -> None:
    assert equal(operations.rotate(operations.rotate(kind(a), steps), -steps), a)
    assert equal(operations.rotate(kind(a), len(a)), a)


@libraries
@given(runs, st.floats(0.01, 100))
def test_dividing_undoes_scaling(kind: Kind, a: Tensor, number: float) -> None:
    assert_close(operations.divide(operations.scale(kind(a), number), number), a)


@libraries
@given(runs, runs)
def test_what_orthogonal_leaves_shares_nothing(kind: Kind, a: Tensor, b: Tensor) -> None:
    left = operations.orthogonalise(kind(a), kind(b))
    shared = operations_unit(as_tensor(left)) @ operations_unit(b).T
    assert shared.abs().max() < 1e-5
    assert_close(operations.orthogonalise(left, kind(b)), left, rtol=1e-5, atol=1e-6)


def operations_unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-9)


@libraries
@given(runs, st.floats(0.1, 50))
def test_normalised_vectors_have_the_length(kind: Kind, a: Tensor, length: float) -> None:
    lengths = as_tensor(operations.normalise(kind(a), length)).norm(dim=1)
    assert_close(lengths, torch.full((len(a),), length), rtol=1e-5, atol=0.0)


@libraries
@given(runs, runs, st.floats(-2, 3))
def test_slerp_of_a_shorter_run_is_padded(kind: Kind, a: Tensor, b: Tensor, t: float) -> None:
    result = operations.slerp(kind(a), kind(b), t)
    assert len(result) == max(len(a), len(b))
    assert as_tensor(result).isfinite().all()


@libraries
@given(runs, st.integers(0, 9))
def test_resizing(kind: Kind, a: Tensor, count: int) -> None:
    resized = operations.resize(kind(a), count)
    assert len(resized) == count
    assert equal(resized[: len(a)], a[:count])
    assert not resized[len(a) :].any()
