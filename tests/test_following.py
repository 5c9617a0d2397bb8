"""Recipes that follow the model: what a name stands for on each model, and when anything is computed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from arrays import as_tensor, equal
from memory_model import MemoryModel, random_model

from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.ports import EmbeddingNames
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import StorageError
from lib_embedmerge.hosts.memory_host import MemoryEncoder
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes import following
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.following import FollowingNames
from lib_embedmerge.recipes.rebuild import rebuild
from lib_embedmerge.recipes.variant_writing import WRITTEN
from lib_embedmerge.tokenizer import clip_tokenizer

BASE = random_model(seed=1)
OTHER = random_model(seed=2)


@pytest.fixture
def folder(tmp_path: Path) -> EmbeddingFolder:
    """Embeddings made on BASE: with a recipe, one that names the first, without any, of one encoder, and broken."""
    build_embedding(BASE, "'cat'+'dog'", "mix1").save(tmp_path)
    names = EmbeddingFolder(tmp_path, clip_tokenizer())
    build_embedding(replace(BASE, embeddings=names), "'mix1','x'", "outer1").save(tmp_path)
    vectors = {"clip_l": numpy.ones((1, 768)), "clip_g": numpy.ones((1, 1280))}
    Embedding("plain1", vectors).save(tmp_path)
    Embedding("small1", {"clip_l": numpy.ones((1, 768))}, {"embedmerge.recipe": "'cat'"}).save(tmp_path)
    Embedding("broken1", vectors, {"embedmerge.recipe": "'cat"}).save(tmp_path)
    return EmbeddingFolder(tmp_path, clip_tokenizer())


def names_on(model: MemoryModel, folder: EmbeddingFolder) -> FollowingNames:
    return FollowingNames(replace(model, embeddings=folder))


def same(one: Any, source: str, model: MemoryModel) -> bool:
    assert one.follows_recipe
    expected = evaluate(parse(source), model)
    return all(equal(rows, expected[key]) for key, rows in one.vectors.items())


def test_on_another_model_it_is_what_the_recipe_gives(folder: EmbeddingFolder) -> None:
    names: EmbeddingNames = names_on(OTHER, folder)
    assert same(names.load("mix1"), "'cat'+'dog'", OTHER)
    outer = names.load("outer1")
    assert outer.follows_recipe
    for key, rows in evaluate(parse("'x'"), OTHER).items():  # what it names is the file that it was made with
        assert equal(outer.vectors[key], torch.cat([as_tensor(folder.load("mix1").vectors[key]), as_tensor(rows)]))
    assert names.find(clip_tokenizer().encode("a mix1"), 1) == ("mix1", 2)


def test_on_its_own_model_it_is_the_file(folder: EmbeddingFolder) -> None:
    names = names_on(BASE, folder)
    for name in folder.names():
        assert names.load(name) is folder.load(name)
    assert names.find_followed("mix1 outer1 plain1") == []


@pytest.mark.parametrize("name", ["plain1", "small1", "broken1"])
def test_without_a_recipe_that_works_there_it_is_the_file(folder: EmbeddingFolder, name: str) -> None:
    assert names_on(OTHER, folder).load(name) is folder.load(name)


def test_a_variant_for_the_model_is_found_under_the_base_name(folder: EmbeddingFolder) -> None:
    other = replace(OTHER, embeddings=folder)
    (made,) = rebuild([folder.path("mix1")], other)
    assert made.status == WRITTEN
    assert made.file is not None
    vectors = {key: rows + 1 for key, rows in load_embedding(made.file).vectors.items()}  # known from the recipe's
    replace(load_embedding(made.file), vectors=vectors).save(folder.folder, overwrite=True)
    folder.refresh()
    followed = names_on(OTHER, folder).load("mix1")
    assert followed.follows_recipe
    assert followed.name == "mix1"
    assert all(equal(rows, vectors[key]) for key, rows in followed.vectors.items())
    names = names_on(random_model(seed=3), folder)  # of the same title, but no model that it was made for
    assert same(names.load("mix1"), "'cat'+'dog'", random_model(seed=3))
    build_embedding(BASE, "'bird'", "mix1").save(folder.folder, overwrite=True)  # another recipe than the variant's
    assert same(names_on(OTHER, folder).load("mix1"), "'bird'", OTHER)


def test_a_variant_of_the_same_recipe_made_with_another_embedding_is_none(folder: EmbeddingFolder) -> None:
    other = replace(OTHER, embeddings=folder)
    (made,) = rebuild([folder.path("outer1")], other)
    assert made.file is not None
    variant = load_embedding(made.file)
    vectors = {key: rows + 1 for key, rows in variant.vectors.items()}  # known from the recipe's
    replace(variant, vectors=vectors).save(folder.folder, overwrite=True)
    folder.refresh()
    followed = names_on(OTHER, folder).load("outer1")
    assert all(equal(rows, vectors[key]) for key, rows in followed.vectors.items())
    build_embedding(BASE, "'bird'", "mix1").save(folder.folder, overwrite=True)
    folder.refresh()
    build_embedding(replace(BASE, embeddings=folder), "'mix1','x'", "outer1").save(folder.folder, overwrite=True)
    folder.refresh()
    assert same(names_on(OTHER, folder).load("outer1"), "'mix1','x'", other)


def test_an_embedding_inside_a_recipe_comes_back(folder: EmbeddingFolder, caplog: pytest.LogCaptureFixture) -> None:
    plain = Embedding("plain2", {"clip_l": numpy.ones((2, 768)), "clip_g": numpy.ones((2, 1280))}).save(folder.folder)
    folder.refresh()
    build_embedding(replace(BASE, embeddings=folder), "'plain2','x'", "outer2").save(folder.folder)
    away = plain.with_suffix(".away")
    plain.rename(away)
    folder.refresh()
    names = names_on(OTHER, folder)
    assert names.load("outer2") is folder.load("outer2")
    folder.refresh()
    assert names.load("outer2") is folder.load("outer2")
    assert len(caplog.messages) == 1  # the same is not said again
    away.rename(plain)
    folder.refresh()
    assert same(names.load("outer2"), "'plain2','x'", replace(OTHER, embeddings=folder))
    plain.unlink()
    folder.refresh()
    assert names.load("outer2") is folder.load("outer2")
    assert len(caplog.messages) == 3


def test_a_file_that_is_gone(folder: EmbeddingFolder) -> None:
    names = names_on(OTHER, folder)
    folder.path("mix1").unlink()
    with pytest.raises(StorageError):
        names.load("mix1")
    assert names.find_followed("a mix1") == []


def test_what_a_prompt_names(folder: EmbeddingFolder) -> None:
    names = names_on(OTHER, folder)
    found = names.find_followed("a (MIX1:1.2), mix1 [plain1:outer1:0.5] mixed")
    assert [one.name for one in found] == ["mix1", "outer1"]
    assert names.find_followed("a cat") == []


def test_nothing_is_computed_twice(folder: EmbeddingFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    names = names_on(OTHER, folder)
    first = names.load("mix1")
    monkeypatch.setattr(following, "run_recipe", None)
    assert names.load("mix1") is first
    assert names.find_followed("mix1") == [first]
    assert names.state is folder.state


def test_another_file_of_that_name(folder: EmbeddingFolder) -> None:
    names = names_on(OTHER, folder)
    assert same(names.load("mix1"), "'cat'+'dog'", OTHER)
    build_embedding(BASE, "'bird'*2", "mix1").save(folder.folder, overwrite=True)
    folder.refresh()
    assert same(names.load("mix1"), "'bird'*2", OTHER)


def test_it_is_said_once(folder: EmbeddingFolder, caplog: pytest.LogCaptureFixture) -> None:
    names = names_on(OTHER, folder)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            names.find_followed("mix1 broken1 plain1")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0] == "EmbedMerge: The recipe of mix1 is used on memory, not the saved vectors."
    why = "because its recipe does not work on this model: "
    assert said[1].startswith(f"EmbedMerge: 'broken1' is used as saved, {why}")


def test_on_a_refiner(folder: EmbeddingFolder) -> None:
    encoder = next(one for one in OTHER.encoders if one.key == "clip_g")
    assert isinstance(encoder, MemoryEncoder)
    found = names_on(MemoryModel([encoder]), folder).load("mix1")
    assert found.follows_recipe
    assert equal(found.vectors["clip_g"], evaluate(parse("'cat'+'dog'"), OTHER)["clip_g"])
