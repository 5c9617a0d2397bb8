"""The routes that compress, port and repair in the background."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest
from api_client import Ask, api_of
from checkpoint_files import save
from effect_models import make_tensors

from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions.optimised_files import Target
from lib_embedmerge.actions.optimising_jobs import OPTIMISING_JOBS
from lib_embedmerge.core.architecture import SD1, SDXL
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.embeddings.tag_keys import NOTES_BY_MODEL
from lib_embedmerge.errors import TakenError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.tokenizer import clip_tokenizer

TIMEOUT = 300


def good(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and a library with a word."""
    root = tmp_path_factory.mktemp("host")
    model = open_checkpoint(save(root / "models" / "base.safetensors", make_tensors("sdxl")))
    ids = clip_tokenizer().encode("cat")
    Embedding("cat", {e.key: numpy.asarray(e.vectors(ids)) for e in model.encoders}).save(root / "embeddings")
    return root


@pytest.fixture
def api(folder: Path) -> Ask:
    return api_of(CheckpointHost(folder / "embeddings", models=folder / "models"))


def test_a_repair_is_a_job_with_one_result(api: Ask, folder: Path) -> None:
    job = good(api("POST", "/repair", json={"embedding": "cat", "checkpoint": "base"}))["job"]
    OPTIMISING_JOBS.get(job).wait(TIMEOUT)
    state = good(api("GET", f"/repair/{job}"))
    (result,) = state["results"]
    assert (state["state"], state["error"]) == ("done", None)
    assert Path(result["file"]) == folder / "embeddings" / "cat-repaired.safetensors"
    assert set(result["held_out"]["baselines"]) == {"unchanged", "shortened"}
    assert json.dumps(result, allow_nan=False)


def test_a_text_is_ported_exactly(api: Ask, folder: Path) -> None:
    asked = {"embedding": "cat", "made_for": "base", "to": "base", "name": "ported"}
    job = good(api("POST", "/port", json=asked))["job"]
    (result,) = OPTIMISING_JOBS.get(job).wait(TIMEOUT).results
    assert result["held_out"]["ours"] == 0
    assert (folder / "embeddings" / "ported.safetensors").is_file()


class RecordingHost(CheckpointHost):
    """Remembers what it was told is about to be replaced."""

    replaced: list[Path]

    def before_replacing(self, path: Path) -> None:
        self.replaced.append(path)


def test_a_file_is_replaced_as_by_saving(folder: Path, tmp_path: Path) -> None:
    host = RecordingHost(tmp_path, models=folder / "models")
    host.replaced = []
    word = load_embedding(folder / "embeddings" / "cat.safetensors")
    old = Embedding("mine", word.vectors, {NOTES_BY_MODEL: "[]"}).save(tmp_path / "sub")
    with pytest.raises(TakenError, match="already exists"):
        Target(tmp_path, host=host).check("MINE", SDXL)
    with pytest.raises(TakenError, match="already an embedding for SDXL"):
        Target(tmp_path, overwrite=True, host=host).check("mine", SD1)
    Target(tmp_path, overwrite=True, host=host).check("mine", SDXL)
    written, _ = Target(tmp_path, overwrite=True, host=host).save(Embedding("mine", word.vectors))
    assert (written, host.replaced) == (old, [old])
    assert load_embedding(old).metadata[NOTES_BY_MODEL] == "[]"


def test_a_cancelled_compression_writes_nothing(api: Ask, folder: Path) -> None:
    before = sorted((folder / "embeddings").iterdir())
    asked = {"source": "a cat and a dog in the red garden", "vectors": 2, "checkpoint": "base", "name": "short"}
    job = good(api("POST", "/compress", json=asked))["job"]
    assert api("POST", "/compress", json=asked).status_code == 409
    good(api("DELETE", f"/compress/{job}"))
    assert OPTIMISING_JOBS.get(job).wait(TIMEOUT).state == "cancelled"
    assert sorted((folder / "embeddings").iterdir()) == before


def test_wrong_requests_are_refused_before_a_job_starts(api: Ask) -> None:
    asked: dict[str, Any] = {"vectors": 2, "checkpoint": "base"}
    assert api("POST", "/compress", json={**asked, "source": "a cat"}).status_code == 422  # without a name
    assert api("POST", "/compress", json=asked).status_code == 422
    assert api("POST", "/compress", json={**asked, "vectors": 76, "source": "a cat", "name": "x"}).status_code == 422
    assert api("POST", "/repair", json={"embedding": "nothing", "checkpoint": "base"}).status_code == 404
    assert api("GET", "/repair/nothing").status_code == 404
