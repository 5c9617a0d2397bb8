"""Temporary embeddings in the web UIs' databases: there for a moment, under no eyes, and gone."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from doubles.database import EmbeddingDatabase

from lib_embedmerge.core.arrays import find_device
from lib_embedmerge.core.inline import InlineEmbedding
from lib_embedmerge.hosts.webui.temporary_embeddings import register_temporaries
from lib_embedmerge.lang.stand_ins import STAND_IN
from lib_embedmerge.tokenizer import clip_tokenizer

NAMES = ["embedmerge" + digits for digits in ("1" * 20, "2" * 20, "0123456789" * 2)]
WIDTHS = {"clip_l": 768, "clip_g": 1280, "clip_h": 1024}

ENGINE = """
last_extra_generation_params = {}

class Engine:
    def __init__(self, embeddings):
        self.embeddings = embeddings

    def use(self, names):
        for name in names:
            print(f"[Textual Inversion] Used Embedding [{name}] in CLIP of [clip_l]")
        last_extra_generation_params["TI"] = ", ".join(names)
"""
"""Forge's backend.text_processing.classic_engine, as far as it tells of embeddings."""


def temporary(name: str, count: int = 2, keys: tuple[str, ...] = ("clip_l", "clip_g")) -> InlineEmbedding:
    return InlineEmbedding(name, {key: torch.full((count, WIDTHS[key]), 0.5) for key in keys})


TEMPORARIES = [temporary(name, count) for count, name in enumerate(NAMES, 1)]


def ids_of(name: str) -> list[int]:
    return clip_tokenizer().encode(name)


@dataclass
class Webui:
    """One of the two kinds of web UIs. comments: A1111's.  engine: Forge's module."""

    model: Any
    databases: list[EmbeddingDatabase]
    comments: list[str]
    devices: ModuleType
    engine: ModuleType | None = None

    def find(self, text: str) -> list[Any]:
        """The embeddings that each database finds in a text."""
        ids = ids_of(text)
        return [
            embedding
            for database in self.databases
            for place in range(len(ids))
            if (embedding := database.find_embedding_at_position(ids, place)[0]) is not None
        ]

    def contents(self) -> list[Any]:
        """What the databases hold, by identity."""
        return [
            (
                {first: [(tuple(ids), id(one)) for ids, one in entries] for first, entries in base.ids_lookup.items()},
                {name: id(one) for name, one in base.word_embeddings.items()},
                dict(base.skipped_embeddings),
                base.fixes,
            )
            for base in self.databases
        ]


def filled_database() -> EmbeddingDatabase:
    """With embeddings of the user's, one of which begins with the same token as ours, and one that ours begin with."""
    database = EmbeddingDatabase()
    for name in ("mine", "embedding1", clip_tokenizer().decode(ids_of(NAMES[0])[:1]).strip(), "embedmerge1111"):
        embedding = SimpleNamespace(name=name, vectors=1, vec={})
        database.word_embeddings[name] = embedding
        database.ids_lookup.setdefault(ids_of(name)[0], []).append((ids_of(name), embedding))
    for entries in database.ids_lookup.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return database


Make = Callable[..., Webui]


def a1111(patch: pytest.MonkeyPatch) -> Webui:
    database = filled_database()
    hijack = SimpleNamespace(embedding_db=database, comments=[])
    devices = _install(patch, sd_hijack={"model_hijack": hijack}, devices={"device": "cpu"})["devices"]
    return Webui(SimpleNamespace(sd_checkpoint_info=object()), [database], hijack.comments, devices)


def forge(patch: pytest.MonkeyPatch) -> Webui:
    devices = _install(patch, sd_hijack={"model_hijack": SimpleNamespace()}, devices={"device": "meta"})["devices"]
    engine = ModuleType("classic_engine_for_tests")
    exec(ENGINE, vars(engine))
    patch.setitem(sys.modules, engine.__name__, engine)
    databases = [filled_database(), filled_database()]
    left, right = map(engine.Engine, databases)
    model = SimpleNamespace(
        sd_checkpoint_info=object(),
        extra_generation_params={},
        text_processing_engine_l=left,
        text_processing_engine_g=right,
    )
    return Webui(model, databases, [], devices, engine)


def _install(patch: pytest.MonkeyPatch, **contents: Mapping[str, Any]) -> dict[str, ModuleType]:
    package = ModuleType("modules")
    patch.setitem(sys.modules, "modules", package)
    made = {}
    for name, content in contents.items():
        module = made[name] = ModuleType(f"modules.{name}")
        vars(module).update(content)
        setattr(package, name, module)
        patch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.fixture(params=[a1111, forge])
def webui(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Webui]:
    return request.param(monkeypatch)


# There and gone


def test_found_in_the_block_and_gone_after(webui: Webui) -> None:
    before = webui.contents()
    prompt = f"mine, ({NAMES[0]}:1.2) embedding1 {NAMES[2]}"
    users = ["mine", "embedding1"] * len(webui.databases)
    # Without ours, the user's embeddings are found that their names happen to begin with.
    assert [one.name for one in webui.find(prompt) if one.name in users] == users
    with register_temporaries(webui.model, TEMPORARIES, []):
        expected = ["mine", NAMES[0], "embedding1", NAMES[2]]
        assert [one.name for one in webui.find(prompt)] == expected * len(webui.databases)
        for base, (_, words, skipped, _) in zip(webui.databases, before, strict=True):
            assert {name: id(one) for name, one in base.word_embeddings.items()} == words
            assert base.skipped_embeddings == skipped
    assert webui.contents() == before


def test_gone_after_an_exception(webui: Webui) -> None:
    before = webui.contents()
    with pytest.raises(KeyError, match="sampler"), register_temporaries(webui.model, TEMPORARIES, []):
        raise KeyError("sampler")
    assert webui.contents() == before
    if webui.engine:
        assert "print" not in vars(webui.engine)


def test_gone_where_the_web_ui_read_its_folder_again(webui: Webui) -> None:
    with register_temporaries(webui.model, TEMPORARIES, []):
        for base in webui.databases:
            base.ids_lookup.clear()
            base.word_embeddings.clear()
            base.ids_lookup[ids_of("mine")[0]] = [(ids_of("mine"), SimpleNamespace(name="mine"))]
        now = webui.contents()
    assert webui.contents() == now


def test_what_came_in_the_block_stays(webui: Webui) -> None:
    first = ids_of(NAMES[0])
    new = SimpleNamespace(name="new", vectors=1)
    with register_temporaries(webui.model, TEMPORARIES, []):
        for base in webui.databases:
            base.ids_lookup[first[0]].insert(1, (first[:2], new))
            base.word_embeddings["new"] = new
    for base in webui.databases:
        assert [one for _, one in base.ids_lookup[first[0]] if one is new] == [new]
        assert not any(STAND_IN.match(one.name) for entries in base.ids_lookup.values() for _, one in entries)


def test_a_token_that_no_other_name_begins_with(webui: Webui) -> None:
    first = ids_of(NAMES[0])[0]
    for base in webui.databases:
        del base.ids_lookup[first]
    with register_temporaries(webui.model, TEMPORARIES, []):
        assert [one.name for one in webui.find(NAMES[1])] == [NAMES[1]] * len(webui.databases)
    assert all(first not in base.ids_lookup for base in webui.databases)


def test_one_block_within_another(webui: Webui) -> None:
    before = webui.contents()
    with register_temporaries(webui.model, TEMPORARIES[:2], []):
        with register_temporaries(webui.model, [temporary(NAMES[1]), TEMPORARIES[2]], []):
            assert {one.name for one in webui.find(" ".join(NAMES))} == set(NAMES)
        assert {one.name for one in webui.find(" ".join(NAMES)) if STAND_IN.match(one.name)} == set(NAMES[:2])
    assert webui.contents() == before


def test_none_are_registered(webui: Webui) -> None:
    before = webui.contents()
    with register_temporaries(webui.model, [], []):
        assert webui.contents() == before
    assert webui.contents() == before


@pytest.mark.parametrize("model", [None, SimpleNamespace(cond_stage_model=None, chunk_length=75)])
def test_no_model_is_loaded(webui: Webui, model: object) -> None:
    """Where mistakes are used as they stand there may be none, or Forge's stand-in, or one without CLIP."""
    before = webui.contents()
    with register_temporaries(model, [], [[None, None, {}]]):
        assert webui.contents() == before
    assert webui.contents() == before


# What the encoders get


@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("clip_l",), ("clip_h",), ("clip_g",)])
def test_an_embedding_is_as_web_uis_have_them(webui: Webui, keys: tuple[str, ...]) -> None:
    given = temporary(NAMES[0], 3, keys)
    with register_temporaries(webui.model, [given], []):
        embedding = webui.find(NAMES[0])[0]
        assert embedding.vectors == 3
        assert embedding.shape == sum(WIDTHS[key] for key in keys)
        assert (embedding.step, embedding.hash, embedding.shorthash, embedding.checksum()) == (None, "", "", "")
        assert (embedding.filename, embedding.sd_checkpoint, embedding.sd_checkpoint_name) == ("", None, None)
        if len(keys) > 1:
            assert list(embedding.vec) == list(keys)
            assert all(embedding.vec[key].equal(given.vectors[key]) for key in keys)
        else:
            assert embedding.vec.equal(given.vectors[keys[0]])


def test_vectors_go_to_the_device_where_the_web_ui_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = a1111(monkeypatch)
    vars(webui.devices)["device"] = torch.device("meta")
    with register_temporaries(webui.model, TEMPORARIES[:1], []):
        (embedding,) = webui.find(NAMES[0])
        assert {rows.device.type for rows in embedding.vec.values()} == {"meta"}
    assert {find_device(rows) for rows in TEMPORARIES[0].vectors.values()} == {"cpu"}


def test_forge_moves_vectors_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = forge(monkeypatch)
    with register_temporaries(webui.model, TEMPORARIES[:1], []):
        for embedding in webui.find(NAMES[0]):
            assert {rows.device.type for rows in embedding.vec.values()} == {"cpu"}


# Messages to the user


def test_a1111s_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = a1111(monkeypatch)
    comments = webui.comments
    other = f"Warning: too many input tokens; {NAMES[0]}"
    with register_temporaries(webui.model, TEMPORARIES, []):
        comments += [
            other,
            f"Used embeddings: {NAMES[0]} [], mine [12ab], {NAMES[1]} []",
            f"Used embeddings: {NAMES[2]} []",
            "Used embeddings: mine [12ab], my, name []",
        ]
    assert webui.comments is comments
    assert comments == [other, "Used embeddings: mine [12ab]", "Used embeddings: mine [12ab], my, name []"]


def test_forges_console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    webui = forge(monkeypatch)
    assert webui.engine
    engine = webui.model.text_processing_engine_l
    with register_temporaries(webui.model, TEMPORARIES, []):
        engine.use([NAMES[0], "mine", NAMES[1]])
        print("elsewhere", NAMES[0])  # noqa: T201 -- nobody's business
    engine.use(["mine"])
    used = "[Textual Inversion] Used Embedding [mine] in CLIP of [clip_l]\n"
    assert capsys.readouterr().out == used + f"elsewhere {NAMES[0]}\n" + used
    assert "print" not in vars(webui.engine)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (f"{NAMES[0]}", {}),
        (f"{NAMES[0]}, {NAMES[1]}", {}),
        (f"mine, {NAMES[0]}, embedding1", {"TI": "mine, embedding1"}),
        ("mine", {"TI": "mine"}),
        (f"x{NAMES[0]}", {"TI": f"x{NAMES[0]}"}),
    ],
)
def test_forges_infotext(monkeypatch: pytest.MonkeyPatch, listed: str, expected: dict[str, str]) -> None:
    webui = forge(monkeypatch)
    assert webui.engine
    others = {"Emphasis": "No norm", "TI hashes": 7}
    caches: list[list[Any]] = [["key", "conditioning", {}], [None, None, None], [None, None]]
    with register_temporaries(webui.model, TEMPORARIES, caches):
        params = others | {"TI": listed}
        webui.model.extra_generation_params = copy.copy(params)
        webui.engine.last_extra_generation_params = copy.copy(params)  # type: ignore[attr-defined] # a module's contents
        caches[0][2] = copy.copy(params)
    assert webui.model.extra_generation_params == others | expected
    assert webui.engine.last_extra_generation_params == others | expected
    assert caches == [["key", "conditioning", others | expected], [None, None, None], [None, None]]


def test_forges_infotext_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = forge(monkeypatch)
    with pytest.raises(KeyError), register_temporaries(webui.model, TEMPORARIES, []):
        webui.model.text_processing_engine_l.use([NAMES[0]])
        raise KeyError
    assert webui.engine
    assert webui.engine.last_extra_generation_params == {}


def test_a_ti_that_is_no_text_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = forge(monkeypatch)
    with register_temporaries(webui.model, TEMPORARIES, []):
        webui.model.extra_generation_params = {"TI": [NAMES[0]]}
    assert webui.model.extra_generation_params == {"TI": [NAMES[0]]}
