"""ComfyUI's folders of embeddings, read from its files, and a library over all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from action_hosts import write

from lib_embedmerge.actions.managing import LibraryLister, delete, restore_deleted
from lib_embedmerge.api.named_files import find_embedding_file
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import HostError, StorageError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.hosts.comfyui.listed_folders import find_listed_folders
from lib_embedmerge.tokenizer import clip_tokenizer


def make_comfyui(folder: Path, extra: str | None = None) -> Path:
    """A folder that looks like ComfyUI's. extra: its extra_model_paths.yaml."""
    (folder / "models" / "embeddings").mkdir(parents=True)
    (folder / "folder_paths.py").touch()
    if extra is not None:
        (folder / "extra_model_paths.yaml").write_text(extra, encoding="utf-8")
    return folder


def test_a_folder_of_embeddings_is_not_comfyuis(tmp_path: Path) -> None:
    assert find_listed_folders(tmp_path) is None
    assert find_listed_folders(tmp_path / "missing") is None


def test_comfyui_without_other_folders(tmp_path: Path) -> None:
    assert find_listed_folders(make_comfyui(tmp_path)) == [tmp_path / "models" / "embeddings"]


EXTRA = """
a111:
    base_path: webui
    checkpoints: models/Stable-diffusion
    embeddings: embeddings
first:
    base_path: {0}/other
    is_default: true
    embeddings: |
        one
        sub/two
nothing:
only_checkpoints:
    checkpoints: models
odd: 3
"""


def test_folders_that_the_file_adds(tmp_path: Path) -> None:
    home = make_comfyui(tmp_path / "comfy", EXTRA.format(tmp_path.as_posix()))
    other = tmp_path / "other"
    wanted = [other / "sub" / "two", other / "one", home / "models" / "embeddings", home / "webui" / "embeddings"]
    assert find_listed_folders(home) == wanted
    assert find_listed_folders(home / "extra_model_paths.yaml") == wanted
    alone = tmp_path / "mine.yaml"
    alone.write_text("x:\n  embeddings: here\n", encoding="utf-8")
    assert find_listed_folders(alone) == [tmp_path / "here"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not a valid YAML file"), ("a:\n  loras: x\n", "names no folder"), ("[]", "names no folder")],
)
def test_a_file_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "extra.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(HostError, match=message) as caught:
        find_listed_folders(file)
    assert caught.value.hint
    with pytest.raises(HostError, match="cannot be read"):
        find_listed_folders(tmp_path / "missing.yaml")


def test_python_without_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_comfyui(tmp_path, "a:\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(HostError, match="PyYAML") as caught:
        find_listed_folders(home)
    assert caught.value.hint == "Install it: pip install pyyaml"


@pytest.fixture
def host(tmp_path: Path) -> CheckpointHost:
    """Two folders with three embeddings, of which one name is in both, and a third folder that does not exist."""
    write(tmp_path / "a" / "one1.safetensors", value=1.0)
    write(tmp_path / "a" / "both1.safetensors", value=1.0)
    write(tmp_path / "b" / "both1.safetensors", value=2.0)
    write(tmp_path / "b" / "sub" / "two1.safetensors", value=2.0)
    return CheckpointHost(tmp_path / "a", more=[tmp_path / "b", tmp_path / "missing"])


def test_one_library_of_several_folders(host: CheckpointHost, tmp_path: Path) -> None:
    library = host.library()
    assert library.names() == ("both1", "one1", "two1")
    assert library.path("both1") == tmp_path / "a" / "both1.safetensors"
    assert any("both1" in warning and "is ignored" in warning for warning in library.warnings)
    assert library.find_top_folder(tmp_path / "b" / "sub" / "two1.safetensors") == tmp_path / "b"
    state = library.state
    write(tmp_path / "b" / "sub" / "three1.safetensors")
    assert "three1" in host.library().names()
    assert host.library().state is not state
    assert isinstance(library, EmbeddingFolder)
    assert clip_tokenizer() is not None


def test_files_of_other_folders_are_listed_deleted_and_restored(host: CheckpointHost, tmp_path: Path) -> None:
    outside = (tmp_path / "b" / "sub" / "two1.safetensors").as_posix()
    assert outside in LibraryLister().list_entries(host).entries
    with pytest.raises(StorageError, match="several folders"):
        delete(host, [outside, "one1.safetensors"])
    deletion = delete(host, [outside])
    assert not Path(outside).exists()
    assert [each.id for each in LibraryLister().list_entries(host).deletions] == [deletion.id]
    restore_deleted(host, deletion.id)
    assert Path(outside).is_file()
    assert find_embedding_file(host, outside) == Path(outside)
