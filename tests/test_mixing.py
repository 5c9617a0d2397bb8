"""Embeddings that a source names and that were made for another model: said, followed, and kept in the tag."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from arrays import equal
from memory_model import MemoryEncoder, MemoryModel, random_model

from lib_embedmerge.actions.answering import read_typed_text
from lib_embedmerge.actions.saving import save
from lib_embedmerge.actions.saving_values import SaveRequest
from lib_embedmerge.actions.values import ReadingOptions
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.evaluate import Vectors
from lib_embedmerge.core.inline import ExpressionReplacer
from lib_embedmerge.embeddings import tag_keys
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.tag import UsedEmbedding, read_tag
from lib_embedmerge.hosts.foreign_embedding_log import ForeignEmbeddingLog
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.recipes.build import BuildOptions, build_embedding, build_split, list_split_names
from lib_embedmerge.recipes.following import FollowingNames
from lib_embedmerge.recipes.run import run_recipe
from lib_embedmerge.tokenizer import clip_tokenizer

A = random_model(4000, seed=1)
B = random_model(4000, seed=2)
C = random_model(4000, seed=3)


def on(model: MemoryModel, folder: Path) -> MemoryModel:
    return replace(model, embeddings=EmbeddingFolder(folder, clip_tokenizer()))


def rows(model: MemoryModel, text: str) -> Vectors:
    ids = clip_tokenizer().encode(text)
    return {encoder.key: encoder.vectors(ids) for encoder in model.encoders}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`catdog1` made from text on A, `alike1` whose rows are B's too, `bare1` for A without a recipe."""
    made = build_embedding(on(A, tmp_path), "'cat'+'dog'", "catdog1")
    made.save(tmp_path)
    metadata = {key: value for key, value in made.metadata.items() if key != tag_keys.RECIPE}
    Embedding("bare1", made.vectors, metadata).save(tmp_path)
    build_embedding(on(B, tmp_path), "'cat'", "own1").save(tmp_path)
    return tmp_path


def used(embedding: Embedding, name: str) -> UsedEmbedding:
    assert embedding.tag is not None
    return embedding.tag.uses[name]


def test_a_mix_of_models_is_said(folder: Path) -> None:
    made = build_embedding(on(B, folder), "'catdog1'+'sky'", "x1")
    (note,) = made.warnings
    assert note.startswith(
        "'catdog1' was made for memory, not memory. Its recipe gives different vectors on this model."
    )
    assert "Use its recipe or rebuild it" in note
    assert used(made, "catdog1").made_for == "memory"
    assert not used(made, "catdog1").follows


def test_without_a_recipe(folder: Path) -> None:
    (note,) = build_embedding(on(B, folder), "a bare1", "x1").warnings
    assert "It has no recipe, so it cannot be made for this model" in note


@pytest.mark.parametrize(("model", "source"), [(A, "'catdog1'+'sky'"), (B, "'own1'*2"), (B, "'sky'")])
def test_nothing_is_said_where_nothing_is_mixed(folder: Path, model: MemoryModel, source: str) -> None:
    made = build_embedding(on(model, folder), source, "x1")
    assert made.warnings == ()
    assert all(one.made_for is None for one in (made.tag.uses if made.tag else {}).values())


def test_equal_vectors_are_no_mix(folder: Path) -> None:
    ids = clip_tokenizer().encode("cat dog")
    encoders = []
    for ours, theirs in zip(A.encoders, B.encoders, strict=True):
        table = to_numpy(theirs.table).copy()
        table[ids] = ours.table[ids]
        encoders.append(MemoryEncoder(ours.key, table))
    assert build_embedding(on(MemoryModel(encoders), folder), "'catdog1'+'sky'", "x1").warnings == ()


class TestFollowing:
    def test_the_recipe_gives_the_vectors(self, folder: Path) -> None:
        model = on(B, folder)
        made = build_embedding(model, "'catdog1'+'sky'", "x1", BuildOptions(names=FollowingNames(model, quiet=True)))
        for key, expected in rows(B, "cat").items():
            assert equal(made.vectors[key], expected + rows(B, "dog")[key] + rows(B, "sky")[key])
        assert made.warnings == ("The recipe of 'catdog1' was used on memory, not its saved vectors.",)

    def test_the_tag_keeps_the_choice(self, folder: Path) -> None:
        model = on(B, folder)
        made = build_embedding(model, "'catdog1'+'sky'", "x1", BuildOptions(names=FollowingNames(model, quiet=True)))
        found = used(made, "catdog1")
        assert (found.follows, found.made_for, found.recipe, found.count) == (True, None, "'cat'+'dog'", 1)
        assert json.loads(made.metadata[tag_keys.USES])["catdog1"]["follows"] is True

    def test_the_recipe_goes_on_to_follow(self, folder: Path) -> None:
        """On the model that it was made on, and on a third one."""
        model = on(B, folder)
        made = build_embedding(model, "'catdog1'+'sky'", "x1", BuildOptions(names=FollowingNames(model, quiet=True)))
        assert made.tag is not None
        for other in (B, C):
            fresh = run_recipe(made.recipe or "", made.tag.uses, on(other, folder))
            for key, expected in rows(other, "cat").items():
                assert equal(fresh[key], expected + rows(other, "dog")[key] + rows(other, "sky")[key])

    def test_kept_vectors_stay_those_of_the_file(self, folder: Path) -> None:
        made = build_embedding(on(B, folder), "'catdog1'+'sky'", "x1")
        assert made.tag is not None
        fresh = run_recipe(made.recipe or "", made.tag.uses, on(B, folder))
        assert all(equal(fresh[key], made.vectors[key]) for key in fresh)

    def test_split(self, folder: Path) -> None:
        model = on(B, folder)
        names = FollowingNames(model, quiet=True)
        source = "cat " * 80 + "catdog1"
        made = build_split(model, source, "x", BuildOptions(names=names))
        assert [one.name for one in made] == list_split_names(model, source, "x", names) == ["x-1", "x-2"]
        assert used(made[1], "catdog1").follows


class TestFaces:
    def test_the_tab_says_it_while_typing(self, folder: Path) -> None:
        host = MemoryHost(B, folder)
        assert any("was made for" in note for note in read_typed_text(host, "a catdog1").warnings)
        assert read_typed_text(host, "a catdog1", reading=ReadingOptions(follow=True)).warnings == ()
        assert read_typed_text(host, "a own1").warnings == ()

    def test_saving_says_it(self, folder: Path) -> None:
        host = MemoryHost(B, folder)
        assert any("was made for" in warning for warning in save(host, SaveRequest("'catdog1'*2", "x1")).warnings)
        saved = save(host, SaveRequest("'catdog1'*2", "x2", follow=True))
        assert any("not its saved vectors" in warning for warning in saved.warnings)
        found = load_embedding(saved.files[0].path)
        assert equal(found.vectors["clip_l"], (rows(B, "cat")["clip_l"] + rows(B, "dog")["clip_l"]) * 2)


def test_uses_of_other_programs_are_read_with_care() -> None:
    uses = {"x": {"hash": "0" * 64, "made_for": 3, "follows": "yes"}}
    tag = read_tag({tag_keys.USES: json.dumps(uses), tag_keys.SCHEMA: "1"})
    assert tag is not None
    assert (tag.uses["x"].made_for, tag.uses["x"].follows) == (None, False)


def log(foreign: ForeignEmbeddingLog, model: MemoryModel, *prompts: str) -> None:
    """Replace the expressions of prompts, and log the embeddings that they name."""
    _, temporaries = ExpressionReplacer().replace(prompts, model, lambda _, __: None)
    foreign.log((embedding for temporary in temporaries.values() for embedding in temporary.uses), model)


class TestPrompts:
    def test_the_console_says_it_once_for_each_model(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        mixes = ForeignEmbeddingLog()
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                log(mixes, on(B, folder), "a <'catdog1'*2>", "a <'catdog1'+'dog'>, catdog1", "catdog1")
        (record,) = caplog.records
        assert record.message.startswith("EmbedMerge: 'catdog1' was made for memory, not memory.")

    @pytest.mark.parametrize("prompt", ["a <'cat'>", "catdog1", "a <'own1'>", "<'catdog1'"])
    def test_nothing_else_is_said(self, folder: Path, caplog: pytest.LogCaptureFixture, prompt: str) -> None:
        log(ForeignEmbeddingLog(), on(B, folder), prompt)
        assert not caplog.records

    def test_nothing_is_said_where_recipes_follow_the_model(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = on(B, folder)
        log(ForeignEmbeddingLog(), replace(model, embeddings=FollowingNames(model, quiet=True)), "a <'catdog1'>")
        assert not caplog.records
