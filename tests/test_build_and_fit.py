"""Building embeddings on checkpoint files and measuring whether they fit others: every status, seen and right."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy
import pytest
import torch
from arrays import as_arrays, equal
from checkpoint_files import TABLE, save, sgm_tensors, write_layout
from memory_model import MemoryEncoder, MemoryModel, MemoryNames, copy_tables, random_model
from models import StandardModels, encoders, with_other_layers, with_rows_scaled, write_sdxl

from lib_embedmerge import Embedding, EmbedMergeError, load_embedding, open_checkpoint
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.embeddings.tag import UsedEmbedding
from lib_embedmerge.facade import CheckpointModel
from lib_embedmerge.lang.prompt_notes import find_prompt_notes
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes import fit
from lib_embedmerge.recipes.build import BuildOptions, build_embedding, build_split, list_split_names
from lib_embedmerge.recipes.listing import measure_fits
from lib_embedmerge.recipes.recovery.recover import recover
from lib_embedmerge.tokenizer.clip import ClipTokenizer

BASE = encoders()
DATE = datetime(2026, 11, 23, tzinfo=timezone.utc)
CAT, DOG = 2368, 1929


@pytest.fixture(scope="module")
def model(standard: StandardModels) -> CheckpointModel:
    return open_checkpoint(standard.base)


@pytest.fixture(scope="module")
def other_dog(standard: StandardModels) -> CheckpointModel:
    """A fine-tune that changed the token `dog` and nothing else."""
    return open_checkpoint(standard.other_dog)


def test_the_api_of_the_readme(model: CheckpointModel, tmp_path: Path) -> None:
    embedding = model.build("'cat'+'dog'*0.5", name="catdog")
    for key, table in ((key, BASE[key][TABLE].float()) for key in ("clip_l", "clip_g")):
        assert equal(embedding.vectors[key], (table[CAT] + table[DOG] * 0.5)[None])
    path = embedding.save(tmp_path / "embeddings")
    assert path == tmp_path / "embeddings" / "catdog.safetensors"
    loaded = load_embedding(path)
    assert loaded.recipe == "'cat'+'dog'*0.5"
    assert loaded.fit(model).status == "made for this model"


def test_a_prompt_is_built_as_it_reads(model: CheckpointModel) -> None:
    embedding = model.build("photo of a <'cat'+'dog'>", name="x")
    assert embedding.count == 4
    assert embedding.recipe == "photo of a <'cat'+'dog'>"
    assert embedding.warnings == ()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a (cat:1.2)", "attention"),
        ("((cat))", "attention"),
        ("[cat:dog:0.5]", "editing"),
        ("[cat|dog]", "editing"),
        ("cat <lora:x:1>", "LoRA"),
        ("cat BREAK dog", "BREAK"),
        ("a __animal__", "wildcards"),
        ("(<'a'+'b'>:1.2)", "attention"),
        ("[<'a'>:<'b'>:0.5]", "editing"),
        ('"cat"+"dog"', "straight single quotes"),
    ],
)
def test_what_has_no_effect_in_an_embedding_is_said(prompt: str, words: str) -> None:
    assert words in " ".join(find_prompt_notes(parse(prompt)))


@pytest.mark.parametrize("source", ["", "  ", "''", "'cat':0", "<'':0>"])
def test_nothing_is_not_built(model: CheckpointModel, source: str) -> None:
    with pytest.raises(EmbedMergeError, match="no vectors"):
        model.build(source, name="x")


def test_the_same_input_gives_the_same_file_but_for_the_date(model: CheckpointModel, tmp_path: Path) -> None:
    files = []
    for name, date in (("a", DATE), ("b", DATE), ("c", DATE.replace(year=2027))):
        wishes = BuildOptions(notes="for portraits", negative=True, date=date)
        files.append(build_embedding(model, "'cat'", "x", wishes).save(tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert files[0] == files[2].replace(b"2027-", b"2026-")
    assert files[0] != files[2]


def test_named_embeddings_and_where_they_are_recorded(model: CheckpointModel, tmp_path: Path) -> None:
    model.build("'cat'*2", name="strongcat").save(tmp_path)
    named = open_checkpoint(model.path, embeddings=tmp_path)
    embedding = named.build("'dog strongcat'", name="pair")
    table = BASE["clip_g"][TABLE].float()
    assert equal(embedding.vectors["clip_g"], torch.stack([table[DOG], table[CAT] * 2]))
    tag = embedding.tag
    assert tag is not None
    assert tag.uses["strongcat"].recipe == "'cat'*2"
    assert len(tag.uses["strongcat"].hash) == 64


class TestSplit:
    LONG = ", ".join(["a photo of a cat"] * 40)  # 40 * 6 - 1 tokens

    def test_too_long_says_how_many_and_what_to_do(self, model: CheckpointModel) -> None:
        with pytest.raises(EmbedMergeError, match="239 vectors") as caught:
            model.build(self.LONG, name="x")
        assert "4 embeddings" in (caught.value.hint or "")

    def test_pieces_end_at_commas_and_make_up_the_whole(self, model: CheckpointModel) -> None:
        pieces = build_split(model, self.LONG, "long")
        assert [piece.name for piece in pieces] == ["long-1", "long-2", "long-3", "long-4"]
        assert [piece.count for piece in pieces] == [72, 72, 72, 23]
        whole = evaluate(parse(self.LONG), model, limit=None)
        for key, vectors in whole.items():
            assert equal(numpy.concatenate([piece.vectors[key] for piece in pieces]), vectors)

    @pytest.mark.parametrize(
        "source",
        [
            LONG,
            f"<'cat'+'dog'>, {LONG} it's",
            f"'{LONG}'*0.5",
            "cat " * 80,
            pytest.param("cat, dog " * 2000, marks=pytest.mark.slow),
            "<'a'>" * 200,
            "it's a cat " * 100,
            "'',1836,85" + ",'cat'" * 100,
            "cat " * 73 + "<'a cat':5> dog",
        ],
        ids=lambda source: source[:20],
    )
    def test_the_recipe_of_a_piece_gives_the_piece(self, model: CheckpointModel, source: str) -> None:
        for piece in build_split(model, source, "long"):
            assert piece.recipe is not None
            again = evaluate(parse(piece.recipe), model)
            assert all(equal(again[key], piece.vectors[key]) for key in again)

    def test_an_expression_goes_as_a_whole_into_the_next_piece(self, model: CheckpointModel) -> None:
        pieces = build_split(model, "cat " * 73 + "<'a cat':5> dog", "long")
        assert [piece.count for piece in pieces] == [73, 6]

    def test_names_are_known_before_and_none_begins_another(self, model: CheckpointModel) -> None:
        source = "cat " * 800
        names = list_split_names(model, source, "long")
        assert names == [piece.name for piece in build_split(model, source, "long")]
        assert (names[0], names[-1]) == ("long-01", "long-11")

    def test_what_has_no_recipe_for_its_pieces_is_refused(self, model: CheckpointModel) -> None:
        with pytest.raises(EmbedMergeError, match="cannot be split"):
            build_split(model, "norm(" * 50 + "'" + "cat " * 80 + "'" + ")" * 50, "long")

    def test_recipes_keep_the_text_as_typed(self, model: CheckpointModel) -> None:
        source = ", ".join(["A  Photo of a CAT", "it's - red - <'cat'+'dog'>", "2 Dog"] * 12)
        pieces = build_split(model, source, "long")
        assert len(pieces) == 3
        assert "'A  Photo of a CAT, it''s - red -'" in (pieces[0].recipe or "")
        assert all("photo" not in (piece.recipe or "") for piece in pieces)
        assert " <'cat'" not in (pieces[0].recipe or "")

    def test_what_fits_is_not_split(self, model: CheckpointModel) -> None:
        (only,) = build_split(model, "'cat'", "short")
        assert (only.name, only.recipe) == ("short", "'cat'")


class TestFit:
    def test_made_for_this_model_in_every_layout(self, model: CheckpointModel, tmp_path: Path) -> None:
        embedding = model.build("'cat'", name="x")
        copy = open_checkpoint(write_layout("diffusers", tmp_path, BASE).path)
        found = embedding.fit(copy)
        assert found.status == FitStatus.MADE_FOR_THIS_MODEL
        assert found.layers_differ == ()

    def test_other_layers_are_said(self, model: CheckpointModel, tmp_path: Path) -> None:
        other = open_checkpoint(write_sdxl(tmp_path / "lora.safetensors", with_other_layers(BASE)))
        found = model.build("'cat'", name="x").fit(other)
        assert found.status == FitStatus.MADE_FOR_THIS_MODEL
        assert found.layers_differ == ("clip_l", "clip_g")
        assert "effect may differ" in found.detail

    def test_same_vectors_where_its_tokens_did_not_change(
        self, model: CheckpointModel, other_dog: CheckpointModel
    ) -> None:
        found = model.build("'cat'*0.7", name="x").fit(other_dog)
        assert found.status == FitStatus.SAME_VECTORS
        assert found.distances["clip_l"].relative_l2 == 0

    def test_same_vectors_within_float16(
        self, model: CheckpointModel, other_dog: CheckpointModel, tmp_path: Path
    ) -> None:
        path = model.build("'cat'*0.7+'a'", name="x").save(tmp_path, dtype="float16")
        found = load_embedding(path).fit(other_dog)
        assert found.status == FitStatus.SAME_VECTORS
        assert 0 < found.distances["clip_l"].relative_l2 < 1e-3

    def test_differs_by_the_planted_distance(self, model: CheckpointModel, other_dog: CheckpointModel) -> None:
        found = model.build("'dog'", name="x").fit(other_dog)
        assert found.status == FitStatus.DIFFERS
        for distance in found.distances.values():
            assert distance.relative_l2 == pytest.approx(0.5)  # stored 1, fresh 2: |2 - 1| / |2|
            assert distance.cosine == pytest.approx(1.0)

    def test_another_architecture(self, model: CheckpointModel, tmp_path: Path) -> None:
        sd1 = open_checkpoint(write_layout("sd1", tmp_path, BASE).path)
        assert model.build("'cat'", name="x").fit(sd1).status == FitStatus.OTHER_ARCHITECTURE

    def test_token_rows_without_a_tag_spell_their_text(self, model: CheckpointModel) -> None:
        vectors = model.build("photo of a cat", name="x").vectors
        found = Embedding("untagged", vectors).fit(model)
        assert (found.status, found.text, found.rows) == (FitStatus.FROM_ROWS, "'photo of a cat'", 4)

    def test_token_rows_that_no_text_has_are_spelled_by_id(self, model: CheckpointModel) -> None:
        found = Embedding("untagged", model.build("'',1836,85", name="x").vectors).fit(model)
        assert found.text == "'',1836,85"

    def test_token_rows_that_differ_by_encoder(self, model: CheckpointModel) -> None:
        made = model.build("L('cat')+G('dog')", name="x")
        found = Embedding("untagged", made.vectors).fit(model)
        assert found.text is not None
        again = model.build(found.text, name="x")
        assert all(equal(again.vectors[key], made.vectors[key]) for key in again.vectors)

    def test_rows_are_those_that_an_expression_can_name(self) -> None:
        clip_l, clip_g = random_model(600).encoders
        model = MemoryModel([MemoryEncoder("clip_l", clip_l.table[:500]), clip_g])
        for ids, status, rows in (([320, 499], FitStatus.FROM_ROWS, 2), ([320, 550], FitStatus.UNKNOWN_ORIGIN, 1)):
            vectors = {"clip_l": clip_l.vectors(ids), "clip_g": clip_g.vectors(ids)}
            found = fit.measure_fit(Embedding("x", as_arrays(vectors)), model)
            assert (found.status, found.rows) == (status, rows)

    def test_rows_beyond_the_vocabulary_are_named_by_id(self) -> None:
        tokenizer = ClipTokenizer()
        tokenizer.vocabulary_size = 580
        model = MemoryModel([MemoryEncoder(one.key, one.table, tokenizer) for one in random_model(600).encoders])
        embedding = Embedding("x", as_arrays({encoder.key: encoder.vectors([320, 590]) for encoder in model.encoders}))
        assert fit.measure_fit(embedding, model).text == recover(embedding, model).expression == "'a',590"

    def test_the_text_names_no_embedding(self) -> None:
        model = random_model(4000)
        trained = {"clip_l": numpy.ones((1, 768), "f4"), "clip_g": numpy.ones((1, 1280), "f4")}
        named = MemoryModel(model.encoders, MemoryNames({"cat": trained}))
        embedding = Embedding("x", as_arrays(evaluate(parse("'a cat'"), model)))
        found = fit.measure_fit(embedding, named)
        assert (found.status, found.text) == (FitStatus.FROM_ROWS, f"'a',{CAT}")
        assert found.text == recover(embedding, named).expression

    def test_tokens_with_one_row_in_one_encoder(self) -> None:
        tables = copy_tables(random_model(4000))
        tables["clip_l"][CAT], tables["clip_g"][DOG] = tables["clip_l"][3], tables["clip_g"][4]
        model = MemoryModel([MemoryEncoder(key, table) for key, table in tables.items()])
        embedding = Embedding("x", as_arrays(evaluate(parse("'a cat dog'"), model)))
        assert fit.measure_fit(embedding, model).text == recover(embedding, model).expression == "'a cat dog'"

    @pytest.mark.parametrize("source", ["G('red car')", "L('red car')"])
    def test_one_encoder_alone(self, source: str) -> None:
        model = random_model(4000)
        embedding = Embedding("x", as_arrays(evaluate(parse(source), model)))
        found = fit.measure_fit(embedding, model)
        assert (found.status, found.text, found.rows) == (FitStatus.FROM_ROWS, source, 2)
        assert found.text == recover(embedding, model).expression
        assert "are zero" in found.detail

    def test_zeros_are_no_rows(self) -> None:
        zeros = Embedding("x", {"clip_l": numpy.zeros((2, 768)), "clip_g": numpy.zeros((2, 1280))})
        found = fit.measure_fit(zeros, random_model(600))
        assert (found.status, found.rows, found.text) == (FitStatus.UNKNOWN_ORIGIN, 0, None)

    def test_rows_that_no_source_has_room_for(self) -> None:
        model = random_model(4000)
        ids = [1836] * 4050
        vectors = {encoder.key: encoder.vectors(ids) for encoder in model.encoders}
        found = fit.measure_fit(Embedding("x", as_arrays(vectors), path=Path("x.pt")), model)
        assert (found.status, found.rows, found.text) == (FitStatus.FROM_ROWS, 4050, None)

    def test_a_variant_is_current_for_its_model_and_recipe(
        self, model: CheckpointModel, other_dog: CheckpointModel
    ) -> None:
        base = model.build("'dog'", name="x").tag
        variant = other_dog.build("'dog'", name="x-other").tag
        assert base is not None
        assert variant is not None
        of_x = replace(variant, variant_of="x")
        uses = {"a": UsedEmbedding("0" * 64)}
        cases = [
            (of_x, base, other_dog, True),
            (of_x, base, model, False),
            (variant, base, other_dog, False),
            (replace(variant, variant_of="y"), base, other_dog, False),
            (of_x, replace(base, recipe="'cat'"), other_dog, False),
            (of_x, replace(base, uses=uses), other_dog, False),
            (replace(of_x, uses=uses), replace(base, uses=uses), other_dog, True),
        ]
        for one, of, on, expected in cases:
            assert fit.is_current_variant(one, "x", of, on) == expected

    def test_unknown_origin_counts_the_rows_it_knows(self, model: CheckpointModel) -> None:
        vectors = dict(model.build("cat dog", name="x").vectors)
        vectors["clip_g"][1] *= 1.1
        found = Embedding("untagged", vectors).fit(model)
        assert (found.status, found.rows, found.text) == (FitStatus.UNKNOWN_ORIGIN, 1, None)

    def test_a_recipe_that_cannot_run_is_told(self, model: CheckpointModel, other_dog: CheckpointModel) -> None:
        made = model.build("'cat'*2", name="x")
        broken = Embedding("x", made.vectors, {**made.metadata, "embedmerge.recipe": "'cat'*"})
        found = broken.fit(other_dog)
        assert found.status == FitStatus.UNKNOWN_ORIGIN
        assert "does not work on this model" in found.detail

    def test_names_in_a_recipe_outlive_their_files(
        self, model: CheckpointModel, other_dog: CheckpointModel, tmp_path: Path
    ) -> None:
        file = model.build("'dog'", name="onlydog").save(tmp_path)
        named = open_checkpoint(model.path, embeddings=tmp_path)
        middle = named.build("'onlydog'*3", name="middledog").save(tmp_path)
        embedding = open_checkpoint(model.path, embeddings=tmp_path).build("'a middledog'", name="x")
        file.unlink()
        middle.unlink()
        found = embedding.fit(other_dog)
        assert found.status == FitStatus.DIFFERS
        assert found.distances["clip_l"].relative_l2 == pytest.approx(0.5, abs=0.01)
        assert embedding.fit(model).status == FitStatus.MADE_FOR_THIS_MODEL

    def test_a_name_whose_recipe_is_not_known_cannot_be_made_again(
        self, model: CheckpointModel, other_dog: CheckpointModel, tmp_path: Path
    ) -> None:
        made = model.build("'dog'", name="secretdog")
        Embedding("secretdog", made.vectors).save(tmp_path)
        embedding = open_checkpoint(model.path, embeddings=tmp_path).build("'secretdog'", name="x")
        (tmp_path / "secretdog.safetensors").unlink()
        assert embedding.tag is not None
        assert embedding.tag.uses["secretdog"].recipe is None
        found = embedding.fit(other_dog)
        assert found.status == FitStatus.UNKNOWN_ORIGIN
        assert "secretdog, which is not here" in found.detail

    def test_another_file_of_that_name_does_not_pass_for_the_one_that_was_meant(
        self, model: CheckpointModel, other_dog: CheckpointModel, tmp_path: Path
    ) -> None:
        model.build("'cat'", name="onlycat").save(tmp_path)
        embedding = open_checkpoint(model.path, embeddings=tmp_path).build("'onlycat'*2", name="x")
        model.build("'dog'", name="onlycat").save(tmp_path, overwrite=True)
        found = embedding.fit(open_checkpoint(other_dog.path, embeddings=tmp_path))
        assert found.status == FitStatus.SAME_VECTORS

    def test_a_recipe_that_names_itself_is_run_on_the_old_one(
        self, model: CheckpointModel, other_dog: CheckpointModel, tmp_path: Path
    ) -> None:
        model.build("'cat'", name="onlycat").save(tmp_path)
        named = open_checkpoint(model.path, embeddings=tmp_path)
        named.build("'onlycat'*2", name="onlycat").save(tmp_path, overwrite=True)
        doubled = load_embedding(tmp_path / "onlycat.safetensors")
        assert doubled.fit(open_checkpoint(other_dog.path, embeddings=tmp_path)).status == FitStatus.SAME_VECTORS

    def test_hostile_uses_are_answered(self, model: CheckpointModel, other_dog: CheckpointModel) -> None:
        recipe = "'ema emb emc emd'"
        made = model.build("'cat'*1.1", name="x")
        uses: dict[str, object] = {f"em{letter}": {"hash": "0" * 64, "recipe": "'cat'"} for letter in "abcd"}
        for _ in range(4):
            uses = {f"em{letter}": {"hash": "0" * 64, "recipe": recipe, "uses": uses} for letter in "abcd"}
        tag = {**made.metadata, "embedmerge.recipe": recipe, "embedmerge.uses": json.dumps(uses)}
        found = Embedding("x", made.vectors, tag).fit(other_dog)
        assert found.status == FitStatus.UNKNOWN_ORIGIN
        assert "does not work on this model" in found.detail
        assert "uses too many embeddings" in found.detail

    def test_tiny_vectors_within_float16(
        self, model: CheckpointModel, other_dog: CheckpointModel, tmp_path: Path
    ) -> None:
        path = model.build("'cat'*0.0001", name="x").save(tmp_path, dtype="float16")
        assert load_embedding(path).fit(other_dog).status == FitStatus.SAME_VECTORS

    def test_a_recipe_of_nothing_and_broken_vectors_are_said(
        self, model: CheckpointModel, other_dog: CheckpointModel
    ) -> None:
        made = model.build("'cat'", name="x")
        empty = Embedding("x", made.vectors, {**made.metadata, "embedmerge.recipe": "'cat':0"})
        assert "no vectors" in empty.fit(other_dog).detail
        broken = Embedding("x", {key: rows * torch.nan for key, rows in made.vectors.items()}, made.metadata)
        assert "not finite" in broken.fit(other_dog).detail

    def test_fit_as_json_is_plain(self, model: CheckpointModel) -> None:
        found = model.build("'cat'", name="x").fit(model).as_json()
        assert found["status"] == "made for this model"
        assert found["layers_differ"] == []
        assert found["advice"]


@pytest.mark.parametrize(
    ("layout", "tensors"), [("sd1", ["emb_params"]), ("sd2", ["emb_params"]), ("refiner", ["clip_g"])]
)
def test_models_with_one_text_encoder(layout: str, tensors: list[str], tmp_path: Path) -> None:
    from safetensors import safe_open

    model = open_checkpoint(write_layout(layout, tmp_path, BASE).path)
    path = model.build("'cat'+'dog'", name="x").save(tmp_path)
    with safe_open(path, "pt") as file:
        assert list(file.keys()) == tensors
    assert load_embedding(path).fit(model).status == FitStatus.MADE_FOR_THIS_MODEL


@pytest.mark.parametrize("same_tables", [True, False])
def test_another_prediction_type_is_said(tmp_path: Path, same_tables: bool) -> None:
    made = open_checkpoint(write_sdxl(tmp_path / "eps.safetensors", BASE)).build("'cat'+'dog'", name="x1")
    tensors = sgm_tensors(BASE if same_tables else with_rows_scaled(BASE, [2368]))
    other = open_checkpoint(save(tmp_path / "vpred.safetensors", {**tensors, "v_pred": torch.zeros(0)}))
    found = made.fit(other)
    assert found.status == (FitStatus.MADE_FOR_THIS_MODEL if same_tables else FitStatus.DIFFERS)
    assert "This model uses v prediction," in found.detail
    (listed,) = measure_fits([made.save(tmp_path)], other)
    assert listed.fit == found


def test_the_same_prediction_type_is_not_worth_a_word(tmp_path: Path) -> None:
    model = open_checkpoint(write_sdxl(tmp_path / "eps.safetensors", BASE))
    assert "U-Net" not in model.build("'cat'", name="x1").fit(model).detail


def test_one_vector_is_one(model: CheckpointModel) -> None:
    vectors = {key: numpy.sin(rows) * 3 + 1 for key, rows in model.build("'cat'", name="x").vectors.items()}
    detail = Embedding("one1", vectors).fit(model).detail
    assert detail.endswith("Of its 1 vector, this model's token tables contain 0.")
