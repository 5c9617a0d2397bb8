"""Sources recovered from vectors: texts, sums of texts, and what is neither; the expression is always run again."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy
import pytest
import torch
from arrays import as_arrays, equal
from hypothesis import given
from hypothesis import strategies as st
from memory_model import MemoryEncoder, MemoryModel, MemoryNames, copy_tables, random_model

from lib_embedmerge.core.architecture import SD1
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import CheckpointError, EmbedMergeError, StorageError
from lib_embedmerge.lang.printer import print_text
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.recovery import pursuit
from lib_embedmerge.recipes.recovery.candidate_texts import Segment, WeightedText, find_segments
from lib_embedmerge.recipes.recovery.recover import SAME, Recovery, recover, recover_on_each
from lib_embedmerge.tokenizer import clip_tokenizer
from lib_embedmerge.tokenizer.clip import ClipTokenizer

ROWS = 4000
WIDTHS = {"clip_l": 768, "clip_g": 1280}
CAT, DOG = 2368, 1929
Vectors = Mapping[str, Array]


@pytest.fixture(scope="module")
def model() -> MemoryModel:
    return random_model(ROWS)


def embedded(vectors: Vectors, name: str = "found") -> Embedding:
    return Embedding(name, as_arrays(vectors))


def halved(vectors: Vectors) -> Vectors:
    return {key: to_numpy(rows).astype("f2").astype("f4") for key, rows in vectors.items()}


def recovered(source: str, model: Model, change: Callable[[Vectors], Vectors] = dict) -> Recovery:
    return recover(embedded(change(evaluate(parse(source), model))), model)


def left_by(expression: str, vectors: Vectors, model: Model) -> dict[str, float]:
    """What an expression leaves of vectors, by the definition; of zero vectors nothing where it gives these."""
    given = evaluate(parse(expression), model)
    wanted = {key: to_numpy(rows).astype("f8") for key, rows in vectors.items()}
    gaps = {key: numpy.linalg.norm(rows - to_numpy(given[key])).item() for key, rows in wanted.items()}
    return {key: gap / (numpy.linalg.norm(wanted[key]).item() or 1.0) for key, gap in gaps.items()}


def trained(count: int, seed: int = 0) -> dict[str, numpy.ndarray]:
    """Vectors that have nothing to do with any token."""
    generator = torch.Generator().manual_seed(seed)
    return {key: (torch.randn(count, width, generator=generator) * 0.02).numpy() for key, width in WIDTHS.items()}


WORDS = [token for token in range(ROWS) if clip_tokenizer().ends_word(token) and clip_tokenizer().spell([token])]


def random_text(chance: random.Random, fewest: int, most: int) -> str:
    """Words of the small table that read as themselves together."""
    while True:
        ids = chance.choices(WORDS, k=chance.randint(fewest, most))
        if (text := clip_tokenizer().spell(ids)) is not None:
            return text


def random_sum(chance: random.Random, count: int, longest: int = 8) -> str:
    terms = (
        f"{print_text(random_text(chance, 1, longest))}*{chance.choice((1, 1, -1)) * chance.uniform(0.1, 2):.9f}"
        for _ in range(count)
    )
    return "+".join(terms)


SOURCES = {
    "a text": ("'photo of a cat'", "'photo of a cat'"),
    "marks as they are typed": ("'a cat, a dog. don''t!'", "'a cat, a dog. don''t!'"),
    "a token scaled": ("'cat'*1.5", "'cat'*1.5"),
    "a text scaled": ("'red car at night'/4", "'red car at night'*0.25"),
    "a negative token": ("'cat'*-1", "'cat'*-1"),
    "a difference": ("'cat'-'dog'", "'cat' - 'dog'"),
    "a weak second": ("'red'+'blue'*0.5", "'red' + 'blue'*0.5"),
    "a very weak second": ("'red'+'blue'*0.01", "'red' + 'blue'*0.01"),
    "texts of two lengths": ("'red car'*0.3+'blue sky at night'*0.7", "'blue sky at night'*0.7 + 'red car'*0.3"),
    "the longer one first of all": ("'red'-'blue sky at night'*2", "'red' - 'blue sky at night'*2"),
    "equal weights": ("'red car'+'blue sky'", None),
    "equal weights, words in pieces": ("'artstation'+'red dog'", None),
    "three texts": ("'a cat'*0.5+'b'*0.25-'c d e'*0.125", "'a cat'*0.5 + 'b'*0.25 - 'c d e'*0.125"),
    "tokens in several texts": (
        "'cat, dog'*0.7-'a, dog house'*1.2+'dog'*0.4",
        "'cat, dog'*0.7 + 'dog'*0.4 - 'a, dog house'*1.2",
    ),
    "six texts": ("'a'*.1+'b'*.2+'c'*.3+'d'*.4+'e'*.5+'f'*.6", None),
    "five texts of some length": (
        "'a cat'*.1+'big dog'*.2+'red car'*.3+'old house'*.4+'the night'*.5",
        "'the night'*0.5 + 'old house'*0.4 + 'red car'*0.3 + 'big dog'*0.2 + 'a cat'*0.1",
    ),
    "a zero vector in front": ("'red car'-'red house'", "cat('':1, 'car' - 'house')"),
    "zero vectors after it": ("'cat':3", "cat('cat', '':2)"),
    "zero vectors only": ("'':4", "'':4"),
    "other weights in a row": ("'cat'*1.5,'dog'", "cat('cat'*1.5, 'dog')"),
    "a piece of a word": ("'artstation':1", "'',1486"),
    "a piece of a word in a text": ("'photo of artstation':3", "'photo of',1486"),
    "a piece of a word in a sum": ("('photo of artstation':3)*.5+'dog'", "'dog' + 'photo of',1486*0.5"),
    "a text in each encoder": ("L('cat')+G('dog')", "L('cat') + G('dog')"),
    "one encoder alone": ("G('red car')", "G('red car')"),
    "one encoder alone, a sum": ("L('red car'*.5+'dog')", "L('dog' + 'red car'*0.5)"),
    "one encoder scaled": ("'red car'*2L", "L('red car'*2) + G('red car')"),
    "a sum in each encoder": ("L('a'+'b'*.5)+G('c'*.5-'d')", "L('a' + 'b'*0.5) + G('c'*0.5 - 'd')"),
}


@pytest.mark.parametrize("stored", [dict, halved], ids=["float32", "float16"])
@pytest.mark.parametrize(("source", "expected"), SOURCES.values(), ids=SOURCES)
def test_what_was_typed_comes_back(
    model: MemoryModel, source: str, expected: str | None, stored: Callable[[Vectors], Vectors]
) -> None:
    vectors = stored(evaluate(parse(source), model))
    found = recover(embedded(vectors), model)
    assert expected is None or found.expression == expected
    assert found.residual == pytest.approx(left_by(found.expression, vectors, model), rel=1e-3, abs=1e-9)
    assert found.is_source
    assert found.largest_residual < (2e-6 if stored is dict else 3e-4)


def test_texts_of_every_length_are_recovered_exactly(model: MemoryModel) -> None:
    chance = random.Random(1)
    for length in range(1, 76):
        text = random_text(chance, length, length)
        found = recovered(print_text(text), model, halved)
        assert found.exact
        again, wanted = (evaluate(parse(source), model) for source in (found.expression, print_text(text)))
        assert equal(again["clip_l"], wanted["clip_l"])
        assert clip_tokenizer().encode(found.texts[0]) == clip_tokenizer().encode(text)


@pytest.mark.parametrize("stored", [dict, halved], ids=["float32", "float16"])
@pytest.mark.parametrize("count", [2, 3])
def test_sums_of_random_texts_with_random_weights(
    model: MemoryModel, count: int, stored: Callable[[Vectors], Vectors]
) -> None:
    chance = random.Random(count)
    found = [recovered(random_sum(chance, count), model, stored) for _ in range(25)]
    assert sum(one.largest_residual < SAME for one in found) >= 24  # at least 95 of the 100 in all
    assert sum(len(one.texts) == count for one in found) >= 23


def test_the_residual_is_that_of_the_expression(model: MemoryModel) -> None:
    vectors = evaluate(parse("'red car'*0.3+'blue sky at night'*0.7"), model)
    noise = trained(4)
    noisy = {key: rows + noise[key] * 0.02 for key, rows in vectors.items()}
    found = recover(embedded(noisy), model)
    assert found.residual == pytest.approx(left_by(found.expression, noisy, model), rel=1e-3)
    assert (found.exact, found.is_source) == (False, False)
    assert {"red car", "blue sky at night"} == set(found.texts)
    assert (
        found.detail == "The expression comes close to these vectors, but differs by 2.8% of CLIP-L and 2.8% of CLIP-G."
    )


@pytest.mark.parametrize("count", [1, 75])
def test_a_trained_embedding_is_told_as_one(model: MemoryModel, count: int) -> None:
    found = recover(embedded(trained(count)), model)
    assert found.largest_residual > 0.9
    assert not found.is_source
    assert found.tokens <= pursuit.MAX_TOKENS
    assert found.detail.startswith("No combination of tokens makes these vectors: the best one, with up to ")
    assert found.detail.endswith(f"misses {found.residual_in_words}.")
    assert found.residual == pytest.approx(left_by(found.expression, trained(count), model))


def test_vectors_that_no_token_comes_close_to() -> None:
    flat = {key: numpy.zeros((1, width), "f4") for key, width in WIDTHS.items()}
    flat["clip_l"][0, 3] = flat["clip_g"][0, 3] = 1.0
    table = {key: numpy.zeros((600, width), "f4") for key, width in WIDTHS.items()}
    for rows in table.values():
        rows[:, 5] = 0.3
    found = recover(embedded(flat), MemoryModel([MemoryEncoder(key, rows) for key, rows in table.items()]))
    assert (found.expression, found.tokens, found.largest_residual) == ("'':1", 0, 1.0)
    assert "with no token for each vector, misses 100% of CLIP-L" in found.detail


def with_common_mean(share: float, rows: int = 3000, near: int = 10) -> MemoryModel:
    """Rows that share `share` of their squared length, as real ones do; every `near`th has hardly anything else."""
    generator = torch.Generator().manual_seed(7)
    encoders = []
    for key, width in WIDTHS.items():
        mean = torch.nn.functional.normalize(torch.randn(1, width, generator=generator))
        own = torch.nn.functional.normalize(torch.randn(rows, width, generator=generator))
        own[::near] *= 0.2
        table = 0.4 * (share**0.5 * mean + (1 - share) ** 0.5 * own)
        encoders.append(MemoryEncoder(key, table.numpy()))
    return MemoryModel(encoders)


def plain_pursuit(rows: pursuit.JointRows, table: numpy.ndarray, rounds: int) -> bool:
    """Orthogonal matching pursuit as the textbook has it, over the whole table: one token a round, for good."""
    lengths = numpy.linalg.norm(table, axis=1)
    for target in rows.targets:
        chosen: list[int] = []
        rest = target
        for _ in range(rounds):
            chosen.append(int((abs(table @ rest) / lengths).argmax()))
            _, rest = pursuit.fit_weights(table[chosen], target)
        if numpy.linalg.norm(rest) > SAME * numpy.linalg.norm(target):
            return False
    return True


def test_a_common_mean_misleads_plain_pursuit_but_not_this_one() -> None:
    model = with_common_mean(0.8, rows=500)
    chance = random.Random(3)
    ours = plain = 0
    for _ in range(20):
        ids = chance.sample([token for token in range(500) if token % 10], 5)
        weights = [chance.uniform(0.3, 1) for _ in ids]
        vectors = {
            encoder.key: (to_numpy(encoder.vectors(ids)) * numpy.array(weights, "f4")[:, None]).sum(
                axis=0, keepdims=True
            )
            for encoder in model.encoders
        }
        rows = pursuit.JointRows(model.encoders, vectors, 500)
        (found,) = pursuit.pursue(rows)
        ours += found.residual < SAME and sorted(found.ids) == sorted(ids)
        plain += plain_pursuit(rows, rows.vectors(range(500)), len(ids))
    assert (ours, plain) == (20, 0)


def test_sums_on_a_table_with_a_common_mean() -> None:
    model = with_common_mean(0.5)
    chance = random.Random(4)
    words = [token for token in WORDS if token < 3000 and clip_tokenizer().spell([token, token]) is not None]
    good = 0
    for _ in range(10):
        texts = [clip_tokenizer().decode(chance.choices(words, k=3)).strip() for _ in range(3)]
        source = "+".join(f"{print_text(text)}*{chance.uniform(-1, 1):.3f}" for text in texts)
        good += recovered(source, model, halved).largest_residual < SAME
    assert good == 10


def test_a_source_that_would_be_too_long_is_not_given(model: MemoryModel, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = evaluate(parse("'cat'*2L"), model)
    monkeypatch.setattr("lib_embedmerge.lang.source.MAX_LENGTH", 15)
    found = recover(embedded(vectors), model)
    assert found.texts == ("cat",)
    assert 0.1 < found.largest_residual < 0.6
    monkeypatch.setattr("lib_embedmerge.lang.source.MAX_LENGTH", 5)
    assert recover(embedded(vectors), model).expression == "'':1"


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30], ids=str)
def test_vectors_beyond_all_measure(model: MemoryModel, scale: float) -> None:
    rows = evaluate(parse("'cat'+'dog'*.5"), model)
    vectors = {key: some * scale for key, some in rows.items()}
    found = recover(embedded(vectors), model)
    assert found.residual == pytest.approx(left_by(found.expression, vectors, model), abs=1e-3)
    assert found.exact == found.is_source == (scale > 1e-40)


def test_a_text_never_means_an_embedding(model: MemoryModel) -> None:
    named = MemoryModel(model.encoders, MemoryNames({"cat": trained(1)}))
    rows = evaluate(parse("'a cat sat'"), model)
    found = recover(embedded(rows), named)
    assert found.exact
    assert found.expression == f"'a',{CAT},'sat'"
    assert found.texts == (found.expression,)


def test_tokens_with_one_row_in_one_encoder(model: MemoryModel) -> None:
    """The lowest of them is what the table tells; the other encoder knows which one was meant."""
    tables = copy_tables(model)
    tables["clip_l"][CAT] = tables["clip_l"][3]
    twins = MemoryModel([MemoryEncoder(key, table) for key, table in tables.items()])
    assert recovered("'a cat'", twins).expression == "'a cat'"
    tables["clip_g"][DOG] = tables["clip_g"][4]
    assert recovered("'cat'*.5+'dog'", twins).is_source


def test_tokens_with_one_row_in_either_encoder(model: MemoryModel) -> None:
    """At one place the one encoder knows which token was meant, at the next one the other."""
    tables = copy_tables(model)
    tables["clip_l"][CAT], tables["clip_g"][DOG] = tables["clip_l"][3], tables["clip_g"][4]
    twins = MemoryModel([MemoryEncoder(key, table) for key, table in tables.items()])
    assert recovered("'a cat dog'", twins).expression == "'a cat dog'"


def test_exactly_is_said_of_the_same_vectors_alone(model: MemoryModel) -> None:
    found = recovered("'a cat'", model)
    assert (found.exact, found.largest_residual) == (True, 0)
    assert found.detail == "The expression gives exactly these vectors."
    rounded = recovered("'a cat'", model, halved)
    assert rounded.exact
    assert 1e-4 < rounded.largest_residual < 3e-4
    assert rounded.detail == "The expression gives these vectors, as exactly as float16 can store them."
    nearly = replace(rounded, exact=False)
    assert nearly.detail == "The expression gives these vectors, except for rounding."


def test_rows_that_are_no_numbers_are_left_alone(model: MemoryModel) -> None:
    tables = copy_tables(model)
    tables["clip_g"][DOG] = numpy.nan
    broken = MemoryModel([MemoryEncoder(key, table) for key, table in tables.items()])
    found = recovered("'red car'*.5+'cat'", broken)
    assert found.expression == "'cat' + 'red car'*0.5"
    vectors = {"clip_l": tables["clip_l"][[DOG]], "clip_g": tables["clip_g"][[CAT]]}
    assert recover(embedded(vectors), broken).expression == "L('dog') + G('cat')"


def test_rows_beyond_the_vocabulary_are_written_as_ids() -> None:
    tokenizer = ClipTokenizer()
    tokenizer.vocabulary_size = 580
    tables = copy_tables(random_model(600))
    model = MemoryModel([MemoryEncoder(key, table, tokenizer) for key, table in tables.items()])
    vectors = {key: table[[320, 590]] for key, table in tables.items()}
    assert recover(embedded(vectors), model).expression == "'a',590"


def test_rows_that_only_one_encoder_has_are_no_candidates(model: MemoryModel) -> None:
    clip_l, clip_g = model.encoders
    uneven = MemoryModel([MemoryEncoder("clip_l", clip_l.table[:3000]), clip_g])
    rows = evaluate(parse("'cat'+'dog'*.5"), model)
    assert recover(embedded(rows), uneven).expression == "'cat' + 'dog'*0.5"
    for scale in (0.5, 1.0):
        beyond = {"clip_l": clip_l.table[[CAT]], "clip_g": clip_g.table[[3500]] * scale}
        found = recover(embedded(beyond), uneven)
        assert found.residual["clip_g"] > 0.9


def test_a_model_with_one_encoder(model: MemoryModel) -> None:
    sd1 = MemoryModel(model.encoders[:1], architecture=SD1)
    for source in ("'photo of a cat'", "'cat'*0.25 + 'red car'*-2"):
        rows = evaluate(parse(source), sd1)
        found = recover(embedded(rows), sd1)
        assert found.is_source
        assert set(found.residual) == {"clip_l"}
    assert found.expression == "'cat'*0.25 - 'red car'*2"
    assert recover(embedded({"clip_l": numpy.zeros((2, 768))}), sd1).expression == "'':2"
    assert not recover(embedded({"clip_l": trained(1)["clip_l"]}), sd1).is_source


def test_what_cannot_be_recovered_is_refused(model: MemoryModel) -> None:
    path = Path("some.safetensors")
    sd1 = MemoryModel(model.encoders[:1], architecture=SD1)
    cases: list[tuple[Embedding, Model, str]] = [
        (embedded(trained(1)), sd1, "found does not fit this model. It was made for SDXL; this model is Sta"),
        (Embedding("found", trained(80), path=path), model, "found has 80 vectors; one expression makes 1 to 75."),
        (Embedding("found", trained(0), path=path), model, "found has 0 vectors"),
        (embedded({**trained(2), "clip_g": numpy.full((2, 1280), numpy.nan)}), model, "found has values that are not"),
    ]
    for embedding, on, message in cases:
        with pytest.raises(StorageError) as fault:
            recover(embedding, on)
        assert fault.value.message.startswith(message)
        assert fault.value.hint


def summed(texts: Sequence[WeightedText]) -> list[Counter[int]]:
    """Token id -> weight for each vector of some texts, added from their first vectors on."""
    vectors = [Counter[int]() for _ in range(max(len(text.ids) for text in texts))]
    for text in texts:
        for tokens, token in zip(vectors, text.ids, strict=False):
            tokens[token] += text.weight  # type: ignore[assignment]  # a Counter adds up any numbers
    return vectors


TEXTS = st.lists(
    st.builds(
        WeightedText,
        st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple),
        st.sampled_from([1.0, -1.0, 0.5, 0.3, 0.7, -1.25]),
    ),
    min_size=1,
    max_size=7,
)


@given(TEXTS)
def test_segments_give_the_weights_that_they_were_made_from(texts: Sequence[WeightedText]) -> None:
    vectors = [{token: w for token, w in tokens.items() if abs(w) > 1e-9} for tokens in summed(texts)]
    segments = find_segments(vectors, lambda ids: ids[0] != 2)
    again = [tokens for one in segments for tokens in (summed(one.texts) if one.texts else [Counter()] * one.count)]
    assert len(again) == sum(one.count for one in segments) == len(vectors)
    for found, wanted in zip(again, vectors, strict=True):
        assert {token: w for token, w in found.items() if abs(w) > 1e-9} == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([{1: 1.0}, {2: 1.0}], [Segment(2, (WeightedText((1, 2), 1.0),))]),
        ([{}, {}], [Segment(2)]),
        ([{}, {2: 1.0}, {}], [Segment(1), Segment(1, (WeightedText((2,), 1.0),)), Segment(1)]),
        ([{1: 0.5}, {2: 1.0}], [Segment(1, (WeightedText((1,), 0.5),)), Segment(1, (WeightedText((2,), 1.0),))]),
        ([{1: 1.0}, {2: 0.3, 3: 0.7}], [Segment(2, (WeightedText((1, 2), 0.3), WeightedText((1, 3), 0.7)))]),
        # 9 is no beginning of a word, so it goes on from 4, which is one.
        ([{4: 1.0, 5: 1.0}, {9: 1.0}], [Segment(2, (WeightedText((4, 9), 1.0), WeightedText((5,), 1.0)))]),
        ([{1: 1.0, 3: 1.0}, {2: 1.0, 4: 1.0}], [Segment(2, (WeightedText((1, 2), 1.0), WeightedText((3, 4), 1.0)))]),
    ],
    ids=["a text", "zeros", "zeros around", "other weights", "one token twice", "a shorter text", "equal weights"],
)
def test_segments(vectors: list[dict[int, float]], expected: list[Segment]) -> None:
    good = {(4, 9), (5,), (1, 2), (3, 4), (1,), (2,), (3,), (4,)}
    assert find_segments(vectors, lambda ids: tuple(ids) in good) == expected


def other_model(model: MemoryModel, *tokens: int) -> MemoryModel:
    """The same tables, some of whose rows are others."""
    tables = copy_tables(model)
    for table in tables.values():
        table[list(tokens)] = numpy.roll(table[list(tokens)], 1, axis=1)
    return MemoryModel([MemoryEncoder(key, table) for key, table in tables.items()])


T = TypeVar("T")


def _same(one: T) -> T:
    return one


@pytest.mark.parametrize("source", ["'photo of a cat'", "'cat'*0.5 + 'red car'*0.123456789"], ids=["text", "sum"])
def test_the_model_that_it_was_made_on_is_named(model: MemoryModel, source: str) -> None:
    rows = embedded(evaluate(parse(source), model))
    others = {"x": other_model(model, CAT), "a": model, "b": other_model(model, DOG)}
    counted: list[int] = []
    found = recover_on_each(rows, [(name, partial(_same, one)) for name, one in others.items()], counted.append)
    assert found.best.checkpoint == "a"
    assert found.ties == ("b",)  # which differs in a token that is not used
    assert counted == [1, 2, 3]
    as_json = found.as_json()
    assert [one["checkpoint"] for one in as_json["candidates"]] == ["x", "a", "b"]
    assert json.loads(json.dumps(as_json, allow_nan=False)) == as_json
    (without,) = [one.recovery for one in found.attempts if one.checkpoint == "x"]
    assert without is not None
    assert without.largest_residual > 0.1


def test_the_shorter_of_two_exact_expressions_is_the_source(model: MemoryModel) -> None:
    doubled = MemoryModel([MemoryEncoder(encoder.key, encoder.table * 2) for encoder in model.encoders])
    rows = embedded(evaluate(parse("'cat' + 'dog'*0.5"), model))
    found = recover_on_each(rows, [("doubled", lambda: doubled), ("made on", lambda: model)])
    assert (found.best.checkpoint, found.best.expression, found.ties) == ("made on", "'cat' + 'dog'*0.5", ())


def test_models_that_cannot_be_tried(model: MemoryModel) -> None:
    sd1 = MemoryModel(model.encoders[:1], architecture=SD1)
    rows = embedded(evaluate(parse("'cat'"), model))

    def broken() -> Model:
        raise CheckpointError("It is damaged.", hint="Download it again.")

    found = recover_on_each(rows, [("sd1", lambda: sd1), ("damaged", broken), ("right", lambda: model)])
    assert (found.best.checkpoint, found.ties) == ("right", ())
    reasons = [one.reason for one in found.attempts]
    assert reasons[1:] == ["It is damaged.", None]
    assert reasons[0] is not None
    assert reasons[0].startswith("found does not fit this model.")
    with pytest.raises(CheckpointError, match="It is damaged"):
        recover_on_each(rows, [("damaged", broken)])
    with pytest.raises(EmbedMergeError, match=r"on any of these models. sd1: found does not fit .* damaged: It is"):
        recover_on_each(rows, [("sd1", lambda: sd1), ("damaged", broken)])


def test_json_has_no_infinity() -> None:
    found = Recovery("'cat'", False, {"clip_l": torch.inf, "clip_g": 0.5}, "a", ("cat",), (1.0,), 1)
    assert found.as_json()["residual"] == {"clip_l": None, "clip_g": 0.5}
