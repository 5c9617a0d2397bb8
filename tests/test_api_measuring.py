"""The routes that measure effects in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from api_client import Ask, api_of
from effect_models import write_model

from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions.background_jobs import AlreadyRunningError
from lib_embedmerge.actions.measuring_effect import EffectRequest, measure_effects
from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS, MeasuringJob
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost

TIMEOUT = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measuring")
    write_model(folder / "models" / "a.safetensors")
    write_model(folder / "models" / "b.safetensors", unet_share=0.05)
    open_checkpoint(folder / "models" / "a.safetensors").build("red dress", name="dress").save(folder / "embeddings")
    return folder


@pytest.fixture
def host(folder: Path) -> CheckpointHost:
    return CheckpointHost(folder / "embeddings", models=folder / "models")


@pytest.fixture
def api(host: CheckpointHost) -> Ask:
    return api_of(host)


def good(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def finish(api: Ask, route: str, asked: dict[str, Any]) -> Any:
    job = good(api("POST", f"/{route}", json=asked))["job"]
    MEASURING_JOBS.get(job).wait(TIMEOUT)
    state = good(api("GET", f"/{route}/{job}"))
    assert (state["state"], state["error"]) == ("done", None)
    assert state["done"] == state["total"]
    return state["results"]


def test_effect(api: Ask, folder: Path) -> None:
    found = finish(api, "effect", {"checkpoints": ["a", "b"], "embedding": "dress"})
    paths = [folder / "models" / f"{name}.safetensors" for name in ("a", "b")]
    file = folder / "embeddings" / "dress.safetensors"
    assert found == [one.as_json() for one in measure_effects(paths, EffectRequest(embedding=file))]
    assert finish(api, "effect", {"checkpoints": ["a", "b"], "source": "red dress", "clip_skip": 2})[0]["effect"] > 0


def test_groups(api: Ask) -> None:
    (group,) = finish(api, "groups", {"checkpoints": ["a", "b"], "words": ["cat"], "limit": 99})
    assert [Path(member).stem for member in group["members"]] == ["a", "b"]
    assert len(finish(api, "groups", {"checkpoints": ["a", "b"], "embeddings": ["dress"], "limit": 0})) == 2


def test_tokens_and_shorten(api: Ask) -> None:
    found = finish(api, "tokens", {"checkpoint": "a", "source": "red dress"})
    assert [one["token"] for one in found] == ["red", "dress"]
    (short,) = finish(api, "shorten", {"checkpoint": "a", "source": "red dress, cat, robot", "vectors": 3})
    assert short["vectors"] <= 3


@pytest.mark.parametrize(
    ("route", "asked", "status"),
    [
        ("effect", {"checkpoints": ["a", "b"]}, 422),
        ("effect", {"checkpoints": ["a", "a"], "source": "cat"}, 422),
        ("effect", {"checkpoints": ["a", "c"], "source": "cat"}, 404),
        ("effect", {"checkpoints": ["a", "b"], "source": "'cat"}, 422),
        ("groups", {"checkpoints": ["a"], "limit": -1}, 422),
        ("tokens", {"checkpoint": "a", "source": "'cat'*"}, 422),
        ("shorten", {"checkpoint": "a", "source": "cat", "vectors": 76}, 422),
    ],
)
def test_what_is_refused_at_once(api: Ask, route: str, asked: dict[str, Any], status: int) -> None:
    response = api("POST", f"/{route}", json=asked)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_a_job_that_fails_says_why(api: Ask) -> None:
    job = good(api("POST", "/shorten", json={"checkpoint": "a", "source": "'cat'"}))["job"]
    MEASURING_JOBS.get(job).wait(TIMEOUT)
    state = good(api("GET", f"/shorten/{job}"))
    assert state["state"] == "failed"
    assert "Only a prompt" in state["error"]["message"]


def test_a_job_can_be_stopped(host: CheckpointHost) -> None:
    def measure(progress: Any) -> list[Any]:
        while True:
            progress(1, 4)

    identity = MEASURING_JOBS._begin(host, lambda: MeasuringJob(host, measure))
    job = MEASURING_JOBS.get(identity)
    with pytest.raises(AlreadyRunningError, match="A measurement is already running"):
        MEASURING_JOBS.effect(host, [], EffectRequest("cat"))
    while not (state := job.state()).done:
        pass
    assert (state.state, state.done, state.total) == ("running", 1, 4)
    assert state.seconds_left is not None
    job.cancel()
    assert job.wait(TIMEOUT).state == "cancelled"
