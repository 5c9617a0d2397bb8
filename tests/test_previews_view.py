"""Preview pictures in the page Library: started, shown side by side, and kept only where they are ticked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from action_hosts import MODEL, write
from drawn_pictures import TIMEOUT, DrawnPictures, draw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_previewing import FIELDS, SETTINGS, wait_for_turn
from test_views_harmless import check

from lib_embedmerge.actions.background_jobs import find_job
from lib_embedmerge.actions.preview_jobs import PREVIEW_JOBS, PreviewState
from lib_embedmerge.actions.previewing import KeptPreviews, MadePicture, Subject
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.ui.library_handlers import LibraryHandlers
from lib_embedmerge.ui.preview_handlers import FIELDS as NAMES
from lib_embedmerge.ui.views.previews_view import kept_view, previews_view

IMAGE = "<img src=x onerror=alert(1)>"
ANY = st.text(max_size=40)
PAIRS = json.dumps([["one1.safetensors", "one1.safetensors"]])


@pytest.fixture
def host(tmp_path: Path) -> MemoryHost:
    host = MemoryHost(MODEL, tmp_path / "embeddings")
    host.pictures = DrawnPictures()
    write(host.embeddings_folder / "one1.safetensors")
    return host


@pytest.fixture
def handlers(host: MemoryHost) -> LibraryHandlers:
    return LibraryHandlers(lambda: host)


def identity(shown: str) -> str:
    (found,) = (values["data-embedmerge-job"] for _, values in check(shown).found if "data-embedmerge-job" in values)
    return found


def test_a_picture_is_made_and_kept(host: MemoryHost, handlers: LibraryHandlers) -> None:
    assert isinstance(host.pictures, DrawnPictures)
    host.pictures.may_go_on.clear()
    shown = handlers.start_previews(FIELDS, PAIRS)
    job = identity(shown)
    assert "0 of 2" in check(shown).text
    assert identity(handlers.show_last_previews()) == job
    assert handlers.show_running_job() == ""
    assert "already being made" in check(handlers.start_previews(FIELDS, PAIRS)).text
    host.pictures.may_go_on.set()
    find_job(job).wait(TIMEOUT)
    page = check(handlers.show_job(job))
    assert page.text.startswith(
        "Done: 1 picture with an embedding; none saved.DPM++ 2M, Karras, 9 steps, 64 × 96, CFG 5.5"
    )
    assert [element for element, _ in page.found].count("img") == 2
    assert "No picture is chosen." in check(handlers.keep_previews(json.dumps([job]))).text
    assert check(handlers.show_last_previews()).text == page.text
    refused = check(handlers.start_previews(FIELDS, "[]")).text
    assert refused.startswith("No embedding is chosen.")
    assert page.text in refused
    kept = check(handlers.keep_previews(json.dumps([job, "1"])))
    assert handlers.show_last_previews() == ""
    assert kept.text.startswith("1 embedding has its picture now. The web UI's own cards show it after Refresh.")
    assert "all of them saved" in kept.text
    assert not any(values.get("type") == "checkbox" for _, values in kept.found)
    assert (host.embeddings_folder / "one1.preview.png").exists()


def test_a_job_that_waits_says_so(host: MemoryHost, handlers: LibraryHandlers) -> None:
    assert isinstance(host.pictures, DrawnPictures)
    host.pictures.is_free.clear()
    job = identity(handlers.start_previews(FIELDS, PAIRS))
    assert "The web UI makes other pictures first" in check(handlers.show_job(job)).text
    wait_for_turn(PREVIEW_JOBS, job)
    assert "Cancelled. There is no picture." in check(handlers.cancel_job(job)).text
    host.pictures.is_free.set()
    find_job(job).wait(TIMEOUT)


@pytest.mark.parametrize(
    ("fields", "pairs", "said"),
    [
        ({"steps": "many"}, PAIRS, "The number of steps is not a number: 'many'."),
        ({}, "[]", "No embedding is chosen."),
        ({}, "nonsense", "No embedding is chosen."),
        ({}, '[[], ["gone.safetensors"]]', "'gone.safetensors' no longer exists."),
        ({}, '[["../one1.safetensors"]]', "no longer exists."),
    ],
)
def test_what_is_refused(handlers: LibraryHandlers, fields: dict[str, str], pairs: str, said: str) -> None:
    assert said in check(handlers.start_previews({**FIELDS, **fields}, pairs)).text


@pytest.mark.parametrize("message", ["", "[]", '["unknown", "1"]', "nonsense"])
def test_pictures_of_no_job_are_not_kept(handlers: LibraryHandlers, message: str) -> None:
    assert "This job is unknown." in check(handlers.keep_previews(message)).text


def test_the_section_is_filled_with_the_tab_txt2img(handlers: LibraryHandlers, host: MemoryHost) -> None:
    choices = handlers.read_tab_settings(json.dumps({"prompt": "a house", "sampler": "DPM++ 2M", "seed": "-1"}))
    assert (choices.samplers, choices.schedulers) == (("Euler", "DPM++ 2M"), ("Automatic", "Karras"))
    assert tuple(choices.values) == NAMES
    assert choices.values == {
        "prompt": "a house", "negative_prompt": "", "sampler": "DPM++ 2M", "scheduler": "Automatic",
        "steps": "20", "width": "1024", "height": "1024", "guidance": "7", "seed": "",
    }  # fmt: skip
    own = handlers.read_tab_settings("")
    unusable = {"prompt": " ", "sampler": IMAGE, "steps": "0", "width": "12345", "guidance": "x", "other": "1"}
    assert handlers.read_tab_settings(json.dumps(unusable)) == own
    assert own.values["prompt"] == "detailed picture, {embedding}"
    for message in ("[]", "{", '{"steps": 9}', "null"):
        assert handlers.read_tab_settings(message) == own
    host.pictures = None
    assert handlers.read_tab_settings("{}").samplers == ()


def test_a_grid_is_a_text_for_the_script(handlers: LibraryHandlers, host: MemoryHost) -> None:
    assert isinstance(host.pictures, DrawnPictures)
    message = json.dumps([json.dumps({"prompt": IMAGE}), "one1.safetensors"])
    pages = [check(handlers.set_up_grid(message)) for _ in range(2)]
    texts = [dict(page.found[0][1]) for page in pages]
    assert {text["data-embedmerge-text"] for text in texts} == {f"{IMAGE}\nX: one1, Y: "}
    assert texts[0]["data-embedmerge-asked"] != texts[1]["data-embedmerge-asked"]
    assert "No embedding is chosen." in check(handlers.set_up_grid("[]")).text
    host.pictures.has_grid = False
    assert "has no script X/Y/Z plot" in check(handlers.set_up_grid(message)).text


PICTURES = st.none() | st.sampled_from([Path("there.png"), Path("gone.png")])
RESULTS = st.builds(
    MadePicture,
    st.none() | st.builds(Subject, ANY.map(Path), ANY, st.none() | ANY),
    PICTURES,
    st.none() | ANY,
    st.booleans(),
)


STATES = st.builds(
    PreviewState,
    st.sampled_from(["running", "done", "cancelled", "failed"]),
    st.integers(0, 9),
    st.integers(0, 9),
    st.none() | st.floats(0, 1e6),
    st.lists(RESULTS, max_size=5).map(tuple),
    st.none() | ANY.map(HostError),
    st.booleans(),
    st.none() | ANY.map(lambda name: replace(SETTINGS, sampler=name)),
    st.frozensets(st.integers(0, 5)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STATES, ANY)
def test_any_result_is_drawn(tmp_path: Path, state: PreviewState, name: str) -> None:
    (tmp_path / "there.png").write_bytes(draw(SETTINGS))
    results = tuple(made._replace(picture=made.picture and tmp_path / made.picture) for made in state.results)
    check(previews_view(name, replace(state, results=results)))
    check(kept_view(KeptPreviews([name], 1, [name, IMAGE])))


def test_hostile_names(tmp_path: Path) -> None:
    (tmp_path / "made.png").write_bytes(draw(SETTINGS))
    results = (
        MadePicture(None, tmp_path / "made.png"),
        MadePicture(Subject(Path(f"{IMAGE}.safetensors"), IMAGE), tmp_path / "made.png"),
        MadePicture(Subject(Path(f"{IMAGE}.safetensors"), IMAGE), None, IMAGE),
    )
    markup = str(previews_view("1", PreviewState("done", 3, 3, None, results, settings=SETTINGS)))
    assert "<img src=x" not in markup
    assert check(markup).text.count(IMAGE) == 3
