"""What embeddings of a library do on other models than the active one: measured, kept by content, and shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from effect_models import write_model
from memory_model import random_model

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.actions import library_effects
from lib_embedmerge.actions.active_checkpoint import find_active_checkpoint, find_meter_fault
from lib_embedmerge.actions.effect_store import EffectStore, MeasuredOn, StoredEffect
from lib_embedmerge.actions.library_effects import (
    KnownEffect,
    LibraryEffectRequest,
    find_known_effects,
    identify_embedding,
    measure_library,
)
from lib_embedmerge.actions.library_jobs import LibraryJobState
from lib_embedmerge.actions.measuring_effect import EffectRequest, measure_effects
from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS, LibraryEffectJob
from lib_embedmerge.checkpoints import meter_cache
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.embeddings.metadata import edit_metadata
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.ui.measuring_handlers import MeasuringHandlers
from lib_embedmerge.ui.views.effect_view import effect_badge, library_effect_view

TIMEOUT = 120


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "a.safetensors")
    write_model(folder / "b.safetensors", unet_share=0.05)
    return folder


@pytest.fixture
def host(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointHost:
    """A host on the model a, with one embedding, and a user who has measured nothing yet."""
    monkeypatch.setattr(library_effects, "STORE", EffectStore(tmp_path / "kept"))
    host = CheckpointHost(tmp_path / "embeddings", checkpoint=models / "a.safetensors", models=models)
    open_checkpoint(models / "a.safetensors").build("red dress", name="dress").save(host.embeddings_folder)
    return host


def measure(host: CheckpointHost, models: Path, *, remade: bool = False) -> float:
    file = host.embeddings_folder / "dress.safetensors"
    request = LibraryEffectRequest([file], models / "a.safetensors", [models / "b.safetensors"], remade, host.library())
    (answer,) = measure_library(request)
    (effect,) = answer["effects"]
    assert effect["reason"] is None
    assert effect["effect"] is not None
    return effect["effect"]


def find(host: CheckpointHost, name: str = "dress") -> list[KnownEffect]:
    file = host.embeddings_folder / f"{name}.safetensors"
    return list(find_known_effects(host, {"x": file}).get("x", ()))


def test_what_is_measured_is_found_again_from_either_model(host: CheckpointHost, models: Path) -> None:
    assert find(host) == []
    effect = measure(host, models)
    (expected,) = measure_effects(
        [models / "a.safetensors", models / "b.safetensors"],
        EffectRequest(embedding=host.embeddings_folder / "dress.safetensors"),
    )
    assert effect == expected.effect
    assert find(host) == [KnownEffect("b.safetensors", effect, remade=False)]
    host.choose("b.safetensors")
    assert find(host) == [KnownEffect("a.safetensors", effect, remade=False)]
    again = measure(host, models, remade=True)
    assert [one.remade for one in find(host)] == [False, True]
    assert again == pytest.approx(effect)  # the models have equal text encoders


def test_it_is_kept_by_content(host: CheckpointHost, models: Path) -> None:
    effect = measure(host, models)
    file = host.embeddings_folder / "dress.safetensors"
    shutil.copyfile(file, host.embeddings_folder / "copy.safetensors")
    edit_metadata(file, {"embedmerge.notes": "another note"})
    assert [one.effect for one in find(host)] == [one.effect for one in find(host, "copy")] == [effect]
    embedding = load_embedding(file)
    other = {key: rows * 2 for key, rows in embedding.vectors.items()}
    Embedding("dress", other, embedding.metadata).save(host.embeddings_folder, overwrite=True)
    assert find(host) == []


def test_a_model_that_changed_has_no_effects(host: CheckpointHost, models: Path, tmp_path: Path) -> None:
    measure(host, models)
    other = write_model(tmp_path / "c.safetensors", unet_share=0.1)
    assert find(CheckpointHost(host.embeddings_folder, checkpoint=other)) == []
    measured = LibraryEffectRequest([host.embeddings_folder / "dress.safetensors"], other, [models / "b.safetensors"])
    list(measure_library(measured))
    assert [one.checkpoint for one in find(CheckpointHost(host.embeddings_folder, checkpoint=other))] == [
        "b.safetensors"
    ]


def test_what_cannot_be_measured_says_why(host: CheckpointHost, models: Path, tmp_path: Path) -> None:
    (host.embeddings_folder / "torn.safetensors").write_bytes(b"torn")
    sdxl = write_model(tmp_path / "sdxl.safetensors", "sdxl")
    files = [host.embeddings_folder / f"{name}.safetensors" for name in ("torn", "dress")]
    calls: list[tuple[int, int]] = []
    request = LibraryEffectRequest(files, models / "a.safetensors", [sdxl, models / "b.safetensors"])
    torn, dress = measure_library(request, lambda done, total: calls.append((done, total)))
    assert all(one["effect"] is None and one["reason"] for one in torn["effects"])
    assert [one["effect"] is None for one in dress["effects"]] == [True, False]
    done = [share for share, _ in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1]


@pytest.mark.parametrize(
    "content",
    [
        b"torn", b"[]", b'{"schema": 0, "effects": {}}', b'{"schema": 2, "models": [], "effects": []}',
        b'{"schema": 2, "effects": {}}', b'{"schema": 2, "models": [], "effects": {"x": 3}}',
        b'{"schema": 2, "models": [["a", "A"], ["b", "B"], 3], "effects": {"x": [[0, 1, false, 1], 1]}}',
        b'{"schema": 2, "models": [["a", "A"], 3], "effects": {"x": [[0, 1, false, 0.5]]}}',
        b'{"schema": 2, "models": [["a", "A"]], "effects": {"x": [[0, 1, false, 0.5], [-1, 0, false, 0.5]]}}',
        b'{"schema": 2, "models": [["a", "A"], ["b", "B"]], "effects": {"x": [[0, 1, false, NaN]]}}',
        b'{"schema": 2, "models": [["a", "A"], ["b", "B"]], "effects": {"x": [[0, 1, false, -1.0]]}}',
    ],
)  # fmt: skip
def test_a_damaged_store_is_empty_and_can_be_written(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "library.json").write_bytes(content)
    store = EffectStore(tmp_path)
    assert store.find("x") == ()
    effect = StoredEffect(MeasuredOn("a", "A"), MeasuredOn("b", "B"), remade=False, effect=0.5)
    store.keep("x", [effect])
    assert EffectStore(tmp_path).find("x") == (effect,)
    swapped = StoredEffect(effect.second, effect.first, remade=False, effect=0.25)
    store.keep("x", [swapped])
    assert store.find("x") == (swapped,)
    store.write()
    assert EffectStore(tmp_path).find("x") == (swapped,)


def make_effect(first: str, second: str, effect: float = 0.5) -> StoredEffect:
    return StoredEffect(MeasuredOn(first, first.upper()), MeasuredOn(second, second.upper()), False, effect)


def test_effects_are_written_some_at_a_time(tmp_path: Path) -> None:
    store, file = EffectStore(tmp_path), tmp_path / "library.json"
    store.keep("one", [make_effect("a", "b")])
    first = file.read_bytes()
    for number in range(30):
        store.keep(f"more{number}", [make_effect("a", "c")])
    assert file.read_bytes() == first
    assert len(EffectStore(tmp_path).find("more7")) == 0
    assert store.find("more7") == (make_effect("a", "c"),)
    EffectStore(tmp_path).keep("other", [make_effect("a", "d")])  # another program
    assert store.find("other") and store.find("more7")
    store.write()
    found = EffectStore(tmp_path)
    assert all(found.find(name) for name in ("one", "more0", "more29", "other"))
    assert file.read_text(encoding="utf-8").count('"C"') == 1  # each title once


def test_the_store_knows_its_models(tmp_path: Path) -> None:
    store = EffectStore(tmp_path)
    store.keep("x", [make_effect("a", "b")])
    for known in (store, EffectStore(tmp_path)):
        assert [known.has_model(name) for name in "abc"] == [True, True, False]


def test_the_store_keeps_the_last_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_embedmerge.actions.effect_store._MOST", 2)
    store = EffectStore(tmp_path)
    effect = StoredEffect(MeasuredOn("a", "A"), MeasuredOn("b", "B"), remade=False, effect=0.5)
    for name in ("one", "two", "one", "three"):
        store.keep(name, [effect])
    assert [bool(store.find(name)) for name in ("one", "two", "three")] == [True, False, True]


def test_a_folder_that_cannot_be_written_only_forgets(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = EffectStore(tmp_path / "file")
    store.keep("x", [StoredEffect(MeasuredOn("a", "A"), MeasuredOn("b", "B"), remade=False, effect=0.5)])
    assert store.is_empty()


def test_what_is_measured_is_kept_if_it_is_cancelled(
    host: CheckpointHost, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EnoughError(Exception):
        pass

    # If another test has measured the second pair already, nothing is left of it to be cancelled.
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "cache"))
    file, others = host.embeddings_folder / "dress.safetensors", [models / "b.safetensors", models / "a.safetensors"]

    def stop_after_the_first(done: int, total: int) -> None:
        if done > total / 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        list(measure_library(LibraryEffectRequest([file], models / "a.safetensors", others), stop_after_the_first))
    assert [one.checkpoint for one in find(host)] == ["b.safetensors"]
    assert not EffectStore(library_effects.STORE._chosen).is_empty()


def test_a_file_that_is_deleted_or_replaced_meanwhile(host: CheckpointHost, models: Path) -> None:
    folder = host.embeddings_folder
    for name in ("gone", "replaced"):
        shutil.copyfile(folder / "dress.safetensors", folder / f"{name}.safetensors")
    other = load_embedding(folder / "dress.safetensors")
    bigger = Embedding("replaced", {key: rows * 3 for key, rows in other.vectors.items()})

    def change(done: int, total: int) -> None:
        if done:
            bigger.save(folder, overwrite=True)
            (folder / "gone.safetensors").unlink(missing_ok=True)

    files = [folder / f"{name}.safetensors" for name in ("replaced", "gone")]
    request = LibraryEffectRequest(files, models / "a.safetensors", [models / "b.safetensors"])
    replaced, gone = measure_library(request, change)
    assert replaced["effects"][0]["effect"] is not None
    assert gone["effects"][0]["effect"] is None
    assert gone["effects"][0]["reason"]
    assert find(host, "replaced") == []  # the effect is that of the file as it was
    assert [one.effect for one in find(host)] == [replaced["effects"][0]["effect"]]


def test_models_are_opened_once_and_states_of_embeddings_are_not_written(
    host: CheckpointHost, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = host.embeddings_folder
    for number in range(3):
        build = open_checkpoint(models / "a.safetensors").build(f"old castle {number}", name=f"castle{number}")
        build.save(folder)
    opened: list[str] = []
    real = library_effects.open_metered

    def count(paths: list[Path], *others: object) -> object:
        opened.extend(path.name for path in paths)
        return real(paths, *others)  # type: ignore[arg-type] # passes on what it was given

    monkeypatch.setattr(library_effects, "open_metered", count)
    monkeypatch.setattr(meter_cache, "cache_folder", lambda: tmp_path / "cache")
    files = sorted(folder.glob("*.safetensors"))
    request = LibraryEffectRequest(files, models / "a.safetensors", [models / "b.safetensors"])
    assert all(answer["effects"][0]["effect"] is not None for answer in measure_library(request))
    assert opened == ["a.safetensors", "b.safetensors"]
    assert len(list((tmp_path / "cache" / "effect").glob("states-*"))) == 1  # of the unrelated texts; equal encoders


def test_files_are_not_read_if_no_effect_is_of_the_active_model(
    host: CheckpointHost, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(host, models)
    other = write_model(tmp_path / "d.safetensors", unet_share=0.2)
    file = host.embeddings_folder / "dress.safetensors"
    measure_effects([other, models / "b.safetensors"], EffectRequest(embedding=file))  # its identity is known
    monkeypatch.setattr(library_effects, "_identify_file", lambda *_: pytest.fail("A file was read."))
    assert find(CheckpointHost(host.embeddings_folder, checkpoint=other)) == []


def test_headers_are_read_once(host: CheckpointHost, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(host, models)
    assert find(host)
    monkeypatch.setattr(library_effects, "open_checkpoint", lambda *_: pytest.fail("It was opened again."))
    monkeypatch.setattr(library_effects, "open_text_reader", lambda *_: pytest.fail("It was opened again."))
    assert find(host)


def test_an_embedding_is_its_vectors_and_its_recipe(host: CheckpointHost) -> None:
    embedding = load_embedding(host.embeddings_folder / "dress.safetensors")
    renamed = Embedding("other", embedding.vectors, embedding.metadata)
    assert identify_embedding(embedding) == identify_embedding(renamed)
    assert identify_embedding(Embedding("dress", embedding.vectors)) != identify_embedding(embedding)


class TestTheActiveModel:
    def test_is_a_file(self, host: CheckpointHost, models: Path) -> None:
        assert find_active_checkpoint(host) == models / "a.safetensors"
        assert find_meter_fault(host) is None

    def test_is_in_memory_only(self, tmp_path: Path) -> None:
        host = MemoryHost(random_model(), tmp_path)
        with pytest.raises(HostError, match="not in one checkpoint file"):
            find_active_checkpoint(host)
        assert "not in one checkpoint file" in str(find_meter_fault(host))

    def test_has_no_unet(self, models: Path, tmp_path: Path) -> None:
        without = tmp_path / "encoder.safetensors"
        _copy_encoder(models / "a.safetensors", without)
        fault = find_meter_fault(CheckpointHost(tmp_path, checkpoint=without))
        assert fault is not None
        assert "contains no U-Net" in fault

    def test_torch_is_missing(self, host: CheckpointHost, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert "torch" in str(find_meter_fault(host))


def _copy_encoder(model: Path, file: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model)
    save_file({name: value for name, value in tensors.items() if "cond_stage" in name}, file)


class TestTheSection:
    @pytest.fixture
    def handlers(self, host: CheckpointHost) -> MeasuringHandlers:
        return MeasuringHandlers(lambda: host)

    @pytest.mark.parametrize(
        ("titles", "places", "said"),
        [
            ([], "[]", "No other checkpoint is chosen"),
            (["a.safetensors"], "[]", "No other checkpoint is chosen"),
            (["gone.safetensors"], "[]", "no longer exists"),
            (["b.safetensors"], '["gone.safetensors"]', "no longer exists"),
        ],
    )
    def test_says_what_is_missing(self, handlers: MeasuringHandlers, titles: list[str], places: str, said: str) -> None:
        assert said in handlers.start_library(titles, places, remade=False)

    @pytest.mark.parametrize("places", ["[]", '["dress.safetensors"]'])
    def test_measures(self, handlers: MeasuringHandlers, host: CheckpointHost, places: str) -> None:
        shown = handlers.start_library(["b.safetensors"], places, remade=False)
        identity = next(iter(_find_job(shown)))
        MEASURING_JOBS.get(identity).wait(TIMEOUT)
        done = handlers.show_job(identity)
        assert "1 embedding measured." in done
        assert f"{find(host)[0].effect!r}" in done
        assert handlers.show_running("measured") == ""

    def test_a_second_one_waits_and_the_first_is_shown(
        self, handlers: MeasuringHandlers, host: CheckpointHost, models: Path
    ) -> None:
        identity = MEASURING_JOBS._begin(host, lambda: LibraryEffectJob(host, _measure_forever))
        shown = handlers.start_library(["b.safetensors"], "[]", remade=False)
        assert "What embeddings do on other models is already being measured, on the page Library." in shown
        assert f'data-embedmerge-job="{identity}"' in shown
        assert 'data-embedmerge-press="cancel_measured"' in handlers.show_running("measured")
        stopped = handlers.cancel_job(identity)
        assert "Cancelled. 0 embeddings measured." in stopped


def _measure_forever(progress: Callable[[int, int], None]) -> list[object]:
    while True:
        progress(1, 4)


def _find_job(shown: str) -> list[str]:
    import re

    return re.findall(r'data-embedmerge-(?:job|ended)="([^"]+)"', shown)


def make_answer(name: str, *effects: float | None) -> dict[str, object]:
    checkpoints = ("x/noob.safetensors", "y/noob.ckpt")
    answers = [
        {"checkpoint": Path(one).name, "effect": effect, "reason": None if effect is not None else "It is torn."}
        for one, effect in zip(checkpoints, effects, strict=True)
    ]
    return {"name": name, "file": name, "effects": answers}


def test_results_have_a_heading_for_each_checkpoint_and_count_those_that_were_measured() -> None:
    answers = (make_answer("cat", 0.1, 0.2), make_answer("dog", None, None), make_answer("tree", None, 0.3))
    shown = library_effect_view("x", LibraryJobState("done", 3, 3, results=answers))
    assert shown.count(">noob</th>") == 2
    assert "2 embeddings measured. 1 embedding could not be measured." in shown
    none = library_effect_view("x", LibraryJobState("done", 1, 1, results=answers[1:2]))
    assert "0 embeddings measured. 1 embedding could not be measured." in none
    assert "embedmerge-is-good" not in none


def test_a_badge_names_the_largest_effect() -> None:
    one, two = (
        KnownEffect("pony<b>.safetensors", 0.021, remade=False),
        KnownEffect("noob.safetensors", 0.34, remade=True),
    )
    assert effect_badge([]) == ""
    assert "pony&lt;b&gt;: slight 2.1%" in effect_badge([one])
    badge = effect_badge([one, two])
    assert "pony&lt;b&gt;: slight 2.1%" in badge  # what a rebuild would leave is in the tooltip
    assert "noob: clear, the effect is 34% after a rebuild" in badge
    assert "It does not say what a picture will look like." in badge
    other = KnownEffect("noob.safetensors", 0.2, remade=False)
    assert "2 others: clear 20%" in effect_badge([one, two, other])
    assert "noob: clear 34%" in effect_badge([two])
