"""Checkpoint files as a host: what can be chosen, and what happens where that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from arrays import equal
from checkpoint_files import write_diffusers
from models import Encoders, encoders, write_sdxl

from lib_embedmerge.errors import CheckpointError, HostError, Remedy, StorageError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.recipes.build import build_embedding

CAT = 2368


@pytest.fixture(scope="module")
def made() -> Encoders:
    return encoders()


@pytest.fixture
def models(tmp_path: Path, made: Encoders) -> Path:
    """b/deep.safetensors, a.safetensors, folder (diffusers), and what is no checkpoint."""
    folder = tmp_path / "models"
    write_sdxl(folder / "a.safetensors", made)
    (folder / "b").mkdir()
    (folder / "b" / "deep.SafeTensors").hardlink_to(folder / "a.safetensors")
    write_diffusers(folder / "folder", {key: made[key] for key in ("clip_l", "clip_g")})
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    (folder / "z-broken.safetensors").write_bytes(b"nothing")
    return folder


def test_a_folder_of_models(models: Path, tmp_path: Path) -> None:
    host = CheckpointHost(tmp_path / "embeddings", models=models)
    assert host.title == "EmbedMerge"
    assert host.chooser is host
    assert tuple(host.checkpoints()) == ("a.safetensors", "z-broken.safetensors", "b/deep.SafeTensors", "folder")
    assert host.chosen == "a.safetensors"
    first = host.active().model
    host.choose("folder")
    assert host.chosen == "folder"
    assert equal(host.active().model.encoders[0].vectors([CAT]), first.encoders[0].vectors([CAT]))
    assert host.active().vectors_from == "the checkpoint file"
    assert host.active().model.facts.file_name == "folder"


def test_one_that_was_named_comes_first(models: Path, tmp_path: Path, made: Encoders) -> None:
    given = write_sdxl(tmp_path / "elsewhere" / "mine.safetensors", made)
    host = CheckpointHost(tmp_path / "embeddings", checkpoint=given, models=models)
    assert tuple(host.checkpoints())[:2] == ("mine.safetensors", "a.safetensors")
    assert host.chosen == "mine.safetensors"
    assert host.active().model.facts.file_name == "mine.safetensors"


def test_two_of_one_name_can_both_be_chosen(models: Path, tmp_path: Path, made: Encoders) -> None:
    given = write_sdxl(tmp_path / "elsewhere" / "a.safetensors", made)
    host = CheckpointHost(tmp_path / "embeddings", checkpoint=given, models=models)
    assert tuple(host.checkpoints())[:2] == ("a.safetensors", str(models / "a.safetensors"))
    host.choose(str(models / "a.safetensors"))
    assert host.chosen == str(models / "a.safetensors")


def test_one_of_the_folder_that_was_named_is_there_once(models: Path, tmp_path: Path) -> None:
    host = CheckpointHost(tmp_path / "embeddings", checkpoint=models / "a.safetensors", models=models)
    assert list(host.checkpoints()).count("a.safetensors") == 1


def test_one_checkpoint_alone(models: Path, tmp_path: Path) -> None:
    host = CheckpointHost(tmp_path / "embeddings", checkpoint=models / "a.safetensors")
    assert tuple(host.checkpoints()) == ("a.safetensors",)
    assert host.active().model.encoders[0] is host.active().model.encoders[0]


@pytest.mark.parametrize("folder", [None, "empty"])
def test_nothing_to_choose(tmp_path: Path, folder: str | None) -> None:
    if folder:
        (tmp_path / folder).mkdir()
    host = CheckpointHost(tmp_path / "embeddings", models=tmp_path / folder if folder else None)
    assert tuple(host.checkpoints()) == ()
    assert host.chosen is None
    with pytest.raises(HostError, match="No checkpoint was found") as caught:
        host.active()
    assert caught.value.remedy is Remedy.GIVE_CHECKPOINT
    assert (folder or "checkpoint") in caught.value.message


@pytest.mark.parametrize(
    ("title", "error", "message"),
    [("z-broken.safetensors", CheckpointError, "z-broken"), ("gone.safetensors", HostError, "The checkpoint 'gone")],
)
def test_the_active_one_stays_where_choosing_fails(
    models: Path, tmp_path: Path, title: str, error: type[Exception], message: str
) -> None:
    host = CheckpointHost(tmp_path / "embeddings", models=models)
    before = host.active().model
    with pytest.raises(error, match=message):
        host.choose(title)
    assert host.chosen == "a.safetensors"
    assert host.active().model is before


def test_new_files_can_be_chosen_at_once(models: Path, tmp_path: Path) -> None:
    host = CheckpointHost(tmp_path / "embeddings", models=models)
    (models / "new.safetensors").hardlink_to(models / "a.safetensors")
    assert "new.safetensors" in host.checkpoints()
    host.choose("new.safetensors")
    assert host.active().model.facts.file_name == "new.safetensors"


def test_saved_embeddings_are_named_at_once(models: Path, tmp_path: Path) -> None:
    host = CheckpointHost(tmp_path / "new" / "embeddings", models=models)
    model = host.active().model
    assert host.embeddings_folder.is_dir()
    path = build_embedding(model, "'cat'*2", "twocats").save(host.embeddings_folder)
    host.embedding_saved(path)
    built = build_embedding(host.active().model, "'twocats'*1", "again")
    assert equal(built.vectors["clip_l"], model.encoders[0].vectors([CAT]) * 2)


def test_a_folder_that_cannot_be_made(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    host = CheckpointHost(tmp_path / "file" / "embeddings", models=models)
    with pytest.raises(StorageError, match="cannot be created"):
        host.active()
