"""What files of other tools say of an embedding: each tool's file, hostile ones, and a cache that is always right."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from action_hosts import MODEL, write
from hypothesis import given
from hypothesis import strategies as st

from lib_embedmerge.actions.json_answers import embedding_as_json, listing_as_json
from lib_embedmerge.embeddings import sidecars
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.sidecars import SidecarFacts, list_sidecars, read_sidecars
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.recipes import sidecar_cache
from lib_embedmerge.recipes.listing import list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer
from lib_embedmerge.ui.library_handlers import LibraryHandlers

CIVITAI = {
    "id": 12,
    "modelId": 34,
    "baseModel": "Pony",
    "trainedWords": ["fox girl", "fox girl", " tail ", "", 7],
    "description": "<p>Use it <b>softly</b>.</p><script>alert(1)</script>",
    "images": [{"url": "x"}],
}


def put(folder: Path, ending: str, content: object) -> Path:
    path = folder / f"mine1{ending}"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(folder: Path) -> SidecarFacts | None:
    return read_sidecars(folder / "mine1.safetensors")


@pytest.mark.parametrize(
    ("ending", "content", "facts"),
    [
        (
            ".civitai.info",
            CIVITAI,
            SidecarFacts(
                "Pony",
                ("fox girl", "tail"),
                notes="Use it softly . alert(1)",
                address="https://civitai.com/models/34?modelVersionId=12",
            ),
        ),
        (
            ".json",
            {"sd version": "SDXL", "activation text": "fox, tail,", "preferred weight": 0.8, "notes": "mine", "x": 1},
            SidecarFacts("SDXL", ("fox", "tail"), 0.8, "mine"),
        ),
        (".json", {"description": "it", "sd version": "Unknown", "preferred weight": 0}, SidecarFacts(notes="it")),
        (
            ".json",
            {"id": 34, "modelVersions": [{"id": 12, "baseModel": "SDXL 1.0", "trainedWords": ["a"]}]},
            SidecarFacts("SDXL 1.0", ("a",), address="https://civitai.com/models/34?modelVersionId=12"),
        ),
        (
            ".cm-info.json",
            {"BaseModel": "Illustrious", "TrainedWords": ["b"], "ModelId": 5, "SourceUrl": "https://example.org/a?b=1"},
            SidecarFacts("Illustrious", ("b",), address="https://example.org/a?b=1"),
        ),
        (
            ".cm-info.json",
            {"ModelId": 5, "VersionId": 6, "SourceUrl": "javascript:alert(1)"},
            SidecarFacts(address="https://civitai.com/models/5?modelVersionId=6"),
        ),
        (
            ".metadata.json",
            {"base_model": "NoobAI", "notes": "my own", "civitai": CIVITAI},
            SidecarFacts(
                "NoobAI", ("fox girl", "tail"), notes="my own", address="https://civitai.com/models/34?modelVersionId=12"
            ),
        ),
    ],
    ids=["Civitai Helper", "AUTOMATIC1111", "its TI editor", "SD.Next", "Stability Matrix", "no page", "LoRA Manager"],
)  # fmt: skip
def test_each_tool(tmp_path: Path, ending: str, content: object, facts: SidecarFacts) -> None:
    path = put(tmp_path, ending, content)
    before = path.read_bytes(), path.stat().st_mtime_ns
    found = read(tmp_path)
    assert found is not None
    assert found.files == (path.name,)
    assert {**found.as_json(), "files": []} == facts.as_json()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_several_files_complete_each_other(tmp_path: Path) -> None:
    put(tmp_path, ".json", {"sd version": "SDXL", "preferred weight": 0.6, "notes": "of the user"})
    put(tmp_path, ".civitai.info", {"baseModel": "Pony"})
    put(tmp_path, ".cm-info.json", "damaged")
    found = read(tmp_path)
    assert found == SidecarFacts("Pony", (), 0.6, "of the user", None, ("mine1.civitai.info", "mine1.json"))


@pytest.mark.parametrize(
    "content",
    [
        "", "null", "7", "[]", '"x"', "{", "[" * 200_000, '{"a":' * 200_000, "{}",
        {"baseModel": {"a": 1}, "trainedWords": "fox", "modelId": "34", "id": True},
        {"baseModel": ["Pony"], "trainedWords": {"a": 1}, "modelId": -1, "description": 7},
        {"baseModel": " \n ", "trainedWords": [None, [], {}], "modelId": 1e300},
    ],
    ids=lambda content: ascii(content)[:20],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".civitai.info", ".json", ".cm-info.json", ".metadata.json"])
def test_broken_and_of_wrong_types(tmp_path: Path, ending: str, content: object) -> None:
    put(tmp_path, ending, content)
    assert read(tmp_path) is None


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)
FIELDS = (
    "baseModel", "trainedWords", "modelId", "id", "description", "BaseModel", "TrainedWords", "SourceUrl", "ModelId",
    "base_model", "civitai", "notes", "sd version", "activation text", "preferred weight", "modelVersions",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON))
def test_any_values(content: dict[str, Any]) -> None:
    for reader in sidecars._READERS.values():
        facts = reader(content)
        json.dumps(facts.as_json(), allow_nan=False)
        assert facts.address is None or facts.address.startswith(("http://", "https://"))
        texts = [facts.base_model, *facts.trigger_words, facts.notes]
        assert all(text is None or (text == text.strip() and 0 < len(text) <= 1000) for text in texts)


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)", "data:text/html,x", "//example.org", "ftp://example.org", "https://", "https://a b",
        "https://civitai.com@evil.example", "https://ci\u202evitai.com", "http://[", "https://x/" + "a" * 500, 7, None,
        "https://exa\nmple.org", "HTTPS:example.org",
    ],
    ids=lambda address: ascii(address)[:24],
)  # fmt: skip
def test_addresses_that_are_not_shown(tmp_path: Path, address: object) -> None:
    put(tmp_path, ".cm-info.json", {"SourceUrl": address})
    assert read(tmp_path) is None


def test_huge_files_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, ".json", {"notes": "n" * 100_000, "activation text": "w," * 100_000, "sd version": "v" * 9000})
    found = read(tmp_path)
    assert found is not None
    assert (len(found.notes or ""), len(found.trigger_words), len(found.base_model or "")) == (1000, 1, 200)
    monkeypatch.setattr(sidecars, "_MAX_SIZE", 1000)
    assert read(tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_a_pipe_and_a_folder_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine1.json")
    (tmp_path / "mine1.civitai.info").mkdir()
    assert read(tmp_path) is None


def test_a_picture_and_other_files_are_no_sidecars(tmp_path: Path) -> None:
    assert [path.name for path in list_sidecars(tmp_path / "a.b.safetensors")] == [
        "a.b.civitai.info", "a.b.cm-info.json", "a.b.metadata.json", "a.b.json",
    ]  # fmt: skip


@pytest.fixture
def library(tmp_path: Path) -> EmbeddingFolder:
    write(tmp_path / "mine1.safetensors")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "other1.safetensors")
    return EmbeddingFolder(tmp_path, clip_tokenizer())


def test_they_say_what_it_was_made_for_if_the_tag_does_not(library: EmbeddingFolder) -> None:
    put(library.folder, ".civitai.info", CIVITAI)
    mine, other = list_embeddings(library)
    assert (mine.made_for, other.made_for) == ("Pony", "")
    answer, plain = listing_as_json([mine, other], None)
    assert answer["made_for"] is None  # which is what the tag says
    assert answer["sidecar"] is not None
    assert answer["sidecar"]["base_model"] == "Pony"
    assert plain["sidecar"] is None
    shown = embedding_as_json(load_embedding(library.folder / "mine1.safetensors"), None, 0)
    assert shown["sidecar"] == answer["sidecar"]


def test_the_page_shows_them_and_nothing_of_them_acts(library: EmbeddingFolder) -> None:
    from test_views_harmless import check

    image = "<img src=x onerror=alert(1)>"
    put(library.folder, ".civitai.info", {**CIVITAI, "baseModel": image, "trainedWords": [image, "\u202efox"]})
    events = LibraryHandlers(lambda: MemoryHost(MODEL, library.folder))
    check(events.list_library())
    page = check(events.draw_entries('1\n[["mine1.safetensors"]]'))
    assert image in page.text
    assert page.values("href") == ["https://civitai.com/models/34?modelVersionId=12"]
    assert "\u202e" not in page.text


def test_the_cache_is_right_after_any_change(
    library: EmbeddingFolder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("lib_embedmerge.files.stamps._CLOCK_STEP", -(10**12))  # what was written just now counts as old
    reads: list[Path] = []
    real = sidecars.read_sidecar
    monkeypatch.setattr(sidecar_cache, "read_sidecar", lambda path: reads.append(path) or real(path))

    def made_for() -> str:
        return list_embeddings(library)[0].made_for

    path = put(library.folder, ".json", {"sd version": "SDXL"})
    damaged = put(library.folder, ".civitai.info", "damaged")
    assert made_for() == made_for() == "SDXL"
    assert sorted(reads) == [damaged, path]
    put(library.folder, ".json", {"sd version": "NoobAI"})
    assert made_for() == "NoobAI"
    put(library.folder, ".civitai.info", {"baseModel": "Pony"})
    assert made_for() == "Pony"
    damaged.unlink()
    assert made_for() == "NoobAI"
    path.unlink()
    assert made_for() == ""
    assert len(reads) == 4
