"""Embeddings looked at: from the library and dropped in, fitting or not, tagged or not, and hostile ones."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from action_hosts import MODEL, SD1_MODEL, NoModelHost, write
from arrays import as_tensor
from safetensors.torch import save_file

from lib_embedmerge.actions.inspecting import inspect_file, inspect_name, list_names
from lib_embedmerge.actions.saving import save
from lib_embedmerge.actions.saving_values import SaveRequest
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.hosts.memory_host import MemoryEncoder, MemoryHost

CATDOG = SaveRequest("cat('cat', 'dog'*0.5)", "catdog_x")


@pytest.fixture
def host(tmp_path: Path) -> MemoryHost:
    return MemoryHost(MODEL, tmp_path / "embeddings")


def rows(ids: list[int]) -> dict[str, torch.Tensor]:
    return {encoder.key: as_tensor(encoder.vectors(ids)).half() for encoder in MODEL.encoders}


def test_names(host: MemoryHost) -> None:
    assert list_names(host) == ()
    write(host.embeddings_folder / "style_b.safetensors")
    write(host.embeddings_folder / "sub" / "style_a.safetensors")
    assert list_names(host) == ("style_a", "style_b")


def test_our_own_embedding(host: MemoryHost) -> None:
    path = save(host, CATDOG).files[0].path
    found = inspect_name(host, "CATDOG_X")
    assert (found.name, found.file_name, found.path) == ("catdog_x", "catdog_x.safetensors", path)
    assert (found.architecture, found.count, found.warnings) == ("SDXL", 2, ())
    assert found.fit is not None
    assert (found.fit.status, found.fit_error) == (FitStatus.MADE_FOR_THIS_MODEL, None)
    assert found.recipe == CATDOG.source
    assert found.tag is not None
    assert found.tag.made_for == "memory"
    assert found.metadata["modelspec.title"] == "catdog_x"
    assert [encoder.key for encoder in found.encoders] == ["clip_l", "clip_g"]
    for encoder in found.encoders:
        assert [row.token for row in encoder.vectors] == ["cat</w>", None]
        assert [row.nearest[0].token for row in encoder.vectors] == ["cat</w>", "dog</w>"]
        assert [part.part.text for part in encoder.parts] == ["catdog_x"]
        assert encoder.band is not None


def test_a_dropped_file_is_shown_by_its_owners_name(host: MemoryHost, tmp_path: Path) -> None:
    dropped = tmp_path / "gradio" / "tmp1234.safetensors"
    dropped.parent.mkdir()
    shutil.copy(save(host, CATDOG).files[0].path, dropped)
    for shown in ("my style.safetensors", "C:\\Users\\me\\my style.safetensors", "../../my style.safetensors"):
        found = inspect_file(host, dropped, shown)
        assert (found.name, found.file_name, found.path) == ("my style", "my style.safetensors", None)
        assert found.recipe == CATDOG.source
    assert inspect_file(host, dropped, "").file_name == "tmp1234.safetensors"


def test_a_dropped_file_that_is_none(host: MemoryHost, tmp_path: Path) -> None:
    dropped = tmp_path / "tmp1234.safetensors"
    dropped.write_bytes(b"no embedding")
    with pytest.raises(StorageError, match=r"'mine\.safetensors'") as caught:
        inspect_file(host, dropped, "mine.safetensors")
    assert "tmp1234" not in caught.value.render()


def test_rows_of_the_model_are_spelled(host: MemoryHost, tmp_path: Path) -> None:
    save_file(rows([320, 2368]), tmp_path / "x.safetensors")
    found = inspect_file(host, tmp_path / "x.safetensors", "x.safetensors")
    assert found.fit is not None
    assert (found.fit.status, found.recipe, found.tag) == (FitStatus.FROM_ROWS, "'a cat'", None)
    assert [row.token for row in found.encoders[1].vectors] == ["a</w>", "cat</w>"]


def test_another_architecture(tmp_path: Path) -> None:
    host = MemoryHost(SD1_MODEL, tmp_path)
    write(tmp_path / "style_x.safetensors", 1)
    found = inspect_name(host, "style_x")
    assert found.fit is not None
    assert (found.fit.status, found.recipe) == (FitStatus.OTHER_ARCHITECTURE, None)
    for encoder in found.encoders:
        assert (encoder.band, encoder.vectors[0].nearest, encoder.vectors[0].length_is_usual) == (None, (), None)


def test_without_a_model(tmp_path: Path) -> None:
    host = NoModelHost(tmp_path)
    write(tmp_path / "style_x.safetensors", 1)
    found = inspect_name(host, "style_x")
    assert (found.fit, found.fit_error) == (None, NoModelHost.error)
    assert [encoder.band for encoder in found.encoders] == [None, None]


def test_a_model_that_cannot_be_read(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise CheckpointError("The file is damaged.")

    monkeypatch.setattr(MemoryEncoder, "find_equal_rows", damaged)
    write(host.embeddings_folder / "style_x.safetensors", 1)
    found = inspect_name(host, "style_x")
    assert found.fit is None
    assert found.fit_error is not None
    assert found.fit_error.message == "The file is damaged."
    assert [encoder.band for encoder in found.encoders] == [None, None]


@pytest.mark.parametrize("name", ["nothing", "", "../x", "\ud800"])
def test_a_name_that_is_not_there(host: MemoryHost, name: str) -> None:
    host.embeddings_folder.mkdir()
    with pytest.raises(StorageError, match="There is no embedding"):
        inspect_name(host, name)


def test_vectors_that_are_not_numbers(host: MemoryHost, tmp_path: Path) -> None:
    vectors = {"clip_l": torch.full((3, 768), 0.1), "clip_g": torch.full((3, 1280), torch.nan)}
    vectors["clip_l"][1, 7] = torch.inf
    save_file(vectors, tmp_path / "x.safetensors")
    found = inspect_file(host, tmp_path / "x.safetensors", "x.safetensors")
    assert found.fit is not None
    assert found.fit.status == FitStatus.UNKNOWN_ORIGIN
    left, right = found.encoders
    assert [row.finite for row in left.vectors] == [True, False, True]
    assert [row.finite for row in right.vectors] == [False] * 3
    assert math.isnan(right.parts[0].figures.len)


def test_large_metadata_and_many_vectors(host: MemoryHost, tmp_path: Path) -> None:
    metadata = {f"key{number}": "<img src=x onerror=alert(1)>\u202e" for number in range(5000)}
    metadata["modelspec.title"] = "x" * 1_000_000
    vectors = {"clip_l": torch.zeros(400, 768), "clip_g": torch.zeros(400, 1280)}
    save_file(vectors, tmp_path / "x.safetensors", metadata)
    found = inspect_file(host, tmp_path / "x.safetensors", "<b>\u202ex.safetensors")
    assert found.metadata == metadata
    assert (found.count, found.name) == (400, "<b>\u202ex")
    assert [(len(encoder.vectors), encoder.hidden) for encoder in found.encoders] == [(150, 250)] * 2
