"""The routes that restore and convert in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest
from api_client import Ask, api_of
from planted_files import PLANTED_ROWS, as_stored, write_planted_sdxl, write_sd1_embedding, write_sdxl_embedding
from planted_tables import choose_text, drift, plant, vectors_of, words

from lib_embedmerge.actions.library_jobs import LIBRARY_JOBS
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.tokenizer import clip_tokenizer

TIMEOUT = 120


def good(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, and a library of two texts of another model."""
    planted = as_stored(plant(PLANTED_ROWS))
    other = drift(planted, 0.1, 0.4)
    (tmp_path / "models").mkdir()
    (tmp_path / "embeddings").mkdir()
    write_planted_sdxl(tmp_path / "models" / "base.safetensors", planted.tables)
    chance, pool = numpy.random.default_rng(1), words(PLANTED_ROWS)
    write_sdxl_embedding(tmp_path / "embeddings" / "new.safetensors", vectors_of(other, choose_text(chance, pool, 6)))
    write_sd1_embedding(tmp_path / "embeddings" / "old.pt", other["clip_l"][choose_text(chance, pool, 6)])
    return tmp_path


@pytest.fixture
def api(folder: Path) -> Ask:
    return api_of(CheckpointHost(folder / "embeddings", models=folder / "models"))


def test_restore(api: Ask, folder: Path) -> None:
    library = folder / "embeddings"
    before = {path.name: path.read_bytes() for path in library.iterdir()}
    asked: dict[str, Any] = {"embeddings": "all", "checkpoints": ["base"]}
    job = good(api("POST", "/restore", json=asked))["job"]
    LIBRARY_JOBS.get(job).wait(TIMEOUT)
    state = good(api("GET", f"/restore/{job}"))
    assert (state["state"], state["done"], state["total"], state["error"]) == ("done", 2, 2, None)
    assert [result["status"] for result in state["results"]] == ["planned", "planned"]
    assert {path.name: path.read_bytes() for path in library.iterdir()} == before
    job = good(api("POST", "/restore", json={**asked, "dry_run": False}))["job"]
    results = LIBRARY_JOBS.get(job).wait(TIMEOUT).results
    assert [result["status"] for result in results] == ["written", "written"]
    assert (library / "old-base.safetensors").is_file()
    assert good(api("DELETE", f"/restore/{job}"))["state"] == "done"
    assert api("GET", "/restore/nothing").status_code == 404


def test_convert(api: Ask, folder: Path) -> None:
    asked = {"embeddings": ["old"], "to": "sdxl", "checkpoint": "base"}
    job = good(api("POST", "/convert", json=asked))["job"]
    LIBRARY_JOBS.get(job).wait(TIMEOUT)
    state = good(api("GET", f"/convert/{job}"))
    (result,) = state["results"]
    assert (state["state"], result["status"]) == ("done", "written")
    assert sum(result["certainty"].values()) == 6
    assert clip_tokenizer().encode(result["text"].strip("'"))
    assert Path(result["file"]).is_file()
    assert api("POST", "/convert", json={**asked, "to": "flux"}).status_code == 422
