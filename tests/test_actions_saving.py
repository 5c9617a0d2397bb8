"""Names looked at and embeddings saved: where, over what, and what is told of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from action_hosts import MODEL, SD1_MODEL, NoModelHost, write
from arrays import equal

from lib_embedmerge.actions.saving import check_name, save
from lib_embedmerge.actions.saving_values import NameReport, SaveRequest
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import (
    EmbedMergeError,
    EvaluationError,
    ExpressionError,
    HostError,
    StorageError,
    TakenError,
)
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.build import build_embedding

CATDOG = SaveRequest("'cat'+'dog'*0.5", "catdog_x")


@pytest.fixture
def host(tmp_path: Path) -> MemoryHost:
    return MemoryHost(MODEL, tmp_path / "embeddings", "Test UI")


def files(host: MemoryHost) -> list[str]:
    folder = host.embeddings_folder
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Names.


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_nothing_is_said_of_a_blank_name(host: MemoryHost, name: str) -> None:
    assert check_name(host, name) == NameReport("")


def test_a_good_name(host: MemoryHost) -> None:
    assert check_name(host, " catdog_x ") == NameReport("catdog_x")


def test_a_name_that_no_file_can_have(host: MemoryHost) -> None:
    found = check_name(host, "a/b")
    assert found.error == "A file name cannot contain '/'."
    assert found.better == "a_b"
    assert not found.file


def test_a_name_that_prompts_would_not_find(host: MemoryHost) -> None:
    write(host.embeddings_folder / "catdog _ x.safetensors")
    found = check_name(host, "catdog_x")
    assert found.error is None
    assert "reads the same in a prompt as the embedding 'catdog _ x'" in found.warnings[0]
    assert found.better is not None
    assert check_name(host, found.better) == NameReport(found.better)
    assert not found.file


@pytest.mark.parametrize(
    "there", ["catdog_x.safetensors", "sub/catdog_x.safetensors", "sub/catdog_x.pt", "CatDog_X.bin"]
)
def test_a_name_that_is_taken(host: MemoryHost, there: str) -> None:
    path = host.embeddings_folder / there
    path.parent.mkdir(parents=True)
    path.touch()
    assert check_name(host, "catdog_x") == NameReport("catdog_x", file=there)


def test_a_file_that_the_library_does_not_list_is_in_the_way_too(host: MemoryHost) -> None:
    (host.embeddings_folder / "folder1.safetensors").mkdir(parents=True)
    assert check_name(host, "folder1").file == "folder1.safetensors"


@pytest.mark.parametrize(
    "name", ["catdog_x", "cat", "a/b", "\ud800", "x" * 1000, "\u202e", "\u202ex", "CON", "<img src=x>"]
)
def test_any_name_is_looked_at_without_model_and_folder(tmp_path: Path, name: str) -> None:
    found = check_name(NoModelHost(tmp_path / "none"), name)
    assert found.name == name
    assert (found.error is None) == (name in {"catdog_x", "cat", "\u202ex"})


# Saving.


def test_an_embedding_is_saved(host: MemoryHost) -> None:
    found = save(host, replace(CATDOG, name=" catdog_x ", notes="A note.", negative=True))
    (file,) = found.files
    assert (file.name, file.path, file.vectors) == ("catdog_x", host.embeddings_folder / "catdog_x.safetensors", 1)
    assert (found.existing, found.prompt, found.inline) == ({}, "catdog_x", "<'cat'+'dog'*0.5>")
    assert found.warnings == ()
    embedding = load_embedding(file.path)
    wanted = evaluate(parse(CATDOG.source), MODEL)
    assert all(equal(embedding.vectors[key], wanted[key]) for key in wanted)
    assert dict(embedding.metadata) == file.tag
    assert embedding.tag is not None
    assert (embedding.tag.recipe, embedding.tag.notes, embedding.tag.negative) == (CATDOG.source, "A note.", True)
    assert host.saved == [file.path]
    assert host.library().names() == ("catdog_x",)


def test_as_float16(host: MemoryHost) -> None:
    small, large = (save(host, replace(CATDOG, name=f"catdog_{t[-2:]}z", dtype=t)) for t in ("float16", "float32"))
    sizes = [saved.files[0].path.stat().st_size for saved in (small, large)]
    assert sizes[1] - sizes[0] == (768 + 1280) * 2


@pytest.mark.parametrize("there", ["catdog_x.safetensors", "sub/deep/catdog_x.safetensors", "sub/catdog_x.pt"])
def test_nothing_is_written_over_a_file(host: MemoryHost, there: str) -> None:
    path = host.embeddings_folder / there
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    found = save(host, CATDOG)
    assert (found.existing, found.files) == ({"catdog_x": there}, ())
    assert files(host) == [there]
    assert path.read_bytes() == b"old"
    assert host.saved == []


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("catdog_x.safetensors", "catdog_x.safetensors"),
        ("sub/deep/catdog_x.safetensors", "sub/deep/catdog_x.safetensors"),
        ("sub/catdog_x.pt", "sub/catdog_x.safetensors"),
        ("CatDog_X.safetensors", "catdog_x.safetensors"),
    ],
)
def test_a_file_is_replaced_where_it_lies(host: MemoryHost, there: str, expected: str) -> None:
    path = host.embeddings_folder / there
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    found = save(host, replace(CATDOG, overwrite=True))
    assert [file.path for file in found.files] == [host.embeddings_folder / expected]
    assert [name.casefold() for name in files(host)] == [expected]  # a disk may keep the old capitals
    assert found.warnings == ()
    assert host.library().load("catdog_x").recipe == CATDOG.source


def test_a_name_in_two_folders_is_told(host: MemoryHost) -> None:
    for folder in ("a", "b"):
        write(host.embeddings_folder / folder / "catdog_x.safetensors")
    found = save(host, replace(CATDOG, overwrite=True))
    assert found.files[0].path.parent.name == "a"
    assert len(found.warnings) == 1
    assert "is ignored: 'catdog_x' is the name of" in found.warnings[0]


def test_an_old_file_that_stays_is_told(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    write(host.embeddings_folder / "catdog_x.safetensors").rename(host.embeddings_folder / "catdog_x.pt")

    def refuse(self: Path, *, missing_ok: bool = False) -> None:
        if self.suffix == ".pt":
            raise PermissionError(13, "in use")
        assert missing_ok
        if os.path.lexists(self):
            os.unlink(self)  # noqa: PTH108 -- Path.unlink is what is replaced

    monkeypatch.setattr(Path, "unlink", refuse)
    found = save(host, replace(CATDOG, overwrite=True))
    assert "'catdog_x.pt' could not be deleted" in found.warnings[0]
    assert len(found.files) == 1


def test_overwriting_is_no_matter_where_nothing_is_there(host: MemoryHost) -> None:
    assert len(save(host, replace(CATDOG, overwrite=True)).files) == 1


def test_an_embedding_named_in_its_own_source(host: MemoryHost) -> None:
    write(host.embeddings_folder / "catdog_x.safetensors", 1, 0.5)
    found = save(host, SaveRequest("'catdog_x'*2", "catdog_x", overwrite=True))
    embedding = load_embedding(found.files[0].path)
    assert bool((embedding.vectors["clip_l"] == 1.0).all())
    assert embedding.tag is not None
    assert set(embedding.tag.uses) == {"catdog_x"}
    again = save(host, SaveRequest("'catdog_x'*2", "catdog_x", overwrite=True))
    assert bool((load_embedding(again.files[0].path).vectors["clip_l"] == 2.0).all())


def test_a_long_source_is_split(host: MemoryHost) -> None:
    source = "a cat and a dog, " * 20
    found = save(host, SaveRequest(source, "long_x", split=True))
    assert [file.name for file in found.files] == ["long_x-1", "long_x-2"]
    assert [file.vectors for file in found.files] == [72, 48]
    assert (found.prompt, found.inline) == ("long_x-1 long_x-2", source.strip())
    assert host.saved == [file.path for file in found.files]
    assert host.library().names() == ("long_x-1", "long_x-2")
    assert found.warnings == ()
    read = evaluate(parse(found.prompt), host.active().model, limit=None)
    wanted = evaluate(parse(source), MODEL, limit=None)
    assert all(equal(read[key], wanted[key]) for key in wanted)


def test_a_long_expression_is_split_inline_too(host: MemoryHost) -> None:
    source = "('a cat and a dog':50 + 'cat'), 'dog', 'a':100"
    found = save(host, SaveRequest(source, "long_x", split=True))
    assert len(found.files) == 2
    inline = evaluate(parse(found.inline), MODEL, limit=None)
    wanted = evaluate(parse(source), MODEL, limit=None)
    assert parse(found.inline).kind == "prompt"
    assert all(equal(inline[key], wanted[key]) for key in wanted)


def test_a_short_source_is_not_split(host: MemoryHost) -> None:
    assert [file.name for file in save(host, replace(CATDOG, split=True)).files] == ["catdog_x"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_embedding_for_other_models_is_never_replaced(host: MemoryHost, overwrite: bool) -> None:
    folder = host.embeddings_folder / "sd15"
    folder.mkdir(parents=True)
    old = write(folder / "CatDog_X.safetensors", keys=("clip_l",))
    content = old.read_bytes()
    with pytest.raises(StorageError, match="is already an embedding for Stable Diffusion 1: sd15/CatDog_X"):
        save(host, replace(CATDOG, overwrite=overwrite))
    assert files(host) == ["sd15/CatDog_X.safetensors"]
    assert old.read_bytes() == content


def test_a_model_that_changes_while_an_embedding_is_made(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    other = MemoryHost(SD1_MODEL, host.embeddings_folder).active()
    models = iter([host.active(), other])
    monkeypatch.setattr(host, "active", lambda: next(models))
    with pytest.raises(HostError, match="The active model was changed"):
        save(host, CATDOG)
    assert not host.embeddings_folder.exists() or files(host) == []


def test_the_host_lets_go_of_a_file_before_it_is_replaced(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(host.embeddings_folder / "catdog_x.safetensors")
    content = old.read_bytes()
    released: list[tuple[Path, bytes]] = []
    monkeypatch.setattr(host, "before_replacing", lambda path: released.append((path, path.read_bytes())))
    save(host, replace(CATDOG, overwrite=True))
    assert released == [(old, content)]
    assert old.read_bytes() != content


def test_one_piece_in_the_way_stops_all(host: MemoryHost) -> None:
    write(host.embeddings_folder / "long_x-2.safetensors")
    request = SaveRequest("a cat and a dog, " * 20, "long_x", split=True)
    assert save(host, request).existing == {"long_x-2": "long_x-2.safetensors"}
    assert files(host) == ["long_x-2.safetensors"]
    assert len(save(host, replace(request, overwrite=True)).files) == 2


def test_a_disk_that_fails_leaves_what_was_written(host: MemoryHost) -> None:
    request = SaveRequest("a cat and a dog, " * 20, "long_x", split=True, overwrite=True)
    (host.embeddings_folder / "long_x-2.safetensors").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"long_x-2\.safetensors"):
        save(host, request)
    assert host.saved == [host.embeddings_folder / "long_x-1.safetensors"]
    assert host.library().names() == ("long_x-1",)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (replace(CATDOG, name=" "), StorageError, "The embedding needs a name."),
        (replace(CATDOG, name="a/b"), StorageError, "A file name cannot contain '/'."),
        (replace(CATDOG, name="\u202e" * 200), StorageError, "The name is too long"),
        (replace(CATDOG, name="\u200b"), StorageError, "only invisible characters"),
        (replace(CATDOG, source="'cat'+"), ExpressionError, "Nothing follows"),
        (replace(CATDOG, source="''"), EvaluationError, "This makes no vectors"),
        (replace(CATDOG, source="''", split=True), EvaluationError, "This makes no vectors"),
        (replace(CATDOG, source="cat " * 80), EvaluationError, "This makes 80 vectors"),
        (replace(CATDOG, dtype="float8"), StorageError, "Vectors cannot be saved as 'float8'"),
        (replace(CATDOG, source="'cat'*1000000000", dtype="float16"), StorageError, "too large for float16"),
        (replace(CATDOG, notes="\ud800"), StorageError, "broken character in the notes"),
    ],
    ids=lambda value: value.source[:9] + value.name[:3] if isinstance(value, SaveRequest) else None,
)
def test_what_cannot_be_saved(
    host: MemoryHost, request_: SaveRequest, error: type[EmbedMergeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        save(host, request_)
    assert not host.embeddings_folder.exists() or files(host) == []
    assert host.saved == []


def test_a_name_that_cannot_be_has_a_hint(host: MemoryHost) -> None:
    with pytest.raises(StorageError) as caught:
        save(host, replace(CATDOG, name="a/b"))
    assert caught.value.hint == "This name works: a_b."


def test_without_a_model_nothing_is_saved(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        save(NoModelHost(tmp_path), CATDOG)


def test_what_is_told_once(host: MemoryHost) -> None:
    found = save(host, SaveRequest("(cat:1.2), a cat and a dog, " * 10, "cat", split=True))
    assert len(found.files) > 1
    assert len([warning for warning in found.warnings if "attention" in warning]) == 1
    found = save(host, SaveRequest("'cat'", "cat"))
    assert any("an ordinary word" in warning for warning in found.warnings)


def test_a_web_ui_that_cannot_take_it_up_loses_no_file(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: MemoryHost, path: Path) -> None:
        raise HostError("It has no place for it.")

    monkeypatch.setattr(MemoryHost, "embedding_saved", refuse)
    found = save(host, CATDOG)
    assert found.warnings == (
        "'catdog_x.safetensors' is saved, but Test UI has not loaded it yet: It has no place for it.",
    )
    assert files(host) == ["catdog_x.safetensors"]


def test_a_folder_that_goes_away_behind_the_save(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: MemoryHost) -> None:
        raise StorageError("There is no folder.")

    monkeypatch.setattr(MemoryHost, "library", gone)
    assert save(host, CATDOG).warnings == ("The list of embeddings could not be refreshed: There is no folder.",)


# How it is written into a prompt.


@pytest.mark.parametrize(
    ("source", "inline"),
    [
        ("'cat'+'dog'", "<'cat'+'dog'>"),
        ("  'cat' +\n'dog' ", "<'cat' +\n'dog'>"),
        ("('cat'+'dog')*2", "<('cat'+'dog')*2>"),
        ("slerp ('cat','dog',0.5)", "<slerp ('cat','dog',0.5)>"),
        ("'red>green'", "{'red>green'}"),
        ("'red<green'", "{'red<green'}"),
        ("'red>{x}'", "<'red>{x}'>"),
        ("'a}b'", "<'a}b'>"),
        ("'EM_1'", "<('EM_1')>"),
        ("a <'cat'+'dog'> in the house ", "a <'cat'+'dog'> in the house"),
        ("a cat", "a cat"),
    ],
)
def test_the_source_in_a_prompt(host: MemoryHost, source: str, inline: str) -> None:
    found = save(host, SaveRequest(source, "catdog_x"))
    assert found.inline == inline
    read, wanted = evaluate(parse(inline), MODEL), evaluate(parse(source), MODEL)
    assert parse(inline).kind == "prompt"
    assert all(equal(read[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("name", "prompt"), [("catdog_x", "catdog_x"), ("cat (dog) [x]", r"cat \(dog\) \[x\]"), ("a{b}", "a{b}")]
)
def test_the_name_in_a_prompt(host: MemoryHost, name: str, prompt: str) -> None:
    assert save(host, replace(CATDOG, name=name)).prompt == prompt


# Other programs in the same folder.


def when_replacing(host: MemoryHost, monkeypatch: pytest.MonkeyPatch, *doings: Callable[[], object]) -> None:
    """Have another program do something each time that a file is about to be replaced."""
    left, real = list(doings), host.before_replacing

    def replacing(path: Path) -> None:
        real(path)
        if left:
            left.pop(0)()

    monkeypatch.setattr(host, "before_replacing", replacing)


def test_another_embedding_takes_the_name_of_what_is_to_be_replaced(
    host: MemoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at like the one before it: what is for other models is not replaced."""
    save(host, CATDOG)
    path = host.embeddings_folder / "catdog_x.safetensors"

    def take() -> None:
        path.rename(path.with_name("away1.safetensors"))
        build_embedding(SD1_MODEL, "'cat'", "catdog_x").save(host.embeddings_folder)

    when_replacing(host, monkeypatch, take)
    with pytest.raises(TakenError, match="is already an embedding for Stable Diffusion 1"):
        save(host, replace(CATDOG, overwrite=True))
    assert files(host) == ["away1.safetensors", "catdog_x.safetensors"]
    assert load_embedding(path).architecture == SD1_MODEL.facts.architecture


def test_what_is_changed_again_and_again_is_not_replaced(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    save(host, CATDOG)
    path = host.embeddings_folder / "catdog_x.safetensors"
    times = iter(range(1, 1000))
    when_replacing(host, monkeypatch, *[lambda: os.utime(path, (1, next(times)))] * 100)
    with pytest.raises(StorageError, match="was changed by another program again and again"):
        save(host, replace(CATDOG, overwrite=True))


def test_the_old_file_is_another_one_by_now(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another format makes way for the new one, but not what has taken its place meanwhile."""
    old = write(host.embeddings_folder / "catdog_x.safetensors").rename(host.embeddings_folder / "catdog_x.pt")
    torch.save({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, old)
    when_replacing(host, monkeypatch, lambda: old.write_bytes(b"theirs"))
    save(host, replace(CATDOG, overwrite=True))
    assert old.read_bytes() == b"theirs"
    assert load_embedding(host.embeddings_folder / "catdog_x.safetensors").recipe == CATDOG.source
