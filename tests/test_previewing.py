"""Preview pictures: what is asked of the maker, what is refused, and what is kept; nothing is replaced unasked."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from action_hosts import MODEL, SD1_MODEL, NoModelHost, write
from drawn_pictures import TIMEOUT, DrawnPictures, draw

from lib_embedmerge.actions import managing, preview_jobs
from lib_embedmerge.actions.background_jobs import AlreadyRunningError
from lib_embedmerge.actions.preview_jobs import PreviewJobs, PreviewState
from lib_embedmerge.actions.previewing import MAX_GRID, MAX_SUBJECTS, read_settings, write_grid
from lib_embedmerge.core.prompt_frames import PromptFrame
from lib_embedmerge.embeddings.editing import delete_files, list_deletions
from lib_embedmerge.embeddings.preview_writing import restore_with_previews, write_previews
from lib_embedmerge.embeddings.previews import find_preview
from lib_embedmerge.errors import EmbedMergeError, HostError, StorageError
from lib_embedmerge.files import atomic_file, temporary_folder
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.hosts.picture_port import PictureSettings

FIELDS = {
    "prompt": "photo, {embedding}", "negative_prompt": "bad", "sampler": "DPM++ 2M", "scheduler": "Karras",
    "steps": "9", "width": "64", "height": "96", "guidance": "5.5", "seed": "7",
}  # fmt: skip

SETTINGS = PictureSettings(PromptFrame("photo, {embedding}", "bad"), "DPM++ 2M", "Karras", 9, 64, 96, 5.5, 7)


@pytest.fixture
def maker() -> DrawnPictures:
    return DrawnPictures()


@pytest.fixture
def host(tmp_path: Path, maker: DrawnPictures) -> MemoryHost:
    host = MemoryHost(MODEL, tmp_path / "embeddings")
    host.embeddings_folder.mkdir()
    host.pictures = maker
    for name in ("one1", "two2", "odd(3)"):
        write(host.embeddings_folder / f"{name}.safetensors")
    return host


@pytest.fixture
def jobs() -> PreviewJobs:
    return PreviewJobs()


def pairs(*names: str) -> list[tuple[str, str]]:
    return [(f"{name}.safetensors", f"{name}.safetensors") for name in names]


def run(jobs: PreviewJobs, host: MemoryHost, *names: str) -> tuple[str, PreviewState]:
    identity = jobs.start(host, pairs(*names), SETTINGS)
    return identity, jobs.get(identity).wait(TIMEOUT)


def wait_for_turn(jobs: PreviewJobs, identity: str) -> None:
    while not jobs.get(identity)._is_with_maker:
        time.sleep(0.01)


def prompts(maker: DrawnPictures) -> list[str]:
    return [settings.prompts.prompt for settings, _ in maker.made]


def test_one_picture_without_and_one_with_each(jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures) -> None:
    _, state = run(jobs, host, "one1", "odd(3)")
    assert (state.state, state.done, state.total, state.seconds_left, state.error) == ("done", 3, 3, None, None)
    assert prompts(maker) == ["photo", "photo, one1", r"photo, odd\(3\)"]
    assert [embedding for _, embedding in maker.made] == [None, "one1", "odd(3)"]
    assert {settings.seed for settings, _ in maker.made} == {7}
    without, *others = state.results
    assert without.subject is None
    assert [result.subject.path.name for result in others if result.subject] == [
        "one1.safetensors",
        "odd(3).safetensors",
    ]
    for result, (settings, _) in zip(state.results, maker.made, strict=True):
        assert result.picture is not None
        assert result.picture.read_bytes() == draw(settings)
        assert not result.has_other
    assert sorted(path.name for path in host.embeddings_folder.iterdir() if path.suffix == ".png") == []


def test_a_version_is_used_and_the_embedding_gets_the_picture(
    jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures
) -> None:
    identity = jobs.start(host, [("one1.safetensors", "two2.safetensors")], SETTINGS)
    jobs.get(identity).wait(TIMEOUT)
    assert prompts(maker) == ["photo", "photo, two2"]
    jobs.get(identity).keep([1])
    assert find_preview(host.embeddings_folder / "one1.safetensors") is not None
    assert find_preview(host.embeddings_folder / "two2.safetensors") is None


def test_names_that_the_prompt_has_already_are_replaced(
    jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures
) -> None:
    settings = PictureSettings(PromptFrame("a (one1:1.2) house", "two2"))
    jobs.get(jobs.start(host, pairs("one1", "two2"), settings)).wait(TIMEOUT)
    assert [tuple(made.prompts) for made, _ in maker.made] == [
        ("a house", ""),
        ("a (one1:1.2) house", "one1"),
        ("a (two2:1.2) house", "two2"),
    ]


def test_the_embedding_itself_is_replaced_by_its_version(
    jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures
) -> None:
    settings = PictureSettings(PromptFrame("a house, one1", ""))
    jobs.get(jobs.start(host, [("one1.safetensors", "two2.safetensors")], settings)).wait(TIMEOUT)
    assert prompts(maker) == ["a house", "a house, two2"]


@pytest.mark.parametrize(
    ("prompt", "with_it", "without"),
    [
        ("{embedding}s in a garden", "odd s in a garden", "s in a garden"),
        ("x{embedding}, y", "x odd, y", "xy"),
        ("{embedding}-style", "odd-style", "-style"),
        ("a ({embedding}:-0.5) b", "a (odd:-0.5) b", "a b"),
        ("a, [{embedding}], b", "a, [odd], b", "a, b"),
        ("a, (([{embedding}])), b", "a, (([odd])), b", "a, b"),
        ("a [{embedding}:0.5]", "a [odd:0.5]", "a"),
        ("a (big {embedding}:1.2)", "a (big odd:1.2)", "a (big :1.2)"),
        ("{EMBEDDING}, oddity, odd", "odd, oddity, odd", "oddity"),
    ],
)
def test_the_placeholder_is_replaced_wherever_it_is(prompt: str, with_it: str, without: str) -> None:
    frame = PromptFrame(prompt, "bad")
    assert frame.put("odd") == (with_it, "bad")
    assert frame.put(None, ["odd"]) == (without, "bad")


def test_what_does_not_fit_the_model_is_left_out(jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures) -> None:
    write(host.embeddings_folder / "small4.safetensors", keys=("clip_l",))
    (host.embeddings_folder / "torn5.safetensors").write_bytes(b"torn")
    _, state = run(jobs, host, "small4", "torn5", "one1")
    assert (state.state, state.total) == ("done", 4)
    assert prompts(maker) == ["photo", "photo, one1"]
    reasons = {result.subject.path.stem: result.reason for result in state.results if result.subject}
    assert reasons["small4"] == "It was made for Stable Diffusion 1; this model is SDXL."
    assert reasons["torn5"]
    assert reasons["one1"] is None
    maker.made.clear()
    _, state = run(jobs, host, "small4")
    assert (state.state, state.total, len(state.results), maker.made) == ("done", 1, 1, [])
    other = MemoryHost(SD1_MODEL, host.embeddings_folder)
    other.pictures = maker
    _, state = run(jobs, other, "one1")
    assert state.results[0].reason == "It was made for SDXL; this model is Stable Diffusion 1."


def test_what_cannot_begin(jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures) -> None:
    with pytest.raises(HostError, match="No embedding is chosen"):
        jobs.start(host, [], SETTINGS)
    with pytest.raises(StorageError, match="no longer exists"):
        jobs.start(host, pairs("one1", "gone"), SETTINGS)
    with pytest.raises(HostError, match="101 embeddings are too many"):
        jobs.start(host, pairs("one1") * (MAX_SUBJECTS + 1), SETTINGS)
    without_model = NoModelHost(host.embeddings_folder)
    without_model.pictures = maker
    with pytest.raises(HostError, match="No model is loaded"):
        jobs.start(without_model, pairs("one1"), SETTINGS)
    host.pictures = None
    with pytest.raises(HostError, match="memory makes no pictures"):
        jobs.start(host, pairs("one1"), SETTINGS)
    assert maker.made == []


def test_a_refused_picture_does_not_end_the_job(jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures) -> None:
    maker.refused = ("one1",)
    _, state = run(jobs, host, "one1", "two2")
    assert state.state == "done"
    assert [bool(result.picture) for result in state.results] == [True, False, True]
    assert state.results[1].reason == "The web UI could not make the picture: RuntimeError: refused."
    maker.refused = ("photo",)
    _, state = run(jobs, host, "one1")
    assert (state.state, state.results) == ("failed", ())
    assert state.error is not None
    assert "refused" in state.error.message


def test_an_embedding_that_is_deleted_in_the_meantime(
    jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures
) -> None:
    maker.may_go_on.clear()
    identity = jobs.start(host, pairs("one1", "two2"), SETTINGS)
    assert maker.reached.wait(TIMEOUT)
    (host.embeddings_folder / "one1.safetensors").unlink()
    maker.may_go_on.set()
    state = jobs.get(identity).wait(TIMEOUT)
    assert [result.reason for result in state.results] == [None, "It was deleted in the meantime.", None]
    (host.embeddings_folder / "two2.safetensors").unlink()
    kept = jobs.get(identity).keep([1, 2])
    assert kept.names == []
    assert kept.faults == ["two2: 'two2.safetensors' no longer exists. Refresh the list."]
    assert find_preview(host.embeddings_folder / "two2.safetensors") is None


def test_cancelling_interrupts_the_picture(jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures) -> None:
    maker.may_go_on.clear()
    identity = jobs.start(host, pairs("one1", "two2"), SETTINGS)
    assert maker.reached.wait(TIMEOUT)
    state = jobs.get(identity).state()
    assert (state.state, state.done, state.total, state.is_waiting) == ("running", 0, 3, False)
    assert state.seconds_left is not None
    with pytest.raises(AlreadyRunningError, match="already being made"):
        jobs.start(host, pairs("one1"), SETTINGS)
    jobs.get(identity).cancel()
    state = jobs.get(identity).wait(TIMEOUT)
    assert (state.state, state.results, len(maker.made)) == ("cancelled", (), 1)


def test_cancelling_while_another_generation_runs(jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures) -> None:
    maker.is_free.clear()
    identity = jobs.start(host, pairs("one1"), SETTINGS)
    state = jobs.get(identity).state()
    assert (state.state, state.is_waiting, state.seconds_left) == ("running", True, None)
    wait_for_turn(jobs, identity)
    jobs.get(identity).cancel()
    assert jobs.get(identity).state().state == "cancelled"
    assert jobs.running(host) is None
    maker.is_free.set()
    assert jobs.get(identity).wait(TIMEOUT).state == "cancelled"
    assert maker.made == []


def test_cancelling_a_job_that_has_ended_interrupts_no_other(
    jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures
) -> None:
    first, _ = run(jobs, host, "one1")
    ended = jobs.get(first)
    maker.may_go_on.clear()
    maker.reached.clear()
    second = jobs.start(host, pairs("two2"), SETTINGS)
    assert maker.reached.wait(TIMEOUT)
    ended.cancel()
    maker.may_go_on.set()
    assert jobs.get(second).wait(TIMEOUT).state == "done"
    assert ended.state().state == "done"


def test_cancelling_between_two_pictures(
    jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[PreviewState] = []

    def cancel_and_write(*values: Any, **options: Any) -> None:
        (job,) = jobs._jobs.values()
        job.cancel()
        states.append(job.state())
        write_atomically(*values, **options)

    write_atomically = preview_jobs.write_atomically
    monkeypatch.setattr(preview_jobs, "write_atomically", cancel_and_write)
    _, state = run(jobs, host, "one1")
    assert [one.state for one in states] == ["running"]  # its thread has not ended
    assert (state.state, len(state.results), len(maker.made)) == ("cancelled", 1, 1)


def test_nothing_is_added_after_a_cancelled_wait(jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures) -> None:
    maker.is_free.clear()
    maker.ignores_stop = True  # its turn came in the same moment
    identity = jobs.start(host, pairs("one1"), SETTINGS)
    wait_for_turn(jobs, identity)
    jobs.get(identity).cancel()
    maker.is_free.set()
    state = jobs.get(identity).wait(TIMEOUT)
    assert (state.state, state.results, len(maker.made)) == ("cancelled", (), 1)


@pytest.mark.parametrize("skipped", [0, 1])
def test_a_skipped_picture_does_not_end_the_job(
    jobs: PreviewJobs, host: MemoryHost, maker: DrawnPictures, skipped: int
) -> None:
    maker.skipped = (skipped,)
    _, state = run(jobs, host, "one1", "two2")
    assert state.state == "done"
    reasons = [result.reason for result in state.results]
    assert reasons == ["The picture was skipped." if number == skipped else None for number in range(3)]


def test_only_what_the_user_agrees_to_is_kept(jobs: PreviewJobs, host: MemoryHost) -> None:
    folder = host.embeddings_folder
    (folder / "two2.preview.png").write_bytes(b"old")
    identity, state = run(jobs, host, "one1", "two2", "odd(3)")
    assert [result.has_other for result in state.results] == [False, False, True, False]
    assert (folder / "two2.preview.png").read_bytes() == b"old"
    job = jobs.get(identity)
    kept = job.keep([2, 3, 99])
    assert (kept.names, kept.replaced, kept.faults) == (["two2", "odd(3)"], 1, [])
    for number, name in ((2, "two2"), (3, "odd(3)")):
        picture = state.results[number].picture
        assert picture is not None
        assert find_preview(folder / f"{name}.safetensors") == folder / f"{name}.preview.png"
        assert (folder / f"{name}.preview.png").read_bytes() == picture.read_bytes()
    assert find_preview(folder / "one1.safetensors") is None
    assert job.state().kept == {2, 3}
    with pytest.raises(HostError, match="No picture is chosen"):
        job.keep([2])  # it is there already
    with pytest.raises(HostError, match="No picture is chosen"):
        job.keep([0])  # the picture without any embedding
    (deletion,) = list_deletions(folder)
    assert deletion.files == ("two2.preview.png",)
    managing.restore_deleted(host, deletion.id)
    assert (folder / "two2.preview.png").read_bytes() == b"old"


def test_pictures_are_deleted_with_their_job(jobs: PreviewJobs, host: MemoryHost) -> None:
    _, state = run(jobs, host, "one1")
    (folder,) = {result.picture.parent for result in state.results if result.picture}
    assert len(list(folder.glob("*.png"))) == 2
    run(jobs, host, "two2")
    gc.collect()
    assert not folder.exists()


@pytest.mark.process
def test_folders_of_programs_that_were_killed_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = "import os; from lib_embedmerge.files.temporary_folder import TemporaryFolder as Folder; "
    make += "kept = Folder('embedmerge-previews-'); print(kept.path, flush=True); os._exit(9)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "TMP": str(tmp_path)}
    command = [sys.executable, "-c", make]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    killed = Path(done.stdout.strip())
    assert (done.returncode, killed.parent, killed.is_dir()) == (9, tmp_path, True), done.stderr
    (killed / "0.png").write_bytes(b"left")
    foreign = tmp_path / "embedmerge-previews-of-the-user"
    foreign.mkdir()
    monkeypatch.setattr(temporary_folder.tempfile, "tempdir", str(tmp_path))
    first = temporary_folder.TemporaryFolder("embedmerge-previews-")
    assert not killed.exists()
    second = temporary_folder.TemporaryFolder("embedmerge-previews-")
    assert first.path.is_dir()  # it is in use
    path = second.path
    assert path.is_dir()
    del second
    gc.collect()
    assert not path.exists()
    assert foreign.is_dir()  # it has no lock of ours


def test_no_room_for_temporary_files(jobs: PreviewJobs, host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(temporary_folder.tempfile, "mkdtemp", refuse)
    _, state = run(jobs, host, "one1")
    assert state.state == "failed"
    assert state.error is not None
    assert "disk is full" in state.error.message


# A grid


def test_a_grid_of_embeddings_by_checkpoints(host: MemoryHost, maker: DrawnPictures, monkeypatch: Any) -> None:
    places = [place for place, _ in pairs("two2", "one1")]
    checkpoints = {f"{letter}.safetensors [1]": Path(f"{letter}.safetensors") for letter in "ab"}
    monkeypatch.setattr(host, "checkpoints", lambda: checkpoints)
    assert (
        write_grid(host, places, {"prompt": "a cat"}) == "a cat\nX: two2, one1, Y: a.safetensors [1], b.safetensors [1]"
    )
    own = host.active().model.facts.file_name
    checkpoints |= {str(number): Path(str(number)) for number in range(MAX_GRID)} | {"mine": Path("deep", own)}
    assert write_grid(host, places, {}).endswith("Y: mine")
    checkpoints["twin"] = Path("deeper", own)
    with pytest.raises(HostError, match="12 checkpoints are too many for a grid, and the active model is none of them"):
        write_grid(host, places, {})
    active = replace(host.active(), checkpoint=Path("deeper", own).resolve())
    monkeypatch.setattr(host, "active", lambda: active)
    assert write_grid(host, places, {}).endswith("Y: twin")
    with pytest.raises(HostError, match="No embedding is chosen"):
        write_grid(host, [], {})
    maker.has_grid = False
    with pytest.raises(HostError, match="has no script X/Y/Z plot"):
        write_grid(host, places, {})
    host.pictures = None
    with pytest.raises(HostError, match="makes no pictures"):
        write_grid(host, places, {})


# The file


PICTURE = draw(SETTINGS)


@pytest.mark.parametrize(
    "old", [["mine1.png"], ["mine1.preview.png"], ["mine1.png", "mine1.preview.png"], ["mine1.jpg"]]
)
def test_the_new_picture_is_the_one_that_web_uis_show(tmp_path: Path, new: Path, old: list[str]) -> None:
    file = write(tmp_path / "deep" / "mine1.safetensors")
    for name in old:
        (file.parent / name).write_bytes(name.encode())
    deletion, faults = write_previews(tmp_path, {file: new}, [file])
    assert faults == {}
    assert find_preview(file) == file.parent / "mine1.preview.png"
    assert (file.parent / "mine1.preview.png").read_bytes() == PICTURE
    in_the_way = [f"deep/{name}" for name in old if not name.endswith(".jpg")]
    assert (list(deletion.files) if deletion else []) == sorted(in_the_way)
    if deletion is None:
        return
    shown = PICTURE
    for _ in range(2):  # restored, and then the new one again
        (deletion,) = list_deletions(tmp_path)
        restore_with_previews(tmp_path, deletion.id, [file])
        (exchanged,) = list_deletions(tmp_path)
        trash = tmp_path / ".embedmerge-trash" / exchanged.id
        assert shown in [(trash / f"{place}.trash").read_bytes() for place in exchanged.files]
        restored = find_preview(file)
        assert restored is not None
        assert f"deep/{restored.name}" in deletion.files
        shown = restored.read_bytes()
    assert shown == PICTURE


def test_all_old_pictures_are_one_deletion(host: MemoryHost, jobs: PreviewJobs) -> None:
    folder, old = host.embeddings_folder, {"one1": "one1.preview.png", "two2": "two2.png"}
    for name in old.values():
        (folder / name).write_bytes(name.encode())
    identity, _ = run(jobs, host, "one1", "two2", "odd(3)")
    kept = jobs.get(identity).keep([1, 2, 3])
    assert (kept.names, kept.replaced, kept.faults) == (["one1", "two2", "odd(3)"], 2, [])
    new = {name: (folder / f"{name}.preview.png").read_bytes() for name in old}
    (deletion,) = list_deletions(folder)
    assert sorted(deletion.files) == sorted(old.values())
    restored = managing.restore_deleted(host, deletion.id)
    assert sorted(path.name for path in restored) == sorted(old.values())
    for name, file in old.items():
        shown = find_preview(folder / f"{name}.safetensors")
        assert shown is not None
        assert shown.read_bytes() == file.encode()
    (exchanged,) = list_deletions(folder)
    assert sorted(exchanged.files) == ["one1.preview.png", "two2.preview.png"]
    managing.restore_deleted(host, exchanged.id)
    for name, picture in new.items():
        shown = find_preview(folder / f"{name}.safetensors")
        assert shown is not None
        assert shown.read_bytes() == picture


def test_an_embedding_of_the_same_name_is_not_exchanged(tmp_path: Path) -> None:
    file, picture = write(tmp_path / "mine1.safetensors"), tmp_path / "mine1.png"
    picture.write_bytes(b"old")
    deletion = delete_files(tmp_path, [picture])
    picture.write_bytes(b"an embedding")
    with pytest.raises(StorageError, match="already exists"):
        restore_with_previews(tmp_path, deletion.id, [file, picture])
    assert picture.read_bytes() == b"an embedding"
    assert list_deletions(tmp_path) == [deletion]


def test_two_embeddings_with_one_picture(tmp_path: Path, new: Path) -> None:
    files = [write(tmp_path / "mine1.safetensors"), tmp_path / "mine1.pt"]
    files[1].write_bytes(b"another")
    written = write_previews(tmp_path, dict.fromkeys(files, new), files)
    assert list(written.faults) == [files[1]]
    assert "web UIs show one picture for both" in written.faults[files[1]].message
    assert (tmp_path / "mine1.preview.png").read_bytes() == PICTURE


@pytest.fixture
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("new") / "new.png"
    file.write_bytes(PICTURE)
    return file


def refuse_to_write(*files: Path, new: Path, listed: list[Path]) -> str:
    written = write_previews(files[0].parent, dict.fromkeys(files, new), listed)
    assert written.deletion is None
    assert list(written.faults) == list(files)
    return written.faults[files[0]].message


def test_pictures_that_are_embeddings_stay(tmp_path: Path, new: Path) -> None:
    file = write(tmp_path / "mine1.safetensors")
    picture = tmp_path / "mine1.png"
    picture.write_bytes(b"an embedding")
    assert "'mine1.png' is an embedding itself" in refuse_to_write(file, new=new, listed=[file, picture])
    assert "is a picture itself" in refuse_to_write(picture, new=new, listed=[file, picture])
    assert picture.read_bytes() == b"an embedding"
    assert list_deletions(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or not os.geteuid(), reason="who may write everywhere cannot be refused")
def test_a_folder_that_cannot_be_written(tmp_path: Path, new: Path) -> None:
    file = write(tmp_path / "mine1.safetensors")
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written" in refuse_to_write(file, new=new, listed=[file])
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("step", ["_flush", "move_to_free_name"])
def test_a_full_disk_leaves_the_old_picture(
    tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file, other = (write(tmp_path / f"{name}.safetensors") for name in ("mine1", "other2"))
    (tmp_path / "mine1.png").write_bytes(b"old")

    first = getattr(atomic_file, step)

    def refuse(*values: Any) -> None:  # the second picture
        calls.append(values)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        first(*values)

    calls: list[object] = []
    monkeypatch.setattr(atomic_file, step, refuse)
    pictures = {other: new, file: new}
    if step == "_flush":
        written = write_previews(tmp_path, pictures, [file, other])
        assert (written.deletion, list(written.faults)) == (None, [file])
        assert "disk is full" in written.faults[file].message
    else:
        with pytest.raises(StorageError, match="disk is full"):
            write_previews(tmp_path, pictures, [file, other])
        assert find_preview(other) is None
    monkeypatch.undo()
    assert find_preview(file) == tmp_path / "mine1.png"
    assert (tmp_path / "mine1.png").read_bytes() == b"old"
    assert not (tmp_path / "mine1.preview.png").exists()
    assert list_deletions(tmp_path) == []
    assert not list(tmp_path.glob("*.tmp"))


# The fields


def test_fields_become_settings() -> None:
    assert read_settings(FIELDS) == SETTINGS
    assert read_settings({**FIELDS, "steps": "9.0", "guidance": "5.50"}) == SETTINGS
    seeds = {read_settings({**FIELDS, "seed": seed}).seed for seed in ("", "-1", " ")}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": ""}, "The number of steps is not a number: ''."),
        ({"steps": "0"}, "The number of steps cannot be 0."),
        ({"steps": "2.5"}, "The number of steps is not a whole number."),
        ({"steps": "nan"}, "The number of steps cannot be nan."),
        ({"width": "99999"}, "The width cannot be 99,999."),
        ({"height": "100"}, "The height is not a multiple of 8."),
        ({"guidance": "1e999"}, "The CFG scale cannot be inf."),
        ({"seed": "1e10"}, "The seed cannot be 10,000,000,000."),
        ({"seed": "x" * 99}, "The seed is not a number: '" + "x" * 40 + "'."),
        ({"prompt": "a" * 4001}, "The prompt has 4,001 characters."),
        ({"negative_prompt": "a" * 4001}, "The negative prompt has 4,001 characters."),
    ],
)
def test_fields_that_cannot_be_used(changed: dict[str, str], message: str) -> None:
    with pytest.raises(EmbedMergeError) as caught:
        read_settings({**FIELDS, **changed})
    assert caught.value.message == message
    assert caught.value.hint
    assert ("seed" not in changed) or caught.value.hint == "Write a number from 0 to 4,294,967,295."
