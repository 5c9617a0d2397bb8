"""The library's views and events: every row harmless and whole, faults in a sentence."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from action_hosts import MODEL, ROWS, write
from arrays import as_arrays, equal
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_model import random_model
from models import encoders, with_rows_scaled, write_sdxl
from test_views_harmless import check

from lib_embedmerge.actions.jobs import JOBS, JobState, Result
from lib_embedmerge.actions.library_effects import KnownEffect
from lib_embedmerge.actions.managing import LibraryListing
from lib_embedmerge.actions.shelf import ShelfEntry
from lib_embedmerge.core.architecture import SDXL
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.fit_status import FILTERS, FitStatus
from lib_embedmerge.embeddings.editing import Deletion, edit_notes
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding, read_embedding_header
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import UNEXPECTED, EmbedMergeError, StorageError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.fit import Fit
from lib_embedmerge.recipes.listing import Entry, FileFit
from lib_embedmerge.recipes.variant_writing import WRITTEN, RebuildResult
from lib_embedmerge.ui.html import MAX_EDITED
from lib_embedmerge.ui.library_handlers import LibraryHandlers
from lib_embedmerge.ui.views.entry_view import entries_view, fits_view, pictures_view
from lib_embedmerge.ui.views.job_view import job_view
from lib_embedmerge.ui.views.library_view import done_view
from lib_embedmerge.ui.views.shelf_view import (
    CUT,
    HAS_RECIPE,
    MAX_TEXTS,
    USABLE,
    finding_view,
    list_view,
    listing_view,
)

IMAGE = "<img src=x onerror=alert(1)>"
ANY = st.text(max_size=40)


def entry(name: str = "mine1", **changes: Any) -> Entry:
    values = {
        "date": "2026-11-23T10:00:00Z",
        "count": 2,
        "architecture": SDXL,
        "tag": ModelTag(recipe="'cat'"),
        **changes,
    }
    return Entry(name, Path(f"{name}.safetensors"), **values)


def shelf(*entries: Entry, **changes: Any) -> LibraryListing:
    values = {"deletions": (), "warnings": (), **changes}
    return LibraryListing(Path("embeddings"), {one.path.name: one for one in entries}, **values)


def read_list(markup: str) -> dict[str, Any]:
    """What the script reads of a listing."""
    check(markup)
    (text,) = re.findall(r'<div class="embedmerge-data">(.*?)</div>', markup, re.DOTALL)
    assert not set(text) & set("<>&")
    return dict(json.loads(text))


def names(markup: str) -> list[str]:
    return [values[1] or PurePosixPath(values[0]).stem for values in read_list(markup)["files"]]


def concept(*entries: Entry) -> ShelfEntry:
    return ShelfEntry({one.path.name: one for one in entries})


def test_the_script_gets_what_it_searches_and_sorts_by() -> None:
    tag = ModelTag(recipe="'cat'+'dog'", notes="soft", made_for="Pony", tool="Kohya")
    picture = Entry("inside1", Path("sub/outside.png"), "some day", 1, SDXL)
    torn = entry("torn1", count=None, architecture=None, tag=None, reason="It is torn.")
    entries = {"mine1.safetensors": entry(tag=tag), "sub/outside.png": picture, "torn1.safetensors": torn}
    found = read_list(listing_view(LibraryListing(Path("embeddings"), entries, (), ())))
    assert found["files"] == [
        ["mine1.safetensors", 0, 0, USABLE | HAS_RECIPE, 2, 0, 0, 0, "2026-11-23T10:00:00Z", "'cat'+'dog'", "soft", ""],
        ["sub/outside.png", "inside1", 1, USABLE, 1, 0, 1, 1, "some day", "", "", ""],
        ["torn1.safetensors", 0, 2, 0, 0, 1, 1, 1, "2026-11-23T10:00:00Z", "", "", ""],
    ]
    assert (found["families"], found["models"], found["tools"]) == (["SDXL", ""], ["Pony", ""], ["Kohya", ""])


def test_variants_belong_to_the_embedding() -> None:
    variant = ModelTag(variant_of="mine1")
    orphan = ModelTag(variant_of="gone1")
    entries = (
        entry("gone1-a", tag=orphan),
        entry("gone1-b", tag=orphan),
        entry("mine1-pony", tag=variant),
        entry("mine1"),
        entry("mine1x", tag=variant),  # its name does not say so, and renaming would not rename it
    )
    found = read_list(listing_view(shelf(*entries)))
    assert [values[2] for values in found["files"]] == [0, 0, 3, 3, 4]


def test_an_entry_shows_a_concept() -> None:
    tag = ModelTag(recipe="'cat'+'dog'", notes="soft", made_for="Pony")
    variant = entry("mine1-noob", tag=ModelTag(variant_of="mine1", made_for="Noob", recipe="'cat'+'dog'"))
    page = check(entries_view([concept(entry(tag=tag), variant)]))
    for shown in ("mine1", "2 vectors", "SDXL", "Pony", "Noob", "'cat'+'dog'", "soft", "2026-11-23"):
        assert shown in page.text
    assert page.values("data-embedmerge-text") == ["'cat'+'dog'"]
    chips = [each for _, each in page.found if each.get("class") == "embedmerge-model"]
    assert [each["data-embedmerge-place"] for each in chips] == ["mine1.safetensors", "mine1-noob.safetensors"]
    for label in ("Make for this model", "Use in prompt", "Inspect", "Open recipe"):
        assert label in page.text


def test_what_cannot_be_used_says_why() -> None:
    torn = entry("torn1", count=None, architecture=None, tag=None, reason="It is torn.")
    hidden = entry("hidden1", reason="'hidden1.safetensors' is not used.")
    page = check(entries_view([concept(torn), concept(hidden)]))
    assert "cannot be usedIt is torn." in page.text
    assert "is not used." in page.text
    assert page.text.count("Use in prompt") == 1


def test_an_empty_library() -> None:
    assert "no embeddings here yet" in check(listing_view(shelf())).text


def test_the_frame() -> None:
    page = check(finding_view())
    assert {*FILTERS} < {*page.values("value")}
    for word in (
        "any effect",
        "effect: same",
        "effect: slight",
        "effect: clear",
        "effect: other",
        "effect: not measured",
    ):
        assert word in page.text
    assert page.values("data-embedmerge-layout") == ["cards", "rows", "files"]
    assert check(list_view()).values("data-embedmerge-unmeasured") == ["not measured"]


def test_long_texts_do_not_come_along() -> None:
    tag = ModelTag(recipe="'" + "x" * MAX_EDITED + "'", notes="y" * (MAX_EDITED + 1))
    (values,) = read_list(listing_view(shelf(entry(tag=tag))))["files"]
    assert [len(text) for text in values[9:11]] == [MAX_EDITED, MAX_EDITED]
    assert values[3] & CUT
    assert check(entries_view([concept(entry(tag=tag))])).values("data-embedmerge-text") == []


def test_many_long_texts_are_cut_so_that_the_page_stays_small() -> None:
    tag = ModelTag(recipe="r" * 3000, notes="n" * 3000)
    entries = [entry(f"n{number}", tag=tag) for number in range(1200)]
    markup = listing_view(shelf(*entries))
    assert len(markup) < MAX_TEXTS * 1.2
    assert all(values[3] & CUT and len(values[10]) == 1000 for values in read_list(markup)["files"])


def test_pictures() -> None:
    drawn = pictures_view({"a": ("7", b"\xff\xd8x"), "b": ("8", None)})
    page = check(drawn)
    assert page.values("data-embedmerge-picture") == ["7", "8"]
    assert page.values("src") == ["data:image/jpeg;base64,/9h4"]


def test_an_effect_is_filtered_by_the_word_of_its_badge() -> None:
    fit = FileFit(Path("a"), Fit(FitStatus.DIFFERS, ""))
    effects = {"a": [KnownEffect("pony", 0.02, remade=False), KnownEffect("noob", 0.7, remade=False)]}
    page = check(fits_view({"a": fit, "b": fit}, effects=effects))
    assert page.values("data-embedmerge-band") == ["other", ""]
    assert page.values("data-embedmerge-effect") == ["0.700000", ""]
    assert "2 others: other 70%" in page.text


@settings(max_examples=60)
@given(name=ANY, recipe=ANY, notes=ANY, date=ANY, reason=ANY)
def test_any_texts_are_harmless(name: str, recipe: str, notes: str, date: str, reason: str) -> None:
    tag = ModelTag(recipe=recipe, notes=notes, made_for=name, variant_of=notes)
    rows = [entry("x1", tag=tag, date=date, reason=reason or None), entry("y1", architecture=None, reason=reason)]
    kept = Deletion(name, date, (name, recipe))
    listed = {name: rows[0], recipe: rows[1]}
    assert json.loads(json.dumps(read_list(listing_view(LibraryListing(Path("a"), listed, (kept,), (notes,))))))
    check(entries_view([ShelfEntry({place: one}) for place, one in listed.items()]))
    fits = {
        name: FileFit(Path(name), Fit(FitStatus.DIFFERS, notes), stand_in=recipe),
        recipe: FileFit(Path(recipe), error=notes),
    }
    check(fits_view(fits))
    check(done_view(notes, kept))
    result = Result(Path("a"), Path("b"), RebuildResult(Path("a"), "skipped", reason=notes))
    check(job_view(name, JobState("failed", 1, 2, None, (result,), StorageError(notes, hint=recipe))))


def test_fits_say_what_to_do_and_what_stands_in() -> None:
    layers = Fit(FitStatus.MADE_FOR_THIS_MODEL, "The tables are.", layers_differ=("clip_g",))
    fits = {"a": FileFit(Path("a"), Fit(FitStatus.DIFFERS, "Far."), stand_in="a-pony"), "b": FileFit(Path("b"), layers)}
    page = check(fits_view(fits))
    assert page.values("data-embedmerge-status") == [FitStatus.DIFFERS, FitStatus.MADE_FOR_THIS_MODEL]
    titles = page.values("title")
    assert f"Far. {FitStatus.DIFFERS.advice}" in titles
    assert "In prompts, a-pony is used instead." in titles
    assert "layers differ" in page.text


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (JobState("running", 3, 12, 7.2), "3 of 12, about 7 s left"),
        (JobState("running", 0, 12), "0 of 12"),
        (JobState("running", 1, 99999, 6000.0), "about 100 min left"),
        (JobState("done", 0, 0), "Rebuilt: nothing to rebuild."),
        (JobState("cancelled", 0, 2), "Cancelled before anything was rebuilt."),
        (JobState("failed", 0, 2), "Stopped before anything was rebuilt."),
        (JobState("failed", 0, 2, error=EmbedMergeError("It broke.", hint="Look.")), "It broke. Look."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_jobs(state: JobState, shown: str) -> None:
    page = check(job_view("id", state))
    assert shown in page.text
    is_running = state.state == "running"
    assert page.values("data-embedmerge-job") == ["id"] * is_running
    assert page.values("data-embedmerge-ended") == ["id"] * (not is_running)


# The events


@pytest.fixture
def host(tmp_path: Path) -> MemoryHost:
    folder = tmp_path / "embeddings"
    build_embedding(random_model(ROWS, seed=9), "'cat'", "mine1").save(folder)
    write(folder / "plain1.safetensors")
    return MemoryHost(MODEL, folder)


def places(*names: str) -> str:
    return json.dumps([f"{name}.safetensors" for name in names])


def noting(shown: str, *names: str) -> str:
    """As the script says whose notes are saved, and what was in the box before it was edited."""
    return json.dumps([shown, *json.loads(places(*names))])


def written_notes(host: MemoryHost, *names: str) -> list[str | None]:
    tags = [read_embedding_header(host.embeddings_folder / f"{name}.safetensors").tag for name in names]
    return [None if tag is None else tag.notes for tag in tags]


def test_the_page_used(host: MemoryHost) -> None:
    events = LibraryHandlers(lambda: host)
    assert names(events.list_library()) == ["mine1", "plain1"]
    drawn = check(events.draw_entries("6\n" + json.dumps([["mine1.safetensors"], ["gone"], 7, ["plain1.safetensors"]])))
    assert drawn.values("data-embedmerge-asked") == ["6"]
    assert "mine1" in drawn.text
    assert "plain1" in drawn.text
    fits = check(events.measure_fits(f"7\n{places('mine1', 'plain1')}"))
    assert fits.values("data-embedmerge-asked") == ["7"]
    assert fits.values("data-embedmerge-status") == [FitStatus.DIFFERS, "unknown origin"]
    assert "saved" in check(events.save_notes("soft", noting("", "mine1"))).text
    assert "soft" in events.list_library()
    assert "Renamed to yours1" in check(events.rename("yours1", places("mine1"))).text
    deleted = check(events.delete(places("yours1", "plain1")))
    assert "Deleted 2 files." in deleted.text
    assert "Restored 2 files." in check(events.restore_deleted(deleted.values("data-embedmerge-order")[0])).text
    assert names(events.list_library()) == ["plain1", "yours1"]


LONG = "y" * (MAX_EDITED + 1)


@pytest.mark.parametrize(
    ("mine", "plain", "shown"),
    [
        ("soft", None, ""),
        ("soft", "hard", ""),
        ("soft", "hard", "hard"),
        (LONG, None, ""),
    ],
    ids=["of one, not shown", "different ones", "of another one", "too long to be shown"],
)
def test_notes_that_were_not_shown_are_not_replaced_unasked(
    host: MemoryHost, mine: str, plain: str | None, shown: str
) -> None:
    for name, notes in (("mine1", mine), ("plain1", plain)):
        edit_notes(host.embeddings_folder / f"{name}.safetensors", notes or "")
    events = LibraryHandlers(lambda: host)
    for text in ("", "new"):
        asked = check(events.save_notes(text, noting(shown, "mine1", "plain1")))
        assert "Nothing was saved yet." in asked.text
        assert "mine1" in asked.text
        assert written_notes(host, "mine1", "plain1") == [mine, plain]
    assert asked.values("data-embedmerge-order") == [places("mine1", "plain1")]
    assert asked.values("data-embedmerge-press") == ["renote"]
    assert "saved" in check(events.replace_notes("new", places("mine1", "plain1"))).text
    assert written_notes(host, "mine1", "plain1") == ["new", "new"]


@pytest.mark.parametrize(
    ("mine", "plain", "shown"),
    [
        ("", "", ""),
        ("soft\r\nred", "soft\nred", "soft\nred"),
        ("soft", "", " soft\n"),
        ("new", "", ""),
    ],
    ids=["none", "the same", "blanks", "as it is already"],
)
def test_notes_that_were_shown_are_replaced(host: MemoryHost, mine: str, plain: str, shown: str) -> None:
    for name, notes in (("mine1", mine), ("plain1", plain)):
        edit_notes(host.embeddings_folder / f"{name}.safetensors", notes)
    events = LibraryHandlers(lambda: host)
    assert "The notes were saved." in check(events.save_notes("new", noting(shown, "mine1", "plain1"))).text
    assert written_notes(host, "mine1", "plain1") == ["new", "new"]


def test_notes_have_no_room_in_other_formats(host: MemoryHost) -> None:
    (host.embeddings_folder / "old1.pt").write_bytes(b"x")
    (host.embeddings_folder / "torn1.safetensors").write_bytes(b"torn")
    host.library().refresh()
    events = LibraryHandlers(lambda: host)
    assert "cannot store notes or recipes" in check(events.save_notes("new", '["", "old1.pt"]')).text
    assert "too small" in check(events.save_notes("new", noting("", "torn1"))).text
    assert "No embedding is chosen" in check(events.save_notes("new", '[""]')).text


def test_a_new_name_that_prompts_may_not_find_is_warned_of(host: MemoryHost) -> None:
    page = check(LibraryHandlers(lambda: host).rename("my style", places("mine1")))
    assert "Renamed to my style." in page.text
    assert "'my style' has a space, where ComfyUI ends a name; 'my_style' is safe." in page.text


def test_a_text_is_found_and_kept(host: MemoryHost) -> None:
    vectors = evaluate(parse("'cat'*0.5+'dog'*0.25"), MODEL)
    Embedding("merged1", as_arrays(vectors)).save(host.embeddings_folder)
    host.library().refresh()
    events = LibraryHandlers(lambda: host)
    found = check(events.recover_text(places("merged1")))
    assert "The expression gives" in found.text
    assert found.values("data-embedmerge-text") == ["'cat'*0.5 + 'dog'*0.25"] * 2
    assert found.values("data-embedmerge-order") == [places("merged1")]
    assert (
        "The text was saved as the recipe of merged1.safetensors."
        in check(events.save_recovered_text(places("merged1"))).text
    )
    kept = load_embedding(host.embeddings_folder / "merged1.safetensors")
    assert kept.recipe == "'cat'*0.5 + 'dog'*0.25"
    assert all(equal(rows, vectors[key]) for key, rows in kept.vectors.items())
    plain = check(events.recover_text(places("plain1")))  # no merge of tokens
    assert plain.values("data-embedmerge-order") == []
    assert "No combination of tokens" in plain.text
    assert "not saved" in events.save_recovered_text(places("plain1"))
    assert "Only one embedding" in events.recover_text(places("plain1", "mine1"))


def test_checkpoints_compared(host: MemoryHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = encoders()
    files = {
        "base": write_sdxl(tmp_path / "base.safetensors", base),
        "pony": write_sdxl(tmp_path / "pony.safetensors", with_rows_scaled(base, [2368])),
    }
    monkeypatch.setattr(host, "checkpoints", lambda: files)
    events = LibraryHandlers(lambda: host)
    page = check(events.compare(["base", "pony"], " "))
    assert "cat" in page.text
    assert "'gone' no longer exists." in check(events.compare(["base", "pony", "gone"], "")).text
    assert "two" in events.compare(["base"], "")
    assert "Nothing follows +" in events.compare(["base", "pony"], "'cat'+")


def test_a_rebuild(host: MemoryHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sdxl(tmp_path / "pony.safetensors", encoders())
    monkeypatch.setattr(host, "checkpoints", lambda: {"pony": path, "bad\ud800": path})
    events = LibraryHandlers(lambda: host)
    assert events.list_checkpoints() == ("pony",)
    assert "'gone' no longer exists." in check(events.start_rebuild(["pony", "gone"], places("mine1"))).text
    begun = check(events.start_rebuild(["pony"], places("mine1", "plain1")))
    identity = (begun.values("data-embedmerge-job") or [""])[0]
    if identity:
        JOBS.get(identity).wait(60)
        begun = check(events.show_job(identity))
    assert "1 written" in begun.text
    assert "1 skipped" in begun.text
    assert (host.embeddings_folder / "mine1-pony.safetensors").exists()
    assert "No checkpoint is chosen" in events.start_rebuild([], places("mine1"))
    assert "No embedding is chosen" in events.start_rebuild(["pony"], "[]")


class Held(MemoryHost):
    """A host that holds a rebuild up at its first file."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        super().__init__(MODEL, folder)
        self.checkpoint = checkpoint
        self.reached, self.may_go_on = threading.Event(), threading.Event()

    def checkpoints(self) -> dict[str, Path]:
        return {"pony": self.checkpoint}

    def embedding_saved(self, path: Path) -> None:
        self.reached.set()
        assert self.may_go_on.wait(60)
        super().embedding_saved(path)


@pytest.fixture
def held(host: MemoryHost, tmp_path: Path) -> Iterator[Held]:
    held = Held(host.embeddings_folder, write_sdxl(tmp_path / "pony.safetensors", encoders()))
    yield held
    held.may_go_on.set()


def test_a_rebuild_is_cancelled(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_embedmerge.recipes.rebuild._GROUP", 1)
    events = LibraryHandlers(lambda: held)
    begun = check(events.start_rebuild(["pony"], places("mine1", "plain1")))
    (identity,) = begun.values("data-embedmerge-job")
    assert held.reached.wait(60)
    JOBS.get(identity).cancel()
    held.may_go_on.set()
    assert "Cancelled: 1 written." in check(events.cancel_job(identity)).text
    assert "job is unknown" in events.show_job("x")


def test_a_rebuild_stays_in_sight(held: Held) -> None:
    events = LibraryHandlers(lambda: held)
    assert events.show_running_job() == ""
    (identity,) = check(events.start_rebuild(["pony"], places("mine1", "plain1"))).values("data-embedmerge-job")
    assert held.reached.wait(60)
    reloaded = LibraryHandlers(lambda: held)  # as another page, or after a reload
    for shown, said in (
        (reloaded.show_running_job(), ""),
        (reloaded.start_rebuild(["pony"], places("mine1")), "is already running"),
        (reloaded.start_rebuild([], places("mine1")), "No checkpoint is chosen"),
    ):
        page = check(shown)
        assert page.values("data-embedmerge-job") == [identity]
        assert page.values("data-embedmerge-press") == ["cancel"]
        assert said in page.text
    held.may_go_on.set()
    JOBS.get(identity).wait(60)
    assert reloaded.show_running_job() == ""


@pytest.mark.parametrize(
    "sent",
    ["", "[]", "{}", "[1]", "not json", "[" * 100_000, "null", '"mine1.safetensors"'],
    ids=lambda sent: ascii(sent[:20]),
)
def test_what_is_no_list_of_places(host: MemoryHost, sent: str) -> None:
    events = LibraryHandlers(lambda: host)
    assert "No embedding is chosen" in events.delete(sent)
    for answer in (events.measure_fits, events.draw_entries, events.draw_pictures, events.draw_named_pictures):
        page = check(answer(f"1\n{sent}"))
        assert page.values("data-embedmerge-place") == page.values("data-embedmerge-name") == []


def test_a_fault_is_told_in_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> MemoryHost:
        raise ZeroDivisionError

    events = LibraryHandlers(broken)
    for answer in (
        events.list_library(),
        events.measure_fits("1\n[]"),
        events.make_for_model("[]"),
        events.delete("[]"),
        events.restore_deleted("x"),
        events.save_notes("", ""),
    ):
        assert UNEXPECTED in answer
    assert events.list_checkpoints() == ()
    assert "Traceback" in caplog.text


def test_written_is_what_a_job_counts() -> None:
    result = Result(Path("a"), Path("b"), RebuildResult(Path("a"), WRITTEN, Path("a-b.safetensors")))
    assert "a-b.safetensors" in check(job_view("x", JobState("done", 1, 1, None, (result,)))).text


def test_an_image_in_a_name_stays_a_text(tmp_path: Path) -> None:
    write(tmp_path / "plain1.safetensors").rename(tmp_path / f"{IMAGE}.safetensors")
    events = LibraryHandlers(lambda: MemoryHost(MODEL, tmp_path))
    assert names(events.list_library()) == [IMAGE]
    page = check(events.draw_entries("1\n" + json.dumps([[f"{IMAGE}.safetensors"]])))
    assert IMAGE in page.text
    assert "img" not in [tag for tag, _ in page.found]
