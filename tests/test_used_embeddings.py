"""Embeddings that recipes name: found by their vectors whatever their files are called, and no others than these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from arrays import as_arrays, as_tensors, equal
from memory_model import MemoryModel, MemoryNames, random_model

from lib_embedmerge.core.arrays import Array
from lib_embedmerge.core.evaluate import Vectors, evaluate, make_text_readers
from lib_embedmerge.core.ports import EmbeddingNames
from lib_embedmerge.embeddings import by_vectors, editing
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors, load_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.tag import ModelTag, UsedEmbedding, read_tag
from lib_embedmerge.errors import EmbedMergeError, StorageError
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.build import build_embedding, find_used_embeddings, record_used_embedding
from lib_embedmerge.recipes.rebuild import rebuild
from lib_embedmerge.recipes.run import RecipeRunner, run_recipe
from lib_embedmerge.recipes.variant_writing import WRITTEN
from lib_embedmerge.tokenizer import clip_tokenizer

BASE = random_model(4000, seed=1)
OTHER = random_model(4000, seed=2)


def trained(count: int = 2, seed: int = 0) -> dict[str, numpy.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    widths = {"clip_l": 768, "clip_g": 1280}
    return as_arrays({key: torch.randn(count, width, generator=generator) for key, width in widths.items()})


def library(folder: Path) -> EmbeddingFolder:
    return EmbeddingFolder(folder, clip_tokenizer())


def on(model: MemoryModel, names: EmbeddingNames | Path) -> MemoryModel:
    return replace(model, embeddings=library(names) if isinstance(names, Path) else names)


def tag_of(embedding: Embedding) -> ModelTag:
    assert embedding.tag is not None
    return embedding.tag


def run(tag: ModelTag, model: MemoryModel) -> Vectors:
    assert tag.recipe is not None
    return run_recipe(tag.recipe, tag.uses, model)


def same(found: Vectors | EmbedMergeError | None, expected: Mapping[str, Array]) -> bool:
    assert isinstance(found, dict), found
    return all(equal(found[key], rows) for key, rows in expected.items())


@pytest.fixture
def down1(tmp_path: Path) -> Path:
    """A downloaded embedding without a tag."""
    return Embedding("down1", trained()).save(tmp_path)


@pytest.fixture
def outer1(down1: Path) -> ModelTag:
    return tag_of(build_embedding(on(BASE, down1.parent), "'down1'+'cat'", "outer1"))


def with_cat(model: MemoryModel) -> Vectors:
    """What outer1 is on a model."""
    cat = evaluate(parse("'cat':2"), model)
    return {key: rows + cat[key] for key, rows in trained().items()}


def noted(path: Path) -> None:
    editing.edit_notes(path, "soft")


def renamed(path: Path) -> None:
    editing.rename_embedding(path, "style2")


def moved(path: Path) -> None:
    (path.parent / "sub").mkdir()
    path.rename(path.parent / "sub" / "style2.safetensors")


def taken(path: Path) -> None:
    """Another embedding has its name."""
    renamed(path)
    Embedding("down1", trained(seed=1)).save(path.parent)


def converted(path: Path) -> None:
    vectors = as_tensors(load_embedding(path).vectors)
    path.unlink()
    torch.save(vectors, path.with_name("old2.pt"))


def damaged(path: Path) -> None:
    """The file of its name cannot be read, and beside it lie others that cannot."""
    renamed(path)
    path.write_bytes(b"nothing")
    path.with_name("bad3.pt").write_bytes(b"nothing")


@pytest.mark.parametrize("change", [noted, renamed, moved, taken, converted, damaged])
def test_it_is_the_one_that_was_meant(down1: Path, outer1: ModelTag, change: Callable[[Path], None]) -> None:
    change(down1)
    assert same(run(outer1, on(OTHER, down1.parent)), with_cat(OTHER))


@pytest.mark.parametrize("change", [renamed, moved, taken])
def test_a_hash_of_the_whole_file_as_older_tags_have_it(
    down1: Path, outer1: ModelTag, change: Callable[[Path], None]
) -> None:
    old = UsedEmbedding(hashlib.sha256(down1.read_bytes()).hexdigest())
    tag = replace(outer1, uses={"down1": old})
    assert same(run(tag, on(OTHER, down1.parent)), with_cat(OTHER))
    change(down1)
    assert same(run(tag, on(OTHER, down1.parent)), with_cat(OTHER))


def test_a_variant_is_made_with_an_embedding_of_another_name(down1: Path, tmp_path: Path) -> None:
    outer = build_embedding(on(BASE, tmp_path), "'down1'+'cat'", "outer1").save(tmp_path)
    editing.rename_embedding(down1, "style2")
    (one,) = rebuild([outer], on(OTHER, tmp_path))
    assert (one.status, one.reason) == (WRITTEN, None)
    assert one.file is not None
    assert same(dict(load_embedding(one.file).vectors), with_cat(OTHER))


def test_inside_the_recipe_of_one_that_is_gone(down1: Path, tmp_path: Path) -> None:
    middle = build_embedding(on(BASE, tmp_path), "'down1'+'cat'", "middle1").save(tmp_path)
    outer = tag_of(build_embedding(on(BASE, tmp_path), "'middle1'*2", "outer1"))
    middle.unlink()
    editing.rename_embedding(down1, "style2")
    assert same(run(outer, on(OTHER, tmp_path)), {key: rows * 2 for key, rows in with_cat(OTHER).items()})


@pytest.mark.parametrize("kind", ["gone", "another"])
def test_what_is_nowhere_is_told(down1: Path, outer1: ModelTag, kind: str) -> None:
    down1.unlink()
    if kind == "another":
        Embedding("down1", trained(seed=1)).save(down1.parent)
    with pytest.raises(EmbedMergeError) as caught:
        run(outer1, on(OTHER, down1.parent))
    gone = " down1, which is not here, and its own recipe is unknown."
    changed = "down1 is not the embedding that the recipe used, and the recipe of that one is unknown."
    assert caught.value.message.endswith(gone if kind == "gone" else changed)


def test_a_file_that_has_changed_since_the_folder_was_looked_through(down1: Path, outer1: ModelTag) -> None:
    renamed(down1)
    names = library(down1.parent)
    assert same(run(outer1, on(OTHER, names)), with_cat(OTHER))
    Embedding("style2", trained(seed=1)).save(down1.parent, overwrite=True)
    with pytest.raises(EmbedMergeError):
        run(outer1, on(OTHER, names))
    names.path("style2").unlink()
    with pytest.raises(EmbedMergeError):
        run(outer1, on(OTHER, names))


def test_files_that_cannot_be_read_are_passed_over(
    down1: Path, outer1: ModelTag, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed(down1)
    gone, broken = (Embedding(name, trained(seed=1)).save(down1.parent) for name in ("gone1", "broken1"))
    names = library(down1.parent)
    assert gone in names.files()
    gone.unlink()
    load = by_vectors.load_embedding

    def failing(path: Path) -> Embedding:
        if path == broken:
            raise StorageError("It is damaged.")
        return load(path)

    monkeypatch.setattr(by_vectors, "load_embedding", failing)
    assert same(run(outer1, on(OTHER, names)), with_cat(OTHER))
    unread = Embedding("gone1", trained(seed=1), path=gone)
    assert not by_vectors.is_used_embedding(unread, UsedEmbedding("0" * 64))


class TestCost:
    @pytest.fixture
    def hashed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The files whose vectors are hashed in looking for others, as it goes on."""
        names: list[str] = []
        load = by_vectors.load_embedding

        def counted(path: Path) -> Embedding:
            names.append(path.name)
            return load(path)

        monkeypatch.setattr(by_vectors, "load_embedding", counted)
        return names

    def test_nothing_is_looked_through_where_the_name_is_right(
        self, down1: Path, outer1: ModelTag, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(EmbeddingFolder, "with_vectors", None)
        assert same(run(outer1, on(OTHER, down1.parent)), with_cat(OTHER))

    def test_each_file_of_its_size_is_hashed_once(self, down1: Path, outer1: ModelTag, hashed: list[str]) -> None:
        folder = down1.parent
        renamed(down1)
        Embedding("long1", trained(3)).save(folder)
        Embedding("sd1", {"clip_l": numpy.ones((2, 768))}).save(folder)
        names = library(folder)
        for _ in range(2):
            run(outer1, on(OTHER, names))
        assert hashed == ["style2.safetensors"]
        Embedding("apple1", trained(seed=1)).save(folder)
        names.refresh()
        run(outer1, on(OTHER, names))
        assert hashed == ["style2.safetensors", "apple1.safetensors"]
        Embedding("apple1", trained(seed=2)).save(folder, overwrite=True)
        names.refresh()
        run(outer1, on(OTHER, names))
        assert hashed[2:] == ["apple1.safetensors"]

    def test_files_without_a_header_are_read_last(self, down1: Path, outer1: ModelTag, hashed: list[str]) -> None:
        renamed(down1)
        torch.save({"emb_params": torch.ones(1, 768)}, down1.with_name("a1.pt"))
        run(outer1, on(OTHER, down1.parent))
        assert hashed == ["style2.safetensors"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_hash_is_that_of_the_vectors_in_every_format(tmp_path: Path, dtype: str) -> None:
    path = Embedding("x", trained()).save(tmp_path, dtype=dtype)
    read = load_embedding(path)
    torch.save(as_tensors(read.vectors), tmp_path / "y.pt")
    found = {hash_vectors(load_embedding(one).vectors) for one in (path, path, tmp_path / "y.pt")}
    assert found == {hash_vectors(read.vectors)}
    assert (found == {hash_vectors(trained())}) == (dtype == "float32")
    if dtype == "float32":
        assert read.metadata["modelspec.hash_sha256"] == f"0x{found.pop()}"


def test_vectors_that_are_no_numbers_have_a_hash_too() -> None:
    broken = {key: rows * numpy.nan for key, rows in trained().items()}
    path = Path("broken1.pt")
    first, second = (record_used_embedding(Embedding("broken1", broken, path=path)) for _ in range(2))
    assert first.hash == second.hash


@pytest.mark.parametrize("source", ["'a cat'", "a cat", "'a'+'cat'*0.5", "'a','cat'*2"])
def test_an_embedding_saved_later_under_the_name_of_a_word(tmp_path: Path, source: str) -> None:
    made = build_embedding(BASE, source, "older1").save(tmp_path)
    Embedding("cat", trained()).save(tmp_path)
    tag = tag_of(load_embedding(made))
    expected = evaluate(parse(source), OTHER)
    model = on(OTHER, tmp_path)
    assert same(run(tag, model), expected)
    assert same(RecipeRunner(model, [tag]).vectors(tag), expected)
    (one,) = rebuild([made], model)
    assert one.file is not None
    assert same(dict(load_embedding(one.file).vectors), expected)


def test_beside_embeddings_that_a_recipe_names_words_stay_words(down1: Path, tmp_path: Path) -> None:
    tag = tag_of(build_embedding(on(BASE, tmp_path), "'down1 cat'", "outer1"))
    Embedding("cat", trained(seed=3)).save(tmp_path)
    Embedding("down1 cat", trained(seed=4)).save(tmp_path)
    cat = evaluate(parse("'cat'"), OTHER)
    expected = {key: numpy.concatenate([rows, cat[key]]) for key, rows in trained().items()}
    assert same(run(tag, on(OTHER, tmp_path)), expected)


def test_the_longest_of_the_names_is_found(tmp_path: Path) -> None:
    for seed, name in enumerate(("style", "style one", "one")):
        Embedding(name, trained(1, seed)).save(tmp_path)
    source = "'a style one, style, one'"
    tag = tag_of(build_embedding(on(BASE, tmp_path), source, "outer1"))
    assert set(tag.uses) == {"style", "style one", "one"}
    assert same(run(tag, on(OTHER, tmp_path)), evaluate(parse(source), on(OTHER, tmp_path)))


@pytest.mark.parametrize(
    "source",
    ["'down1'", "a down1 <'cat'+'down1'>", "mean('cat','down1')", "'cat','down1'*2", "('x'+norm('DOWN1'))*2"],
)
def test_every_embedding_that_a_source_names_is_recorded(down1: Path, source: str) -> None:
    tag = tag_of(build_embedding(on(BASE, down1.parent), source, "outer1"))
    assert tag.uses == {"down1": UsedEmbedding(hash_vectors(trained()), count=2)}


def test_embeddings_without_files_are_recorded_too() -> None:
    model = on(BASE, MemoryNames({"temp1": trained()}))
    used = find_used_embeddings(parse("'temp1'"), make_text_readers(model))
    assert used == {"temp1": UsedEmbedding(hash_vectors(trained()), count=2)}
    assert same(run_recipe("'temp1'", used, on(OTHER, model.embeddings)), trained())


def test_uses_nested_too_deep_are_not_taken_for_words() -> None:
    uses: dict[str, object] = {}
    for _ in range(20):
        uses = {"cat": {"hash": "0" * 64, "recipe": "'cat'", "uses": uses}}
    tag = read_tag({"embedmerge.recipe": "'cat'", "embedmerge.uses": json.dumps(uses)})
    assert tag is not None
    with pytest.raises(EmbedMergeError, match="and its own recipe is unknown"):
        run(tag, OTHER)
