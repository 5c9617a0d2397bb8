"""Rebuilds in the background: what they give, how they are stopped, and that one runs at a time."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from models import write_models

from lib_embedmerge import open_checkpoint
from lib_embedmerge.actions import background_jobs
from lib_embedmerge.actions.background_jobs import AlreadyRunningError, NoSuchJobError
from lib_embedmerge.actions.jobs import JobState, RebuildJob, RebuildJobs
from lib_embedmerge.checkpoints.model import CheckpointModel
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.errors import HostError, StorageError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.recipes.build import build_embedding

CAT = 2368
TIMEOUT = 60


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`; `pony` and `third`, in which the rows of `cat` are others; a torn file."""
    return write_models(tmp_path_factory.mktemp("models"), [CAT], third="third")


class Told(CheckpointHost):
    """A host that remembers what it was told, and can be held up."""

    def __init__(self, embeddings: Path, models: Path) -> None:
        super().__init__(embeddings, checkpoint=models / "base.safetensors", models=models)
        self.told: list[tuple[str, str]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.reached = threading.Event()

    def before_replacing(self, path: Path) -> None:
        self.told.append(("replacing", path.name))

    def embedding_saved(self, path: Path) -> None:
        self.told.append(("saved", path.name))
        self.reached.set()
        assert self.may_go_on.wait(TIMEOUT)


@pytest.fixture
def host(tmp_path: Path, models: Path) -> Iterator[Told]:
    host = Told(tmp_path / "embeddings", models)
    model = host.active().model
    for name, source in (("one1", "'cat'"), ("two2", "'cat'+'dog'"), ("dog3", "'dog'")):
        build_embedding(model, source, name).save(host.embeddings_folder)
    yield host
    host.may_go_on.set()


def sources(host: Told) -> list[Path]:
    return [host.library().path(name) for name in ("one1", "two2", "dog3")]


def run(host: Told, *checkpoints: Path, folder: Path | None = None) -> JobState:
    return RebuildJob.start(host, sources(host), checkpoints, folder).wait(TIMEOUT)


def test_every_pair_has_a_result_and_the_host_is_told(host: Told, models: Path) -> None:
    pony, third = models / "pony.safetensors", models / "third.safetensors"
    state = run(host, pony, third)
    assert (state.state, state.done, state.total, state.seconds_left, state.error) == ("done", 6, 6, None, None)
    assert [(one.source.stem, one.checkpoint, one.rebuilt.status) for one in state.results] == [
        (name, checkpoint, status)
        for checkpoint in (pony, third)
        for name, status in (("one1", "written"), ("two2", "written"), ("dog3", "same vectors"))
    ]
    assert state.counts == {"written": 4, "same vectors": 2}
    written = [f"{name}-{model}.safetensors" for model in ("pony", "third") for name in ("one1", "two2")]
    assert host.told == [("saved", name) for name in written]
    assert "one1-pony" in host.library().names()
    plain = json.loads(json.dumps(state.as_json()))
    assert plain["counts"] == {"written": 4, "same vectors": 2}
    assert plain["results"][0] == {
        "source": str(state.results[0].source),
        "checkpoint": str(pony),
        "file": str(host.embeddings_folder / "one1-pony.safetensors"),
        "status": "written",
        "reason": None,
    }


def test_a_file_is_let_go_of_before_it_is_replaced(host: Told, models: Path) -> None:
    run(host, models / "pony.safetensors")
    model = open_checkpoint(models / "base.safetensors")
    build_embedding(model, "'cat'*2", "one1").save(host.embeddings_folder, overwrite=True)
    host.told.clear()
    state = run(host, models / "pony.safetensors")
    assert [one.rebuilt.status for one in state.results] == ["written", "up to date", "same vectors"]
    assert host.told == [("replacing", "one1-pony.safetensors"), ("saved", "one1-pony.safetensors")]


def test_variants_go_where_they_are_wanted(host: Told, models: Path, tmp_path: Path) -> None:
    state = run(host, models / "pony.safetensors", folder=tmp_path / "other")
    assert state.counts["written"] == 2
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == [
        "one1-pony.safetensors",
        "two2-pony.safetensors",
    ]


def test_a_checkpoint_that_cannot_be_read_does_not_end_it(host: Told, models: Path) -> None:
    state = run(host, models / "torn.safetensors", models / "pony.safetensors")
    assert (state.state, state.done) == ("done", 6)
    assert state.counts == {"skipped": 3, "written": 2, "same vectors": 1}
    for source, result in zip(sources(host), state.results[:3], strict=True):
        assert result.source == result.rebuilt.source == source
        assert "torn.safetensors" in (result.rebuilt.reason or "")


@pytest.mark.parametrize(("group", "done"), [(1, 1), (2, 2), (64, 3)])
def test_it_stops_and_tells_of_each_file_that_it_wrote(
    host: Told, models: Path, monkeypatch: pytest.MonkeyPatch, group: int, done: int
) -> None:
    monkeypatch.setattr("lib_embedmerge.recipes.rebuild._GROUP", group)
    host.may_go_on.clear()
    job = RebuildJob.start(host, sources(host), [models / "pony.safetensors", models / "third.safetensors"])
    assert host.reached.wait(TIMEOUT)
    assert job.state() == JobState("running", 0, 6)
    assert job.wait(0).state == "running"
    job.cancel()
    host.may_go_on.set()
    state = job.wait(TIMEOUT)
    assert (state.state, state.done, state.total, state.seconds_left) == ("cancelled", done, 6, None)
    names = {path.name for path in host.embeddings_folder.iterdir()}
    written = [one.rebuilt.file.name for one in state.results if one.rebuilt.file]
    assert written == ["one1-pony.safetensors", "two2-pony.safetensors"][:done]
    assert names == {"one1.safetensors", "two2.safetensors", "dog3.safetensors", *written}
    assert host.told == [("saved", name) for name in written]


def test_how_long_it_will_take_is_told_by_its_pace(host: Told, models: Path) -> None:
    job = RebuildJob.start(host, sources(host)[:2], [models / "pony.safetensors"])
    job.wait(TIMEOUT)
    job._results.pop()  # as in the middle of it
    job._end = None
    left = job.state().seconds_left
    assert left is not None
    assert 0 < left < TIMEOUT


@pytest.mark.parametrize("first", [True, False], ids=["the first model", "the second"])
def test_it_stops_while_a_model_is_fingerprinted(
    host: Told, models: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    begun = threading.Event()
    real = CheckpointModel.fingerprints
    slow = models / ("pony.safetensors" if first else "third.safetensors")

    def fingerprints(self: CheckpointModel, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        if progress and self.path == slow:
            begun.set()
            for done in range(TIMEOUT * 100):
                progress(done, TIMEOUT * 100)
                time.sleep(0.01)
        return real(self)

    monkeypatch.setattr(CheckpointModel, "fingerprints", fingerprints)
    job = RebuildJob.start(host, sources(host), [models / "pony.safetensors", models / "third.safetensors"])
    assert begun.wait(TIMEOUT)
    job.cancel()
    state = job.wait(TIMEOUT)
    assert (state.state, state.done) == ("cancelled", 0 if first else 3)
    assert len(list(host.embeddings_folder.glob("*-third*"))) == 0


def test_a_program_that_does_not_take_a_file_is_told_beside_it(
    host: Told, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise HostError("It is busy.")

    monkeypatch.setattr(host, "embedding_saved", fail)
    state = run(host, models / "pony.safetensors")
    assert (state.state, state.counts["written"]) == ("done", 2)
    written = [one.rebuilt for one in state.results if one.rebuilt.status == "written"]
    for one in written:
        assert one.file is not None and one.file.exists()
        assert one.reason == f"Saved, but {host.title} has not loaded it yet: It is busy."


@pytest.mark.parametrize("error", [StorageError("It is gone."), ZeroDivisionError()], ids=["of theirs", "of ours"])
def test_faults_end_it_with_a_sentence(
    host: Told,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    logged = isinstance(error, ZeroDivisionError)

    def fail(_: Path, **__: object) -> None:
        raise error

    monkeypatch.setattr("lib_embedmerge.checkpoints.model.open_checkpoint", fail)
    with caplog.at_level(logging.ERROR):
        state = run(host, models / "pony.safetensors")
    assert (state.state, state.done) == ("failed", 0)
    assert state.error is not None
    assert state.error.message == ("Something went wrong inside EmbedMerge." if logged else "It is gone.")
    assert ("ZeroDivisionError" in caplog.text) is logged
    assert json.loads(json.dumps(state.as_json()))["error"]["message"] == state.error.message


def test_one_at_a_time_for_a_library(host: Told, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_embedmerge.recipes.rebuild._GROUP", 1)
    known = RebuildJobs()
    checkpoints = [models / "pony.safetensors"]
    host.may_go_on.clear()
    first = known.start(host, sources(host), checkpoints)
    assert known.running(host) == first
    with pytest.raises(AlreadyRunningError, match="already running"):
        known.start(host, sources(host), checkpoints)
    other = Told(tmp_path / "elsewhere", models)
    assert known.running(other) is None
    assert known.get(known.start(other, [], checkpoints)).wait(TIMEOUT) == JobState("done", 0, 0)
    known.get(first).cancel()
    host.may_go_on.set()
    assert known.get(first).wait(TIMEOUT).state == "cancelled"
    assert known.running(host) is None
    assert known.get(known.start(host, sources(host), checkpoints)).wait(TIMEOUT).state == "done"


def test_all_are_stopped_at_once(host: Told, models: Path, tmp_path: Path) -> None:
    known = RebuildJobs()
    checkpoints = [models / "pony.safetensors"]
    other = Told(tmp_path / "elsewhere", models)
    hosts = [host, other]
    for one in hosts:
        one.may_go_on.clear()
    started = [known.start(one, sources(host), checkpoints, one.embeddings_folder) for one in hosts]
    known.cancel_all()
    for one in hosts:
        one.may_go_on.set()
    assert [known.get(one).wait(TIMEOUT).state for one in started] == ["cancelled", "cancelled"]


def test_those_that_are_over_are_kept_for_a_while(host: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_jobs, "_KEPT", 2)
    known = RebuildJobs()
    started = []
    for _ in range(3):
        started.append(known.start(host, [], []))
        assert known.get(started[-1]).wait(TIMEOUT).state == "done"
    with pytest.raises(NoSuchJobError, match="rebuild is unknown"):
        known.get(started[0])
    assert len(set(started)) == 3
    assert known.get(started[1]).state().state == "done"
