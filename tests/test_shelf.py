"""The library as a shelf: preview pictures, concepts, and versions made for the active model with one click."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy
import pytest
from action_hosts import ROWS, NoModelHost, write
from memory_model import random_model
from PIL import Image
from test_views_harmless import Page, check

from lib_embedmerge.actions.managing import LibraryLister
from lib_embedmerge.actions.shelf import PictureCache, describe_concepts, find_pictures, make_for_model
from lib_embedmerge.embeddings import previews
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.embeddings.previews import find_preview, make_small_picture
from lib_embedmerge.errors import HostError, StorageError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.concepts import find_concepts
from lib_embedmerge.recipes.rebuild import rebuild
from lib_embedmerge.ui.library_handlers import LibraryHandlers

HERE, ELSEWHERE = random_model(ROWS, seed=1), random_model(ROWS, seed=2)


def paint(path: Path, size: tuple[int, int] = (512, 768), colour: str = "red", mode: str = "RGB") -> Path:
    Image.new(mode, size, colour).save(path)
    return path


def read(picture: bytes | None) -> Image.Image:
    assert picture is not None
    return Image.open(io.BytesIO(picture), formats=["JPEG"])


@pytest.mark.parametrize(
    ("beside", "shown"),
    [
        (["mine1.png", "mine1.preview.png", "mine1.jpg"], "mine1.png"),
        (["mine1.preview.png", "mine1.jpg"], "mine1.preview.png"),
        (["mine1.webp", "mine1.preview.jpeg"], "mine1.preview.jpeg"),
        (["mine1.preview.webp"], "mine1.preview.webp"),
        (["mine1.txt", "mine10.png", "mine.png", "mine1.svg"], None),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_picture_is_that_of_the_web_uis(tmp_path: Path, beside: list[str], shown: str | None) -> None:
    for name in beside:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "mine1.preview.gif").mkdir()  # a folder is no picture
    found = find_preview(tmp_path / "mine1.safetensors")
    assert (found and found.name) == shown


def test_an_embedding_in_a_picture_is_its_own_preview(tmp_path: Path) -> None:
    paint(tmp_path / "mine1.jpg")
    assert find_preview(tmp_path / "mine1.png") == tmp_path / "mine1.png"


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif"])
def test_pictures_become_small(tmp_path: Path, ending: str) -> None:
    small = make_small_picture(paint(tmp_path / f"a.{ending}"))
    assert read(small).size == (256, 384)
    red, green, _ = read(small).resize((1, 1)).getpixel((0, 0))  # type: ignore[misc] # a pixel of a picture in colour
    assert red > 240
    assert green < 20
    assert len(small or b"") < 10_000


def test_a_picture_is_turned_and_its_facts_are_left_out(tmp_path: Path) -> None:
    image = Image.new("RGB", (600, 300))
    facts = Image.Exif()
    facts[0x0112], facts[0x010E] = 6, "a secret prompt"
    image.save(tmp_path / "a.jpg", exif=facts)
    small = make_small_picture(tmp_path / "a.jpg")
    assert read(small).height > read(small).width
    assert b"secret" not in (small or b"")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n", b"<svg onload='1'></svg>", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 "],
    ids=lambda content: ascii(content[:6]),
)
def test_what_is_no_picture_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert make_small_picture(tmp_path / "a.png") is None


def test_a_torn_a_huge_and_a_missing_picture_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "noise.png"
    Image.fromarray(numpy.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=numpy.uint8)).save(whole)
    (tmp_path / "torn.png").write_bytes(whole.read_bytes()[:9000])
    assert make_small_picture(tmp_path / "torn.png") is None
    assert make_small_picture(tmp_path / "gone.png") is None
    assert make_small_picture(whole) is not None
    monkeypatch.setattr(previews, "_MAX_PIXELS", 80_000)
    assert make_small_picture(whole) is None
    monkeypatch.setattr(previews, "_MAX_FILE", 100)
    assert make_small_picture(whole) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert make_small_picture(tmp_path / "a.png") is None


@pytest.fixture
def host(tmp_path: Path) -> MemoryHost:
    """HERE over an embedding with a version for another model, one that was made for that, and one without a recipe."""
    folder = tmp_path / "embeddings"
    first = build_embedding(HERE, "'cat'", "mine1").save(folder)
    list(rebuild([first], ELSEWHERE))
    build_embedding(ELSEWHERE, "'dog'*2", "other1").save(folder)
    write(folder / "plain1.safetensors")
    return MemoryHost(HERE, folder)


def test_a_concept_has_the_picture_of_any_of_its_files(host: MemoryHost) -> None:
    entries = LibraryLister().list_entries(host).entries
    concepts = find_concepts(entries)
    assert [len(files) for files in concepts.values()] == [2, 1, 1]
    mine, variant = next(iter(concepts.values()))
    assert mine == "mine1.safetensors"
    picture = paint(host.embeddings_folder / f"{Path(variant).stem}.preview.png")
    found, gone = describe_concepts(entries, [["gone", mine, variant], ["plain1.safetensors"], ["gone"]], None)
    assert found.place == mine
    assert found.picture is not None
    assert found.picture[0] == picture
    assert gone.picture is None


def test_pictures_by_name(host: MemoryHost) -> None:
    folder = host.embeddings_folder
    variant = next(name for name in host.library().names() if name.startswith("mine1-"))
    paint(folder / "mine1.preview.png")
    own = paint(folder / "other1.png")
    found = find_pictures(host, ["other1", "mine1", variant, "plain1", "../mine1", "gone"])
    files = {name: picture and picture[0].name for name, picture in found.items()}
    assert files == {
        "other1": own.name, "mine1": "mine1.preview.png", variant: "mine1.preview.png",
        "plain1": None, "../mine1": None, "gone": None,
    }  # fmt: skip
    paint(folder / f"{variant}.png")
    again = find_pictures(host, [variant])[variant]
    assert again is not None
    assert again[0].name == f"{variant}.png"


def test_the_page_gets_only_pictures_that_it_does_not_have(host: MemoryHost) -> None:
    picture = paint(host.embeddings_folder / "mine1.png")
    events = LibraryHandlers(lambda: host)

    def ask(*known: tuple[str, str]) -> Page:
        return check(events.draw_named_pictures("7\n" + json.dumps(known)))

    first = ask(("mine1", ""), ("plain1", ""))
    assert first.values("data-embedmerge-name") == ["mine1"]
    (number,) = first.values("data-embedmerge-picture")
    assert len(first.values("src")) == 1
    assert ask(("mine1", number)).values("data-embedmerge-name") == []
    paint(picture, (60, 60))
    changed = ask(("mine1", number))
    assert changed.values("data-embedmerge-picture") not in ([number], [])
    picture.write_bytes(b"no picture")
    assert ask(("mine1", number)).values("src") == []
    picture.unlink()
    assert ask(("mine1", number)).values("data-embedmerge-picture") == [""]
    assert ask().values("data-embedmerge-asked") == ["7"]


def test_a_small_picture_is_made_once_for_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr("lib_embedmerge.actions.shelf.make_small_picture", lambda path: made.append(path) or b"x")
    monkeypatch.setattr("lib_embedmerge.actions.shelf._KEPT_PICTURES", 2)
    cache = PictureCache()
    states = [(tmp_path / "a", (1, 1)), (tmp_path / "a", (1, 2)), (tmp_path / "b", (1, 1))]
    for state in (*states, *states[1:]):
        assert cache.find(state) == b"x"
    assert len(made) == 3
    cache.find(states[0])
    assert len(made) == 4


def test_a_version_for_the_active_model_takes_one_click(host: MemoryHost) -> None:
    results = make_for_model(host, ["other1.safetensors", "plain1.safetensors", "mine1.safetensors"])
    made, plain, mine = results
    assert (plain.status, plain.reason) == ("skipped", "It has no recipe.")
    assert mine.status == "same vectors"
    assert made.file is not None
    embedding = load_embedding(made.file)
    for key, rows in build_embedding(HERE, "'dog'*2", "x").vectors.items():
        assert numpy.array_equal(embedding.vectors[key], rows)
    assert made.file.stem in host.library().names()


def test_without_a_model_nothing_is_made(host: MemoryHost) -> None:
    without = NoModelHost(host.embeddings_folder)
    with pytest.raises(HostError, match="No model is loaded"):
        make_for_model(without, ["other1.safetensors"])
    with pytest.raises(HostError, match="No embedding is chosen"):
        make_for_model(host, [])
    with pytest.raises(StorageError, match="no longer exists"):
        make_for_model(host, ["../other1.safetensors"])
