"""Restoring in the page Library: texts are found first, and only what is ticked is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from action_hosts import MODEL, write
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from models import encoders, write_sdxl
from test_views_harmless import check

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.actions.background_jobs import find_job
from lib_embedmerge.actions.library_jobs import LibraryJobState
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.ui.library_handlers import LibraryHandlers
from lib_embedmerge.ui.views.restoring_view import MAX_RESULTS, restoring_view

IMAGE = "<img src=x onerror=alert(1)>"
ANY = st.text(max_size=40)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryHost:
    """A library with an embedding whose text is lost, one that was trained, and a checkpoint."""
    checkpoint = write_sdxl(tmp_path / "pony.safetensors", encoders())
    folder = tmp_path / "embeddings"
    Embedding("lost", build_embedding(open_checkpoint(checkpoint), "'a cat'", "lost").vectors).save(folder)
    write(folder / "trained.safetensors")
    host = MemoryHost(MODEL, folder)
    monkeypatch.setattr(host, "checkpoints", lambda: {"pony": checkpoint})
    return host


def places(*names: str) -> str:
    return json.dumps([f"{name}.safetensors" for name in names])


def finish(events: LibraryHandlers, begun: Markup) -> Any:
    """What the page shows when the job has ended."""
    for identity in check(begun).values("data-embedmerge-job"):
        find_job(identity).wait(60)
        begun = events.show_job(identity)
    return check(begun)


def contents(host: MemoryHost) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in host.embeddings_folder.iterdir() if file.is_file()}


def test_only_what_is_ticked_is_written(host: MemoryHost) -> None:
    before = contents(host)
    events = LibraryHandlers(lambda: host)
    assert "No checkpoint is chosen" in events.start_restore([], "[]", only_sure=False)
    found = finish(events, events.start_restore(["pony"], "[]", only_sure=False))
    assert "Nothing is written yet. 1 file can be restored:" in found.text
    assert "2 files:" in found.text
    assert "'a cat'" in found.text
    assert contents(host) == before
    (number,) = found.values("data-embedmerge-result")
    (identity,) = found.values("data-embedmerge-ended")
    for nothing in ([identity], [identity, "99", "x", "-1"]):
        assert "No file is chosen" in events.write_restored(json.dumps(nothing))
    assert "unknown" in events.write_restored(json.dumps(["another", number]))
    assert contents(host) == before
    written = finish(events, events.write_restored(json.dumps([identity, number])))
    assert "1 file: 1 exact; 1 written." in written.text
    assert written.values("data-embedmerge-result") == []
    assert load_embedding(host.embeddings_folder / "lost.safetensors").recipe == "'a cat'"
    assert contents(host)["trained.safetensors"] == before["trained.safetensors"]


def test_of_the_ticked_embeddings_with_a_report_to_keep(host: MemoryHost) -> None:
    events = LibraryHandlers(lambda: host)
    found = finish(events, events.start_restore(["pony"], places("trained"), only_sure=True))
    assert "1 file: 1 not text; 1 skipped." in found.text
    assert found.values("data-embedmerge-result") == []
    (report,) = found.values("data-embedmerge-text")
    assert "<h1>Restored embeddings</h1>" in report
    assert "no longer exists" in events.start_restore(["pony"], places("gone"), only_sure=False)


def result(**changes: Any) -> dict[str, Any]:
    certainty = {"exact": 1, "sure": 0, "likely": 2, "not_text": 0}
    return {
        "source": "folder/a.pt", "verdict": "text", "certainty": certainty, "text": "'cat'", "group": 2,
        "written": [], "status": "planned", "reason": None, "planned": ["folder/a.safetensors"],
        "checkpoint": None, "drift": {}, "warnings": [], **changes,
    }  # fmt: skip


@given(ANY, ANY, ANY, ANY)
def test_names_and_texts_are_harmless(name: str, text: str, reason: str, warning: str) -> None:
    answer = result(source=name + IMAGE, text=text + IMAGE, reason=reason + IMAGE, warnings=[warning + IMAGE])
    page = check(restoring_view(IMAGE, LibraryJobState("done", 1, 1, results=(answer,))))
    assert page.values("data-embedmerge-order") == [IMAGE]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (LibraryJobState("running", 0, 7), "The vectors are compared"),
        (LibraryJobState("running", 3, 7, 12.0), "3 of 7, about 12 s left"),
        (LibraryJobState("cancelled", 0, 7), "Cancelled. Nothing was written."),
        (LibraryJobState("failed", 0, 7, error=StorageError("It is torn.", hint="Mend it.")), "It is torn. Mend it."),
        (LibraryJobState("done", 1, 1, results=(result(),)), "1 exact, 2 likely"),
        (LibraryJobState("done", 2, 2, results=(result(),) * (MAX_RESULTS + 3)), "and 3 results more"),
    ],
)
def test_each_state_says_what_it_is(state: LibraryJobState, said: str) -> None:
    assert said in check(restoring_view("1", state)).text
