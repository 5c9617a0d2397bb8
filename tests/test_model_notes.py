"""Notes by model: what is read, changed and kept of them in a file, and that they follow the embedding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from action_hosts import ROWS, NoModelHost, write
from hypothesis import given
from hypothesis import strategies as st
from memory_model import random_model

from lib_embedmerge.actions.json_answers import embedding_as_json, listing_as_json
from lib_embedmerge.actions.managing import LibraryLister
from lib_embedmerge.actions.rating import rate, read_note, save_model_note
from lib_embedmerge.actions.saving import save
from lib_embedmerge.actions.saving_values import SaveRequest
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.embeddings.editing import edit_model_note, edit_notes
from lib_embedmerge.embeddings.embedding import load_embedding, read_embedding_header
from lib_embedmerge.embeddings.model_notes import (
    ModelNote,
    change_model_note,
    find_model_note,
    name_model,
    read_model_notes,
)
from lib_embedmerge.embeddings.tag_keys import NOTES_BY_MODEL
from lib_embedmerge.errors import EmbedMergeError, HostError, StorageError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.rebuild import rebuild

MODEL, OTHER = random_model(ROWS, seed=1), random_model(ROWS, seed=2)
PONY = replace(MODEL.facts, title="Pony", file_name="pony.v6.safetensors", sha256="a" * 64)


def stored(path: Path) -> dict[str, Any]:
    return dict(json.loads(read_embedding_header(path).metadata.get(NOTES_BY_MODEL, "{}")))


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("pony.v6.safetensors", "pony.v6"),
        ("a.ckpt", "a"),
        ("noob.v1", "noob.v1"),
        ("", "Pony"),
        (".safetensors", ".safetensors"),
    ],
)
def test_a_model_is_called_after_its_file(file_name: str, name: str) -> None:
    assert name_model(replace(PONY, file_name=file_name)) == name


def test_a_note_is_found_by_the_hash_and_else_by_the_name() -> None:
    notes = read_model_notes('{"PONY.V6":{"rating":2},"renamed":{"rating":5,"hash":"' + "a" * 64 + '"}}')
    assert find_model_note(notes, PONY) == ModelNote(5, hash="a" * 64)
    assert find_model_note(notes, replace(PONY, sha256=None)) == ModelNote(2)
    assert find_model_note(notes, replace(PONY, sha256=None, file_name="pony.v7.safetensors")) is None


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("", {}),
        ("not json", {}),
        ("[" * 100_000, {}),
        ("[1]", {}),
        ('{"a":1,"b":[],"c":null,"d":{}}', {}),
        ('{"a":{"hash":"x"}}', {}),
        ('{"a":{"rating":6}}', {}),
        ('{"a":{"rating":true,"weight":1e999,"text":7}}', {}),
        ('{"a":{"rating":4.0,"weight":11}}', {}),
        ('{"a":{"rating":1,"weight":-0.5,"text":"<b>","mine":1}}', {"a": ModelNote(1, -0.5, "<b>")}),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_nonsense_is_left_out(text: str, notes: dict[str, ModelNote]) -> None:
    assert read_model_notes(text) == notes


def test_foreign_entries_and_fields_survive() -> None:
    before = {"x": "y", NOTES_BY_MODEL: '{"other":{"sampler":"euler"},"odd":[1],"pony.v6":{"steps":20,"rating":1}}'}
    changed = change_model_note(before, PONY, ModelNote(4, 0.8, " good hands "))
    assert changed["x"] == "y"
    assert json.loads(changed[NOTES_BY_MODEL]) == {
        "other": {"sampler": "euler"},
        "odd": [1],
        "pony.v6": {"steps": 20, "rating": 4, "weight": 0.8, "text": "good hands", "hash": "a" * 64},
    }
    removed = change_model_note(changed, PONY, ModelNote())
    assert json.loads(removed[NOTES_BY_MODEL])["pony.v6"] == {"steps": 20, "hash": "a" * 64}


def test_a_note_that_says_nothing_leaves_no_key() -> None:
    noted = change_model_note({}, PONY, ModelNote(3))
    assert NOTES_BY_MODEL in noted
    assert change_model_note(noted, PONY, ModelNote(text="  ")) == {}


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)


@given(ANY_JSON, st.none() | st.integers(1, 5), st.none() | st.floats(-10, 10), st.text(max_size=40))
def test_any_text_can_be_read_and_changed(content: object, rating: int | None, weight: float | None, text: str) -> None:
    note = ModelNote(rating, weight, text.strip(), PONY.sha256)
    before = {NOTES_BY_MODEL: json.dumps(content)}
    read_model_notes(before[NOTES_BY_MODEL])
    after = change_model_note(before, PONY, note)
    found = find_model_note(read_model_notes(after.get(NOTES_BY_MODEL)), PONY)
    assert found == (note if note != ModelNote(hash=note.hash) else None)


@pytest.mark.parametrize(
    ("note", "said"),
    [(ModelNote(0), "1 to 5"), (ModelNote(6), "1 to 5"), (ModelNote(weight=11), "-10 to 10"),
     (ModelNote(weight=float("nan")), "-10 to 10"), (ModelNote(text="x" * 501), "501 characters")],
    ids=["0", "6", "11", "nan", "long"],
)  # fmt: skip
def test_what_is_no_note_is_refused(note: ModelNote, said: str) -> None:
    with pytest.raises(StorageError, match=said):
        change_model_note({}, PONY, note)


@pytest.fixture
def host(tmp_path: Path) -> MemoryHost:
    folder = tmp_path / "embeddings"
    build_embedding(MODEL, "'cat'", "mine1").save(folder)
    write(folder / "plain1.safetensors")
    return MemoryHost(MODEL, folder)


def test_rated_and_noted(host: MemoryHost) -> None:
    path, facts = host.embeddings_folder / "mine1.safetensors", MODEL.facts
    before = load_embedding(path)
    assert rate(host, "mine1.safetensors", 4) == facts.title
    save_model_note(host, "mine1.safetensors", ModelNote(4, 0.75, "soft"))
    rate(host, "mine1.safetensors", 2)
    assert stored(path)[name_model(facts)]["weight"] == 0.75
    (listed, plain) = listing_as_json(list(LibraryLister().list_entries(host).entries.values()), None)
    note = {"rating": 2, "weight": 0.75, "text": "soft", "hash": facts.sha256}
    assert listed["notes_by_model"] == {name_model(facts): note}
    assert plain["notes_by_model"] == {}
    after = load_embedding(path)
    assert embedding_as_json(after, None, 0)["notes_by_model"] == {name_model(facts): note}
    assert all((after.vectors[key] == rows).all() for key, rows in before.vectors.items())
    rate(host, "mine1.safetensors", None)
    save_model_note(host, "mine1.safetensors", ModelNote())
    assert stored(path) == {}
    rate(host, "plain1.safetensors", 5)  # a file without a tag
    assert stored(host.embeddings_folder / "plain1.safetensors")[name_model(facts)]["rating"] == 5


def test_what_cannot_be_noted(host: MemoryHost) -> None:
    (host.embeddings_folder / "old1.pt").write_bytes(b"x")
    host.library().refresh()
    with pytest.raises(StorageError, match=r"only \.safetensors files can"):
        rate(host, "old1.pt", 3)
    with pytest.raises(StorageError, match="no longer exists"):
        rate(host, "../mine1.safetensors", 3)
    with pytest.raises(HostError, match="No model is loaded"):
        rate(NoModelHost(host.embeddings_folder), "mine1.safetensors", 3)
    with pytest.raises(StorageError, match="broken character"):
        save_model_note(host, "mine1.safetensors", ModelNote(text="\ud800"))
    for weight in ("much", "1.2.3", "nan", "inf"):
        with pytest.raises(EmbedMergeError):
            save_model_note(host, "mine1.safetensors", read_note("", weight, ""))
    assert read_note(" ", " 0,8 ", "x") == ModelNote(None, 0.8, "x")


def test_notes_stay_when_the_embedding_is_saved_again_and_its_versions_begin_without(host: MemoryHost) -> None:
    path = host.embeddings_folder / "mine1.safetensors"
    rate(host, "mine1.safetensors", 4)
    edit_notes(path, "about it all")
    kept = stored(path)
    save(host, SaveRequest("'cat'+'dog'", "mine1", overwrite=True))
    assert stored(path) == kept
    (made,) = rebuild([path], OTHER)
    assert made.file is not None
    assert stored(made.file) == {}


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        edit_model_note(tmp_path / "gone.safetensors", ModelFacts("a", "a", MODEL.facts.architecture), ModelNote(1))
