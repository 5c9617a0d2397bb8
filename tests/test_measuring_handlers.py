"""The sections of the tab that measure effects: groups of checkpoints, what matters in a text, shorter texts, and
embeddings that are compressed, ported and repaired."""

from __future__ import annotations

import html
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import TABLE, save
from effect_models import SD1_PREFIX, make_tensors, write_model
from test_views_harmless import Page

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.actions.background_jobs import BackgroundJob, find_job
from lib_embedmerge.actions.jobs import JOBS
from lib_embedmerge.actions.library_jobs import LibraryJobState
from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS, GroupsJob, LibraryEffectJob, TextJob, TokensJob
from lib_embedmerge.actions.values import ReadingOptions
from lib_embedmerge.errors import StorageError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.ui.handlers import Handlers
from lib_embedmerge.ui.measuring_handlers import GROUPED_BY, MeasuringHandlers
from lib_embedmerge.ui.optimising_handlers import OptimiseForm, OptimisingHandlers
from lib_embedmerge.ui.views.optimised_view import optimised_view
from lib_embedmerge.ui.views.weighing_view import shortened_view, tokens_view

TIMEOUT = 300
BY_MODELS, BY_VECTORS = GROUPED_BY
IMAGE = "<img src=x onerror=alert(1)>"
DRESS = '["dress.safetensors"]'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with equal text encoders and other U-Nets, and one with another token table."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "a.safetensors")
    write_model(folder / "b.safetensors", unet_share=0.3)
    tensors = make_tensors()
    rows = tensors[SD1_PREFIX + TABLE]
    save(folder / "c.safetensors", {**tensors, SD1_PREFIX + TABLE: rows.flip(0)})
    return folder


@pytest.fixture
def host(models: Path, tmp_path: Path) -> CheckpointHost:
    host = CheckpointHost(tmp_path / "embeddings", checkpoint=models / "a.safetensors", models=models)
    open_checkpoint(models / "a.safetensors").build("red dress", name="dress").save(host.embeddings_folder)
    return host


@pytest.fixture
def measuring(host: CheckpointHost) -> MeasuringHandlers:
    return MeasuringHandlers(lambda: host)


@pytest.fixture
def optimising(host: CheckpointHost) -> OptimisingHandlers:
    return OptimisingHandlers(lambda: host)


def find_identity(shown: str) -> str:
    """The id of the job that a view shows."""
    found = re.search(r'data-embedmerge-(?:job|ended)="([^"]+)"', shown)
    assert found, shown
    return found[1]


def finish(measuring: MeasuringHandlers, shown: str) -> Page:
    """The view of the job when it is done."""
    identity = find_identity(shown)
    find_job(identity).wait(TIMEOUT)
    return Page(measuring.show_job(identity))


def hold(host: CheckpointHost, make: Callable[[CheckpointHost], BackgroundJob[Any, Any]]) -> str:
    """Start a measurement that goes on until it is cancelled, and return its id."""
    return MEASURING_JOBS._begin(host, lambda: make(host))  # type: ignore[arg-type,return-value] # any kind


def measure_forever(progress: Callable[[int, int], None]) -> list[object]:
    while True:
        progress(1, 4)


class TestGroups:
    def test_of_models(self, measuring: MeasuringHandlers) -> None:
        titles = ["a.safetensors", "b.safetensors", "c.safetensors"]
        page = finish(measuring, measuring.start_groups(titles, "cat", BY_MODELS, "10", "[]"))
        assert "3 groups. The models of a group read this text alike" in page.text
        assert "other: more" in page.text
        assert "rebuild_groups" not in page.values("data-embedmerge-press")
        (picture,) = page.values("src")
        assert picture.startswith("data:image/svg+xml;base64,")

    def test_that_can_share_files_are_rebuilt_for_their_middles(
        self, measuring: MeasuringHandlers, host: CheckpointHost
    ) -> None:
        titles = ["a.safetensors", "b.safetensors", "c.safetensors"]
        shown = measuring.start_groups(titles, "", BY_VECTORS, "1%", DRESS)
        page = finish(measuring, shown)
        assert "2 groups. The models of a group can share a file" in page.text
        assert "Rebuild for these groups: 2 versions of 1 embedding" in page.text
        (order,) = (
            data["data-embedmerge-order"] for _, data in page.found
            if data.get("data-embedmerge-press") == "rebuild_groups"
        )  # fmt: skip
        rebuilding = find_identity(measuring.rebuild_for_groups(html.unescape(order)))
        results = JOBS.get(rebuilding).wait(TIMEOUT).results
        assert [result.checkpoint.name for result in results] == ["a.safetensors", "c.safetensors"]

    @pytest.mark.parametrize("by", [BY_MODELS, BY_VECTORS])
    def test_of_many_embeddings_are_measured_with_some_and_made_for_all(
        self, measuring: MeasuringHandlers, host: CheckpointHost, by: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lib_embedmerge.actions.rebuilding_groups._MOST", 1)
        folder = host.embeddings_folder
        shutil.copyfile(folder / "dress.safetensors", folder / "second.safetensors")
        shown = measuring.start_groups(
            ["a.safetensors", "c.safetensors"], "", by, "1", '["dress.safetensors", "second.safetensors"]'
        )
        page = finish(measuring, shown)
        assert "1 of these embeddings" in page.text
        job = MEASURING_JOBS.get(find_identity(shown))
        assert isinstance(job, GroupsJob)
        assert len(job.request.files) == 1
        if by == BY_VECTORS:
            assert "2 versions of 2 embeddings" in page.text
            rebuilding = find_identity(measuring.rebuild_for_groups(f'["{find_identity(shown)}"]'))
            sources = {result.source.name for result in JOBS.get(rebuilding).wait(TIMEOUT).results}
            assert sources == {"dress.safetensors", "second.safetensors"}

    def test_of_common_words(self, measuring: MeasuringHandlers) -> None:
        page = finish(measuring, measuring.start_groups(["a.safetensors", "b.safetensors"], " ", "?", "10,5", "[]"))
        assert "read common words alike: the effect between any two of them is at most 10%." in page.text

    @pytest.mark.parametrize(
        ("titles", "source", "limit", "said"),
        [
            (["a.safetensors"], "", "10", "Comparing needs two checkpoints."),
            (["a.safetensors", "x.safetensors"], "", "10", "no longer exists"),
            (["a.safetensors", "b.safetensors"], "'cat'*", "10", "No number follows *"),
            (["a.safetensors", "b.safetensors"], "", "ten", "is not a limit"),
            (["a.safetensors", "b.safetensors"], "", "-1", "is not a limit"),
            (["a.safetensors", "b.safetensors"], "", "inf", "is not a limit"),
            (["a.safetensors", "b.safetensors"], "", "nan", "is not a limit"),
        ],
    )
    def test_what_is_refused(
        self, measuring: MeasuringHandlers, titles: list[str], source: str, limit: str, said: str
    ) -> None:
        assert said in Page(measuring.start_groups(titles, source, BY_MODELS, limit, "[]")).text

    def test_unknown_groups_cannot_be_rebuilt_for(self, measuring: MeasuringHandlers, host: CheckpointHost) -> None:
        assert "unknown" in measuring.rebuild_for_groups('["x"]')
        assert "unknown" in measuring.rebuild_for_groups("")
        text = hold(host, lambda host: TextJob(host, "cat", measure_forever))
        assert "no longer known" in measuring.rebuild_for_groups(f'["{text}"]')
        find_job(text).cancel()
        find_job(text).wait(TIMEOUT)

    def test_that_are_not_measured_yet(self, host: CheckpointHost) -> None:
        from lib_embedmerge.actions.grouping_models import GroupsRequest
        from lib_embedmerge.errors import HostError

        with pytest.raises(HostError, match="not known yet"):
            GroupsJob(host, {}, GroupsRequest()).find_medoids()


class TestAJobOfAnotherPlace:
    """Its progress is not drawn in a place whose buttons cannot cancel it."""

    def test_is_named_where_a_text_is_asked_for(self, measuring: MeasuringHandlers, host: CheckpointHost) -> None:
        library = hold(host, lambda host: LibraryEffectJob(host, measure_forever))
        for shown in (measuring.weigh_tokens("cat"), measuring.shorten("cat")):
            assert "What embeddings do on other models is already being measured, on the page Library." in shown
            assert library not in shown
            assert "data-embedmerge-press" not in shown
        assert library in measuring.start_library(["b.safetensors"], DRESS, remade=False)
        measuring.cancel_job(library)

    def test_is_named_where_the_library_is_asked_for(self, measuring: MeasuringHandlers, host: CheckpointHost) -> None:
        text = hold(host, lambda host: TextJob(host, "cat", measure_forever))
        titles = ["a.safetensors", "b.safetensors"]
        shown_in = [
            measuring.start_library(["b.safetensors"], DRESS, remade=False),
            measuring.start_groups(titles, "cat", BY_MODELS, "10", "[]"),
        ]
        for shown in shown_in:
            assert "A text is already being measured, on the page Make." in shown
            assert text not in shown
        measuring.cancel_job(text)

    def test_is_a_rebuild_where_groups_are_rebuilt_for(
        self, measuring: MeasuringHandlers, host: CheckpointHost, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        titles = ["a.safetensors", "b.safetensors"]
        grouped = find_identity(measuring.start_groups(titles, "", BY_VECTORS, "10", DRESS))
        find_job(grouped).wait(TIMEOUT)
        may_end = threading.Event()
        monkeypatch.setattr(BackgroundJob, "_is_stopped", lambda self: not may_end.wait(TIMEOUT))
        rebuilding = JOBS.start(host, [host.embeddings_folder / "dress.safetensors"], [models / "b.safetensors"])
        held = hold(host, lambda host: TextJob(host, "cat", measure_forever))
        shown = measuring.rebuild_for_groups(f'["{grouped}"]')
        may_end.set()
        assert "A rebuild of these embeddings is already running." in shown
        assert find_identity(shown) == rebuilding
        assert held not in shown
        measuring.cancel_job(held)
        JOBS.get(rebuilding).wait(TIMEOUT)


class TestWhatMatters:
    def test_is_a_heat(self, measuring: MeasuringHandlers) -> None:
        page = finish(measuring, measuring.weigh_tokens("red dress"))
        assert "What matters in red dress" in page.text
        assert page.values("role").count("listitem") == 2
        assert any("embedmerge-level-5" in name for name in page.values("class"))

    @pytest.mark.parametrize(("source", "said"), [("'cat'*", "No number follows *"), ("", "has no tokens")])
    def test_a_mistake(self, measuring: MeasuringHandlers, source: str, said: str) -> None:
        shown = measuring.weigh_tokens(source)
        assert said in (finish(measuring, shown).text if "data-embedmerge-job" in shown else shown)

    def test_a_new_text_replaces_the_one_that_is_measured(
        self, measuring: MeasuringHandlers, host: CheckpointHost
    ) -> None:
        first = hold(host, lambda host: TokensJob(host, "cat", measure_forever))
        page = finish(measuring, measuring.weigh_tokens("dog"))
        assert find_job(first).state().state == "cancelled"
        assert "dog" in page.text
        assert "Cancelled." in Page(measuring.show_job(first)).text

    def test_is_read_as_the_page_reads_it(self, measuring: MeasuringHandlers) -> None:
        counts = {}
        for attention in ("drop", "keep"):
            page = finish(measuring, measuring.weigh_tokens("(cat), red", ReadingOptions(attention)))
            counts[attention] = page.values("role").count("listitem")
        assert counts == {"drop": 3, "keep": 4}  # ( cat ), red
        source = ", ".join(["(red dress)", "old castle", "robot in the rain"] * 9)
        page = finish(measuring, measuring.shorten(source, ReadingOptions("keep")))
        shortened, _ = page.values("data-embedmerge-text")
        assert set(shortened.split(", ")) <= set(source.split(", "))

    def test_follows_recipes_as_the_page_does(self, measuring: MeasuringHandlers, host: CheckpointHost) -> None:
        host.choose("c.safetensors")  # with another token table, so that the recipe gives other vectors
        shown = [
            finish(measuring, measuring.weigh_tokens("dress", ReadingOptions(follow=follow)))
            for follow in (False, True)
        ]
        figures = [re.findall(r"[\d.]+%", page.text) for page in shown]
        assert figures[0] != figures[1]

    def test_a_shorter_text(self, measuring: MeasuringHandlers) -> None:
        source = ", ".join(["red dress", "old castle", "robot in the rain"] * 9)
        page = finish(measuring, measuring.shorten(source))
        shortened, whole = page.values("data-embedmerge-text")
        assert whole == source
        assert len(shortened) < len(source)
        assert "Of cutting the text off" in page.text

    def test_a_short_text(self, measuring: MeasuringHandlers) -> None:
        assert "The text has 2 vectors and fits as it is." in finish(measuring, measuring.shorten("blue robot")).text

    def test_texts_are_harmless(self) -> None:
        token = {"token": IMAGE, "start": 0, "end": 1, "effect": 0.0, "quick": 0.0}
        shown = Page(tokens_view("x", LibraryJobState("done", 1, 1, results=(token,)), IMAGE))
        assert "img" not in [name for name, _ in shown.found]
        short = {"text": IMAGE, "vectors": 1, "before": 2, "dropped": [IMAGE], "effect": 9.0, "cutting": 0.0}
        shown = Page(shortened_view("x", LibraryJobState("done", 1, 1, results=(short,)), IMAGE))
        assert "img" not in [name for name, _ in shown.found]

    @pytest.mark.parametrize(
        ("source", "buttons"),
        [
            ("a cat", ["What matters"]),
            ("", []),
            ("'cat'*", []),
            ("cat, " * 60, ["What matters", "Split into 2", "Shorten to 75"]),
            ("'" + "cat " * 80 + "'", ["What matters", "Split into 2"]),
        ],
    )
    def test_its_buttons_are_beside_the_text(self, host: CheckpointHost, source: str, buttons: list[str]) -> None:
        shown = Handlers(lambda: host, prompts=True).read_typed_text("1", source, "none", ReadingOptions())
        assert re.findall(r"<button[^>]*>([^<]+)</button>", shown) == buttons


class TestImprovedVectors:
    def test_a_compressed_text(self, optimising: OptimisingHandlers, host: CheckpointHost) -> None:
        shown = optimising.compress(OptimiseForm("[]", "short1"), "red dress", "1")
        page = finish(MeasuringHandlers(lambda: host), shown)
        assert "Saved short1.safetensors with 1 vector" in page.text
        assert "pruned" in page.text
        assert load_embedding(host.embeddings_folder / "short1.safetensors").count == 1

    @pytest.mark.parametrize(
        ("start", "said"),
        [
            (lambda o: o.compress(OptimiseForm(DRESS), "", "many"), "is not a number of vectors"),
            (lambda o: o.compress(OptimiseForm(DRESS), "red dress", "1"), "needs a name"),
            (lambda o: o.compress(OptimiseForm(DRESS, "a/b"), "", "1"), "This name works"),
            (lambda o: o.compress(OptimiseForm(DRESS, "x1"), "'cat'*", "1"), "No number follows *"),
            (lambda o: o.compress(OptimiseForm("[]"), "", "1"), "No embedding is chosen."),
            (lambda o: o.port(OptimiseForm(DRESS), ""), "No checkpoint is chosen."),
            (lambda o: o.port(OptimiseForm(DRESS), "x.safetensors"), "no longer exists"),
            (lambda o: o.repair(OptimiseForm('["a.safetensors"]')), "no longer exists"),
        ],
    )
    def test_what_is_refused(
        self, optimising: OptimisingHandlers, start: Callable[[OptimisingHandlers], str], said: str
    ) -> None:
        assert said in Page(start(optimising)).text

    def test_what_fails_in_the_job(self, optimising: OptimisingHandlers, host: CheckpointHost) -> None:
        page = finish(MeasuringHandlers(lambda: host), optimising.compress(OptimiseForm(DRESS), "", "99"))
        assert "An embedding has 1 to 75 vectors, not 99." in page.text

    def test_a_text_is_ported_exactly(self, optimising: OptimisingHandlers, host: CheckpointHost) -> None:
        host.choose("c.safetensors")
        page = finish(MeasuringHandlers(lambda: host), optimising.port(OptimiseForm(DRESS), "a.safetensors"))
        assert "Every vector is text: the file has its recipe." in page.text

    def test_one_at_a_time(self, optimising: OptimisingHandlers, host: CheckpointHost) -> None:
        measuring = MeasuringHandlers(lambda: host)
        identity = find_identity(optimising.repair(OptimiseForm(DRESS)))
        second = optimising.repair(OptimiseForm(DRESS))
        assert "already being compressed" in second
        assert find_identity(second) == identity
        assert identity in measuring.show_running("optimised")
        assert measuring.show_running("grouped") == ""
        assert "Cancelled. Nothing was written." in finish(measuring, measuring.cancel_job(identity)).text

    def test_its_result_is_harmless(self) -> None:
        result = {
            "file": f"/x/{IMAGE}.safetensors", "vectors": 2, "objective": IMAGE, "seconds": 1.0, "notes": [IMAGE],
            "held_out": {"ours": None, "baselines": {IMAGE: 0.5}},
        }  # fmt: skip
        page = Page(optimised_view("x", LibraryJobState("done", 1, 1, results=(result,))))
        assert "not finite" in page.text
        assert "img" not in [name for name, _ in page.found]

    def test_why_it_failed(self) -> None:
        failed = LibraryJobState("failed", 0, 1, error=StorageError(IMAGE))
        assert IMAGE in Page(optimised_view("x", failed)).text


def test_a_job_that_is_slow_to_stop_says_so(measuring: MeasuringHandlers, host: CheckpointHost) -> None:
    may_stop = threading.Event()

    def measure(progress: Callable[[int, int], None]) -> list[object]:
        while not may_stop.wait(0.01):
            pass
        progress(1, 4)
        return []

    identity = hold(host, lambda host: TokensJob(host, "cat", measure))
    find_job(identity).cancel()
    slow = Page(measuring.show_job(identity))
    assert "The job stops after this step." in slow.text
    assert slow.values("data-embedmerge-job") == [identity]
    may_stop.set()
    assert "Cancelled." in finish(measuring, measuring.show_job(identity)).text
