"""Texts of embeddings whose model is not at hand, recovered from the drifted rows of another model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy
import pytest
from arrays import as_arrays
from planted_tables import ROWS, Planted, Tables, add, choose_text, drift, plant, unit, vectors_of, words

from lib_embedmerge.core.arrays import Array
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.recovery.across_models import read_files
from lib_embedmerge.recipes.recovery.drifted_rows import Certainty, name_vectors
from lib_embedmerge.recipes.recovery.readings import Verdict
from lib_embedmerge.recipes.recovery.recover import recover, recover_on_each
from lib_embedmerge.tokenizer import clip_tokenizer

POOL = words()
DRIFTS = {
    "none": (0.0, 0.0, 0.0),
    "little": (0.1, 0.1, 0.0),
    "as measured": (0.08, 0.51, 0.0),
    "far": (0.4, 0.4, 0.0),
    "far, near neighbours": (0.4, 0.4, 0.7),
    "as measured, near neighbours": (0.08, 0.51, 0.5),
}


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant()


@pytest.fixture(scope="module")
def other(planted: Planted) -> Tables:
    """The table of a model that has drifted as real ones do."""
    return drift(planted, 0.08, 0.51)


def embedded(vectors: Mapping[str, Array], name: str = "found") -> Embedding:
    return Embedding(name, as_arrays(vectors))


@pytest.mark.parametrize("how", ["turned", "added"])
@pytest.mark.parametrize("name", DRIFTS)
def test_texts_of_another_model_are_named(planted: Planted, name: str, how: str) -> None:
    least, most, towards = DRIFTS[name]
    tables = drift(planted, least, most, towards=towards, how=how)  # type: ignore[arg-type]
    chance = numpy.random.default_rng(7)
    texts = [choose_text(chance, POOL, count) for count in (1, 2, 5, 12, 30, 75, 75, 75)]
    readings = read_files([vectors_of(tables, ids) for ids in texts], planted.model)
    tokens = [
        (vector, token)
        for reading, ids in zip(readings, texts, strict=True)
        for vector, token in zip(reading.vectors, ids, strict=True)
    ]
    right = sum(vector.token == token for vector, token in tokens)
    assert right >= 0.99 * len(tokens)
    assert {reading.verdict for reading in readings} <= {Verdict.TEXT, Verdict.EXACT}
    wrong = [vector for vector, token in tokens if vector.token != token]
    assert {vector.certainty for vector in wrong} <= {Certainty.LIKELY}


@pytest.mark.parametrize("towards", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("clip_l",)])
def test_sure_tokens_are_never_wrong(planted: Planted, keys: tuple[str, ...], towards: float) -> None:
    tables = drift(planted, 0.1, 0.5, towards=towards, seed=3)
    ids = numpy.random.default_rng(1).integers(0, ROWS, 3000)
    vectors = {key: tables[key][ids] for key in keys}
    named = name_vectors(vectors, planted.model.encoders[: len(keys)], ROWS)
    sure = [
        (vector.token, token) for vector, token in zip(named, ids.tolist(), strict=True) if vector.certainty == "sure"
    ]
    assert len(sure) > 1000
    assert all(found == token for found, token in sure)


def trained(chance: numpy.random.Generator, planted: Planted, count: int, kind: str) -> Tables:
    """Vectors that were trained: random ones of real lengths, longer ones, and ones that began as a word."""
    vectors = {}
    ids = chance.integers(0, ROWS, count)
    for key, table in planted.tables.items():
        noise = unit(chance.standard_normal((count, table.shape[1])))
        if kind == "from a word":
            rows = unit(table[ids] + 0.9 * numpy.linalg.norm(table[ids], axis=1, keepdims=True) * noise)
        elif kind == "among many words":
            rows = unit(table[chance.integers(0, ROWS, (count, 12))].sum(axis=1))
        else:
            rows = noise
        vectors[key] = (rows * (20.0 if kind == "long" else 0.4)).astype(numpy.float32)
    return vectors


@pytest.mark.parametrize("kind", ["random", "long", "from a word", "among many words"])
def test_trained_vectors_are_not_called_text(planted: Planted, kind: str) -> None:
    chance = numpy.random.default_rng(5)
    files = [trained(chance, planted, count, kind) for count in (1, 3, 8, 20)]
    readings = read_files(files, planted.model)
    assert [reading.verdict for reading in readings] == [Verdict.NOT_TEXT] * len(files)
    assert Counter(vector.certainty for reading in readings for vector in reading.vectors) == {Certainty.NOT_TEXT: 32}


WEIGHTS = [(1.0, 0.5), (0.7, 0.3), (0.6, 0.4), (1.0, -0.5), (0.8, 0.25), (1.0, 0.8), (1.2, 0.6), (0.5, 0.3)]


@pytest.mark.parametrize("towards", [0.0, 0.7])
def test_sums_of_texts_of_another_model(planted: Planted, towards: float) -> None:
    tables = drift(planted, 0.2, 0.2, towards=towards)
    chance = numpy.random.default_rng(2)
    right = 0
    for number in range(20):
        weights = WEIGHTS[number % len(WEIGHTS)]
        texts = [choose_text(chance, POOL, int(chance.integers(1, 10))) for _ in weights]
        vectors = add([(vectors_of(tables, ids), weight) for ids, weight in zip(texts, weights, strict=True)])
        (reading,) = read_files([vectors], planted.model)
        found = {text.ids: text.weight for segment in reading.segments for text in segment.texts}
        wanted = {tuple(ids): weight for ids, weight in zip(texts, weights, strict=True)}
        right += found.keys() == wanted.keys() and all(
            found[ids] == pytest.approx(weight, rel=0.05) for ids, weight in wanted.items()
        )
    assert right >= 18


def test_a_text_with_a_weight(planted: Planted, other: Tables) -> None:
    text = choose_text(numpy.random.default_rng(4), POOL, 6)
    vectors = {key: rows * numpy.float32(1.5) for key, rows in vectors_of(other, text).items()}
    found = recover(embedded(vectors), planted.model)
    assert (found.verdict, found.weights) == (Verdict.SUMS, (1.5,))
    assert found.texts == (clip_tokenizer().spell(text),)


def test_the_answer_for_a_text(planted: Planted, other: Tables) -> None:
    ids = clip_tokenizer().encode("photo of a red car, at night")
    found = recover(embedded(vectors_of(other, ids)), planted.model, "here")
    assert (found.expression, found.verdict, found.exact) == ("'photo of a red car, at night'", Verdict.TEXT, False)
    answer = found.as_json()
    assert answer["verdict"] == "text"
    assert [vector["token_id"] for vector in answer["vectors"]] == ids
    assert [vector["token"] for vector in answer["vectors"]][:3] == ["photo</w>", "of</w>", "a</w>"]
    assert {vector["certainty"] for vector in answer["vectors"]} <= {"sure", "likely"}
    for key in ("clip_l", "clip_g"):
        rows = planted.tables[key][ids]
        drifts = numpy.linalg.norm(other[key][ids] - rows, axis=1) / numpy.linalg.norm(rows, axis=1)
        assert answer["drift"][key]["median"] == pytest.approx(float(numpy.median(drifts)), abs=1e-5)
        assert answer["drift"][key]["max"] == pytest.approx(float(drifts.max()), abs=1e-5)
        cosines = (unit(other[key][ids]) * unit(rows)).sum(axis=1).tolist()
        assert [vector["cosine"][key] for vector in answer["vectors"]] == pytest.approx(cosines, abs=1e-5)
    assert answer["detail"].startswith("The text was made on another model, whose rows differ from those here by ")


def test_exact_rows_and_sums_of_this_model_stay_exact(planted: Planted) -> None:
    text = recover(embedded(evaluate(parse("'a red car'"), planted.model)), planted.model)
    assert (text.verdict, text.exact, text.certainty["exact"]) == (Verdict.EXACT, True, 3)
    assert [vector["token_id"] for vector in text.as_json()["vectors"]] == clip_tokenizer().encode("a red car")
    for source in ("'a red car'*0.7 + 'night'*0.1", "'a red car' + 'night sky'*0.05", "'a red car'*1.05"):
        sums = recover(embedded(evaluate(parse(source), planted.model)), planted.model)
        assert (sums.verdict, sums.is_source, sums.expression) == (Verdict.SUMS, True, source)


def test_an_sd1_file_is_recovered_by_clip_l(planted: Planted, other: Tables) -> None:
    ids = choose_text(numpy.random.default_rng(8), POOL, 12)
    found = recover(embedded({"clip_l": other["clip_l"][ids]}), planted.model)
    assert (found.verdict, found.texts) == (Verdict.TEXT, (clip_tokenizer().spell(ids),))
    assert set(found.drift) == set(found.as_json()["residual"]) == {"clip_l"}
    assert "L(" not in found.expression


def test_a_half_of_zeros_is_not_read(planted: Planted, other: Tables) -> None:
    ids = choose_text(numpy.random.default_rng(9), POOL, 6)
    vectors = vectors_of(other, ids)
    found = recover(embedded({**vectors, "clip_g": numpy.zeros_like(vectors["clip_g"])}), planted.model)
    assert found.expression == f"L('{clip_tokenizer().spell(ids)}')"


def test_words_among_trained_vectors(planted: Planted, other: Tables) -> None:
    ids = choose_text(numpy.random.default_rng(10), POOL, 6)
    vectors = vectors_of(other, ids)
    noise = trained(numpy.random.default_rng(1), planted, 2, "random")
    mixed = {key: numpy.concatenate([rows, noise[key]]) for key, rows in vectors.items()}
    found = recover(embedded(mixed), planted.model)
    assert found.verdict == Verdict.MIXED
    assert [vector.token for vector in found.vectors] == [*ids, None, None]
    assert found.expression == f"cat('{clip_tokenizer().spell(ids)}', '':2)"
    assert found.detail == (
        "6 of 8 vectors are known. The others were trained; the expression has zero vectors instead."
    )


def test_the_nearest_checkpoint_is_told(planted: Planted) -> None:
    far, near = drift(planted, 0.4, 0.4), planted.tables
    ids = choose_text(numpy.random.default_rng(11), POOL, 8)
    close = {key: 0.7 * near[key] + 0.3 * far[key] for key in near}
    models = [("far", lambda: Planted(far, planted.near).model), ("near", lambda: planted.model)]
    found = recover_on_each(embedded(vectors_of(close, ids)), models)
    assert found.best.checkpoint == "near"
