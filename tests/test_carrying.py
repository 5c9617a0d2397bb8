"""Embeddings made for models of another architecture: exact for text, honest about what is not text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from arrays import as_arrays
from planted_files import PLANTED_ROWS, as_stored, write_planted_sdxl, write_sd1_embedding, write_sdxl_embedding
from planted_tables import Planted, Tables, choose_text, drift, plant, unit, words

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.cli import main
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.carrying import carry, fit_link
from lib_embedmerge.tokenizer import clip_tokenizer

POOL = words(PLANTED_ROWS)


@pytest.fixture(scope="module")
def planted() -> Planted:
    return as_stored(plant(PLANTED_ROWS))


@pytest.fixture(scope="module")
def other(planted: Planted) -> Tables:
    return drift(planted, 0.08, 0.51)


@pytest.fixture(scope="module")
def checkpoint(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_sdxl(tmp_path_factory.mktemp("models") / "target.safetensors", planted.tables)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def noise(chance: numpy.random.Generator, count: int, width: int) -> numpy.ndarray:
    return (0.4 * unit(chance.standard_normal((count, width)))).astype(numpy.float32)


def test_a_text_is_built_again(
    planted: Planted, other: Tables, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = choose_text(numpy.random.default_rng(3), POOL, 14)
    source = write_sd1_embedding(tmp_path / "old.pt", other["clip_l"][ids])
    before = source.read_bytes()
    code, (answer,) = run(capsys, "convert", source, "--to", "sdxl", "--checkpoint", checkpoint)
    assert (code, answer["source"], answer["status"]) == (0, str(source), "written")
    assert answer["certainty"]["not_text"] == answer["certainty"]["exact"] == 0
    assert sum(answer["certainty"].values()) == len(ids)
    made = load_embedding(answer["file"])
    for key, table in planted.tables.items():
        assert (made.vectors[key] == table[ids]).all()
    assert made.recipe == f"'{clip_tokenizer().spell(ids)}'" == answer["text"]
    assert made.fit(open_checkpoint(checkpoint)).status == "made for this model"
    assert source.read_bytes() == before


def test_what_is_not_text_is_kept_and_zero_in_the_other_encoder(
    planted: Planted, other: Tables, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = numpy.random.default_rng(4)
    ids = choose_text(chance, POOL, 5)
    rows = numpy.concatenate([other["clip_l"][ids], noise(chance, 2, 768)])
    source = write_sd1_embedding(tmp_path / "mixed.pt", rows)
    code, (answer,) = run(capsys, "convert", source, "--to", "sdxl", "--checkpoint", checkpoint)
    assert (code, answer["verdict"], answer["text"]) == (0, "mixed", None)
    assert answer["certainty"]["not_text"] == 2
    made = load_embedding(answer["file"])
    assert made.recipe is None
    assert (made.vectors["clip_g"][:5] == planted.tables["clip_g"][ids]).all()
    assert (made.vectors["clip_l"][5:] == rows[5:]).all()
    assert not made.vectors["clip_g"][5:].any()
    assert (
        answer["warnings"][0] == "Vector 6 is not text; in CLIP-G it is zero, because no words there come close to it."
    )


def test_a_vector_becomes_the_words_that_explain_most_of_it(planted: Planted) -> None:
    chance = numpy.random.default_rng(6)
    ids = choose_text(chance, POOL, 2)
    words_part = planted.tables["clip_l"][ids].sum(axis=0)
    vector = words_part + 0.5 * numpy.linalg.norm(words_part) * unit(chance.standard_normal(768))
    made = carry(Embedding("half", as_arrays({"clip_l": vector[None].astype(numpy.float32)})), planted.model)
    if made.text is None:
        assert "in CLIP-G it was replaced by the closest words, which match" in made.notes[0]
    cosine = unit(made.vectors["clip_g"][0]) @ unit(planted.tables["clip_g"][ids].sum(axis=0))
    assert cosine > 0.9


def test_the_map_is_used_only_where_it_predicts(planted: Planted) -> None:
    first, second = planted.model.encoders
    assert fit_link(first, second, PLANTED_ROWS).score < 0.3  # random tables have nothing in common
    turn = numpy.linalg.qr(numpy.random.default_rng(0).standard_normal((1280, 1280)))[0][:768]
    linked = {"clip_l": planted.tables["clip_l"], "clip_g": (planted.tables["clip_l"] @ turn).astype(numpy.float32)}
    model = Planted(linked, planted.near).model
    first, second = model.encoders
    link = fit_link(first, second, PLANTED_ROWS)
    assert link.score > 0.95
    vector = noise(numpy.random.default_rng(2), 1, 768)
    made = carry(Embedding("linked", as_arrays({"clip_l": vector})), model)
    assert unit(made.vectors["clip_g"][0]) @ unit(vector[0] @ turn) > 0.9
    assert "in CLIP-G it was estimated; for tokens that the estimate had not seen, the cosine is" in made.notes[0]


def test_only_the_shared_encoder(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = noise(numpy.random.default_rng(5), 3, 768)
    source = write_sd1_embedding(tmp_path / "trained.pt", rows)
    _, (answer,) = run(capsys, "convert", source, "--to", "sdxl", "--checkpoint", checkpoint, "--only-shared")
    made = load_embedding(answer["file"])
    assert (made.vectors["clip_l"] == rows).all()
    assert not made.vectors["clip_g"].any()
    assert answer["warnings"] == ["CLIP-G is zero for the vectors that are not text."]


def test_files_that_cannot_be_made(
    planted: Planted, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = write_sdxl_embedding(tmp_path / "new.safetensors", {key: rows[:2] for key, rows in planted.tables.items()})
    torn = tmp_path / "torn.pt"
    torn.write_bytes(b"torn")
    code, answers = run(capsys, "convert", right, torn, "--to", "sdxl", "--checkpoint", checkpoint)
    assert code == 1
    assert [answer["status"] for answer in answers] == ["skipped", "skipped"]
    assert answers[0]["reason"] == "'new.safetensors' is already for SDXL."
    code = main(["convert", str(right), "--to", "sd1", "--checkpoint", str(checkpoint), "--json"])
    assert code == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"] == (
        "target is a model of SDXL, not of Stable Diffusion 1."
    )
    with pytest.raises(SystemExit):
        main(["convert", str(right), "--to", "sdxl"])
    assert "use --to and --checkpoint together" in capsys.readouterr().err


def test_the_recipe_gives_the_vectors(planted: Planted, other: Tables) -> None:
    ids = choose_text(numpy.random.default_rng(9), POOL, 4)
    made = carry(Embedding("old", as_arrays({"clip_l": other["clip_l"][ids] * numpy.float32(1.5)})), planted.model)
    assert made.text is not None
    for key, rows in evaluate(parse(made.text), planted.model).items():
        assert (made.vectors[key] == rows).all()
