"""What differs between web UIs and their models: found, refused, told. What is the same: tests/test_contract.py."""

from __future__ import annotations

import functools
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from arrays import equal
from checkpoint_files import save
from doubles import a1111
from doubles.a1111 import A1111
from doubles.checkpoints import Checkpoints, write_clip_l
from doubles.forge import Forge, with_t5
from doubles.installed import Surroundings
from doubles.layers import Model, Node, like_transformers, table_layer
from doubles.neo import OTHER_ENGINES, Neo, without_clip
from doubles.reforge import ReForge
from generating import checkpoints  # noqa: F401 -- a fixture

from lib_embedmerge import open_checkpoint
from lib_embedmerge.errors import CheckpointError, HostError
from lib_embedmerge.hosts.webui import token_tables
from lib_embedmerge.hosts.webui.host import WebuiHost
from lib_embedmerge.hosts.webui.token_tables import TokenTables, find_token_tables
from lib_embedmerge.recipes.build import build_embedding

CAT = 2368


@pytest.fixture
def around(
    checkpoints: Checkpoints,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Surroundings]:
    scratch = tmp_path_factory.getbasetemp() / "tokenizers"
    yield Surroundings(monkeypatch, checkpoints, tmp_path / "embeddings", scratch)
    gc.collect()


# Kinds of models


@pytest.mark.parametrize(
    ("name", "build", "architecture"),
    [
        ("one", a1111.sd1, "sd1"),
        ("two", a1111.sd2, "sd2"),
        ("refiner", a1111.refiner, "sdxl-refiner"),
        ("alpha", a1111.sdxl, "sdxl"),
        ("alpha", a1111.not_hijacked, "sdxl"),
    ],
)
def test_models_of_a1111(around: Surroundings, name: str, build: Any, architecture: str) -> None:
    A1111(around, name).load(build)
    active = WebuiHost().active()
    assert active.model.facts.architecture.name == architecture
    assert active.vectors_from == "the loaded model, float16 on cpu"
    assert active.warnings == ()
    for encoder in active.model.encoders:
        table = around.checkpoints[name].tables[encoder.key]
        assert equal(encoder.vectors([CAT, 0]), table[[CAT, 0]].float())
    file = open_checkpoint(around.checkpoints[name].path)
    assert dict(active.model.fingerprints()) == dict(file.fingerprints())


@pytest.mark.parametrize("name", ["one", "two", "refiner"])
def test_models_of_forge(around: Surroundings, name: str) -> None:
    forge = Forge(around, name)
    from_file = WebuiHost().active().model
    forge.reload()
    host = WebuiHost()
    in_memory = host.active()
    assert in_memory.model.facts == from_file.facts
    for ours, theirs in zip(in_memory.model.encoders, from_file.encoders, strict=True):
        assert equal(ours.vectors([CAT, 0]), theirs.vectors([CAT, 0]))
    path = build_embedding(in_memory.model, "'cat'*2", "smallone").save(host.embeddings_folder)
    host.embedding_saved(path)
    (engine,) = (one for one in vars(forge.model).values() if hasattr(one, "embeddings"))
    assert "smallone" in engine.embeddings.word_embeddings


def test_sd3_is_refused(around: Surroundings) -> None:
    A1111(around).load(a1111.sd3)
    with pytest.raises(HostError, match="other text encoders than CLIP") as caught:
        WebuiHost().active()
    assert caught.value.hint


FOREIGN: dict[str, Callable[[Any], Any]] = {
    "Flux": lambda info: with_t5(info, "l"),
    "SD3.5": lambda info: with_t5(info, "l", "g"),
    "Chroma": with_t5,
} | {name: functools.partial(without_clip, ending=ending) for name, ending in OTHER_ENGINES.items()}
"""Models with text encoders that are not CLIP."""


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("kind", [Forge, Neo])
def test_models_with_other_encoders_are_refused(around: Surroundings, kind: type[Forge], name: str) -> None:
    forge = kind(around)
    forge.reload()
    forge.model_data.sd_model = FOREIGN[name](forge.model.sd_checkpoint_info)
    with pytest.raises(HostError, match="other text encoders than CLIP"):
        WebuiHost().active()
    with pytest.raises(HostError, match="other text encoders than CLIP"):
        WebuiHost().find_loaded_model()


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("kind", [Forge, Neo])
def test_files_can_be_changed_while_such_a_model_is_in_memory(
    around: Surroundings, caplog: pytest.LogCaptureFixture, kind: type[Forge], name: str
) -> None:
    """An SDXL checkpoint is selected, the last one is still loaded. Nothing fails and nothing is logged."""
    forge = kind(around, "beta")
    forge.reload()
    forge.model_data.sd_model = FOREIGN[name](forge.model.sd_checkpoint_info)
    forge.choose(forge.around.info("alpha").title)
    host = WebuiHost()
    path = build_embedding(host.active().model, "'cat'", "beside").save(host.embeddings_folder)
    host.embedding_saved(path)
    assert host.library().names() == ("beside",)
    host.before_replacing(path)
    renamed = path.rename(path.with_stem("besides"))
    host.embedding_removed(path)
    host.embedding_saved(renamed)
    assert host.library().names() == ("besides",)
    renamed.unlink()
    host.embedding_removed(renamed)
    assert host.library().names() == ()
    assert caplog.records == []


@pytest.mark.parametrize("widths", [(768, 1024), (1280, 1024)])
def test_an_unknown_pair_of_encoders(around: Surroundings, widths: tuple[int, ...]) -> None:
    double = A1111(around, "one")
    double.load(a1111.sd1)
    embedders = [like_transformers(table_layer(torch.zeros(5, width))) for width in widths]
    double.model_data.sd_model = Model(double.model.sd_checkpoint_info, conditioner=Node(embedders=Node()))
    double.model.conditioner.embedders = torch.nn.ModuleList(embedders)
    with pytest.raises(HostError, match="cannot use this kind of model: one has"):
        WebuiHost().active()


@pytest.mark.parametrize(
    "layer",
    [torch.nn.Embedding(4, 512), torch.nn.Linear(2, 2), torch.nn.Identity()],
    ids=["of another width", "no table", "nothing"],
)
def test_what_is_no_clip_table_is_refused(layer: torch.nn.Module) -> None:
    with pytest.raises(HostError, match="other text encoders than CLIP"):
        find_token_tables(Model(None, cond_stage_model=like_transformers(layer)))


class Forwarder(torch.nn.Module):
    """A module that has the attributes of another one, as torch.compile makes them."""

    def __init__(self, other: torch.nn.Module) -> None:
        super().__init__()
        self.other = other

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name == "other" else getattr(self.other, name)


def test_an_encoder_in_a_module_that_forwards() -> None:
    encoder = Forwarder(like_transformers(table_layer(torch.zeros(5, 768))))
    assert list(find_token_tables(Model(None, cond_stage_model=encoder))) == ["clip_l"]


@pytest.mark.parametrize("model", [None, SimpleNamespace(), SimpleNamespace(cond_stage_model=None)])
def test_what_is_no_model_has_no_tables(model: object) -> None:
    assert find_token_tables(model) == {}


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The models that were searched from here on."""
    found: list[object] = []
    monkeypatch.setattr(
        token_tables, "find_token_tables", lambda model: (found.append(model), find_token_tables(model))[1]
    )
    return found


def text_encoder(width: int = 768) -> Any:
    return like_transformers(table_layer(torch.zeros(5, width)))


def two_encoders() -> Any:
    return Model(None, conditioner=Node(embedders=torch.nn.ModuleList([text_encoder(), text_encoder(1280)])))


def test_a_model_is_searched_once(searches: list[object]) -> None:
    tables, model = TokenTables(), two_encoders()
    for _ in range(3):
        assert tables.find(model) == find_token_tables(model)
        assert tables.find(None) == {}
    assert searches.count(model) == 1
    other = two_encoders()
    assert tables.find(other) == find_token_tables(other)
    left = weakref.ref(other)
    searches.clear()
    del other
    gc.collect()
    assert left() is None


def wrap_encoder(embedders: Any) -> None:
    embedders[0] = Node(wrapped=embedders[0])


def replace_encoder(embedders: Any) -> None:
    embedders[0] = text_encoder()


def replace_text_model(embedders: Any) -> None:
    embedders[0].transformer = text_encoder().transformer


def wrap_table(embedders: Any) -> None:
    parent = embedders[0].transformer.text_model.embeddings
    parent.token_embedding = Node(wrapped=parent.token_embedding)


@pytest.mark.parametrize("change", [wrap_encoder, replace_encoder, replace_text_model, wrap_table])
def test_a_part_of_a_model_that_was_searched_changes(change: Callable[[Any], None]) -> None:
    tables, model = TokenTables(), two_encoders()
    tables.find(model)
    change(model.conditioner.embedders)
    found = tables.find(model)
    assert found == find_token_tables(model) == tables.find(model)
    assert list(found) == ["clip_l", "clip_g"]


# Which checkpoint counts


def test_nothing_is_loaded_yet(around: Surroundings) -> None:
    """A1111 loads in the background after its start."""
    double = A1111(around, "beta")
    host = WebuiHost()
    active = host.active()
    assert active.model.facts.file_name == "beta.safetensors"
    assert active.vectors_from == "the checkpoint file; the model is not loaded yet"
    assert active.model.encoders[0].nearest(active.model.encoders[0].vectors([CAT]))
    double.load()
    assert host.active().vectors_from.startswith("the loaded model")
    assert host.active().model.facts == active.model.facts


def test_a_saved_file_needs_no_model(around: Surroundings) -> None:
    A1111(around)
    host = WebuiHost()
    path = build_embedding(host.active().model, "'cat'", "early").save(host.embeddings_folder)
    host.embedding_saved(path)
    assert host.library().names() == ("early",)


def test_the_first_checkpoint_counts_where_the_chosen_one_is_gone(around: Surroundings) -> None:
    double = A1111(around)
    double.options.sd_model_checkpoint = "gone.safetensors"
    assert WebuiHost().active().model.facts.file_name == "alpha.safetensors"


@pytest.mark.parametrize("kind", [A1111, Forge])
def test_every_checkpoint_is_listed(around: Surroundings, kind: Any) -> None:
    kind(around)
    files = {model.path for model in around.checkpoints.by_name.values()}
    assert set(WebuiHost().checkpoints().values()) == files


def test_there_is_no_checkpoint(around: Surroundings) -> None:
    double = A1111(around)
    double.infos.clear()
    double.around.install(sd_models={"model_data": double.model_data, "checkpoints_list": {}, "checkpoint_aliases": {}})
    with pytest.raises(HostError, match="No checkpoint was found") as caught:
        WebuiHost().active()
    assert caught.value.hint


def test_forge_has_another_one_in_memory(around: Surroundings) -> None:
    forge = Forge(around)
    forge.reload()
    host = WebuiHost()
    assert host.active().warnings == ()
    forge.choose(around.info("beta").title)
    active = host.active()
    assert active.model.facts.title == "beta"
    assert active.warnings == ("beta is selected, but alpha is still loaded.",)
    table = around.checkpoints["beta"].tables["clip_g"]
    assert equal(active.model.encoders[1].vectors([CAT]), table[[CAT]].float())


@pytest.mark.parametrize("kind", [A1111, ReForge])
@pytest.mark.parametrize("other", ["beta", "refiner"])
def test_hires_and_refiner_leave_another_one_in_memory(around: Surroundings, kind: Any, other: str) -> None:
    double = kind(around)
    double.load()
    host = WebuiHost()
    first = host.active()
    double.switch_to(around.info(other))
    active = host.active()
    assert active.model.facts == first.model.facts
    assert active.warnings == (f"alpha is selected, but {other} is still loaded.",)
    assert active.vectors_from == "the checkpoint file; another model is loaded"
    table = around.checkpoints["alpha"].tables["clip_g"]
    assert equal(active.model.encoders[1].vectors([CAT]), table[[CAT]].float())
    assert set(host.find_loaded_model().fingerprints()) == set(
        around.checkpoints[other].tables
    )  # which prompts are encoded by
    double.switch_to(None)
    assert host.active().vectors_from.startswith("the loaded model")
    assert host.active().warnings == ()


def test_two_checkpoints_of_one_name_are_told_apart(around: Surroundings) -> None:
    """In two folders."""
    double = A1111(around)
    double.load(info=around.info("beta"))
    double.model.sd_checkpoint_info.name_for_extra = "alpha"
    double.model.sd_checkpoint_info.title = "old/alpha.safetensors [0123456789]"
    notes = WebuiHost().active().warnings
    assert notes == ("alpha is selected, but old/alpha.safetensors [0123456789] is still loaded.",)


def test_the_selected_file_is_gone_and_another_one_in_memory(around: Surroundings, tmp_path: Path) -> None:
    double = A1111(around)
    double.load(info=around.info("beta"))
    double.selected.filename = str(tmp_path / "gone.safetensors")
    host = WebuiHost()
    with pytest.raises(CheckpointError, match="gone"):
        host.active()
    assert host.find_loaded_model().facts.title == "beta"  # prompts are encoded all the same


def test_the_selected_one_is_no_model_that_can_be_read(around: Surroundings, tmp_path: Path) -> None:
    double = A1111(around)
    double.load(info=around.info("beta"))
    double.selected.filename = str(save(tmp_path / "vae.safetensors", {"decoder.conv_in.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"vae\.safetensors"):
        WebuiHost().active()


def test_no_checkpoint_is_selected(around: Surroundings) -> None:
    """The web UI then takes the first one, whatever is in memory."""
    double = A1111(around)
    double.load(info=around.info("beta"))
    double.options.data["sd_model_checkpoint"] = None
    active = WebuiHost().active()
    assert active.model.facts.file_name == "alpha.safetensors"
    assert active.warnings == ("alpha is selected, but beta is still loaded.",)


def test_forge_while_it_loads(around: Surroundings) -> None:
    forge = Forge(around)
    forge.reload()
    forge.model_data.sd_model = None
    assert WebuiHost().active().vectors_from.startswith("the checkpoint file")


def test_forges_first_prompt_changes_the_dtype_alone(around: Surroundings) -> None:
    forge = Forge(around)
    forge.reload()
    host = WebuiHost()
    before = host.active()
    vectors = before.model.encoders[0].vectors([CAT])
    forge.model.text_processing_engine_l.encode_once()
    after = host.active()
    assert before.vectors_from == "the loaded model, float16 on cpu"
    assert after.vectors_from == "the loaded model, float32 on cpu and float16 on cpu"
    assert after.model.encoders[0] is before.model.encoders[0]
    assert equal(before.model.encoders[0].vectors([CAT]), vectors)


# Other text encoders


@pytest.mark.parametrize("loaded", [False, True])
def test_forges_additional_modules(around: Surroundings, tmp_path: Path, *, loaded: bool) -> None:
    beta = around.checkpoints["beta"].tables["clip_l"]
    module = write_clip_l(tmp_path / "clip_l-beta.safetensors", beta)
    vae = save(tmp_path / "vae.safetensors", {"decoder.conv_in.weight": torch.zeros(1)})
    forge = Forge(around)
    forge.select([vae, module])
    if loaded:
        forge.reload()
    active = WebuiHost().active()
    first, second = active.model.encoders
    assert equal(first.vectors([CAT]), beta[[CAT]].float())
    assert equal(second.vectors([CAT]), around.checkpoints["alpha"].tables["clip_g"][[CAT]].float())
    assert active.model.facts.text_encoder_files == ("clip_l-beta.safetensors",)
    assert active.warnings == ("The text encoders come from clip_l-beta.safetensors, not from the checkpoint.",)
    alone, beside = open_checkpoint(around.checkpoints["alpha"].path), open_checkpoint(around.checkpoints["beta"].path)
    prints = active.model.fingerprints()
    assert prints["clip_l"].token_table == beside.fingerprints()["clip_l"].token_table
    assert prints["clip_g"] == alone.fingerprints()["clip_g"]


def test_forges_additional_modules_chosen_after_the_load(around: Surroundings, tmp_path: Path) -> None:
    """The same checkpoint is in memory, but with its own text encoder."""
    beta = around.checkpoints["beta"].tables["clip_l"]
    forge = Forge(around)
    forge.reload()
    forge.select([write_clip_l(tmp_path / "late.safetensors", beta)])
    active = WebuiHost().active()
    assert active.vectors_from.startswith("the checkpoint file")
    assert active.warnings == ("The text encoders come from late.safetensors, not from the checkpoint.",)
    assert equal(active.model.encoders[0].vectors([CAT]), beta[[CAT]].float())


def test_reforges_text_encoder_of_another_checkpoint(around: Surroundings) -> None:
    double = ReForge(around)
    double.load()
    host = WebuiHost()
    plain = host.active()
    assert plain.warnings == ()
    double.options.set("sd_text_encoder", "TE: beta")
    active = host.active()
    assert active.model.facts.title == plain.model.facts.title
    assert active.model.facts.text_encoder_files == ("beta.safetensors",)
    for encoder in active.model.encoders:
        assert equal(encoder.vectors([CAT]), around.checkpoints["beta"].tables[encoder.key][[CAT]].float())
    beta = open_checkpoint(around.checkpoints["beta"].path)
    assert dict(active.model.fingerprints()) == dict(beta.fingerprints())
    double.options.set("sd_text_encoder", "TE: alpha")  # its own, spelled out
    assert host.active().warnings == ()


# Files that are no use


@pytest.fixture
def unreadable(around: Surroundings, tmp_path: Path) -> A1111:
    """A model in memory whose file no longer exists."""
    double = A1111(around)
    double.load()
    double.model.sd_checkpoint_info.filename = str(tmp_path / "gone.safetensors")
    return double


def test_a_model_in_memory_needs_no_file(unreadable: A1111) -> None:
    active = WebuiHost().active()
    facts = active.model.facts
    assert (facts.title, facts.file_name, facts.architecture.name) == ("alpha", "gone.safetensors", "sdxl")
    assert facts.sha256 == unreadable.around.info("alpha").sha256
    assert len(active.warnings) == 1
    assert active.warnings[0].startswith("Its file cannot be read: ")
    fingerprints = active.model.fingerprints()
    expected = open_checkpoint(unreadable.around.checkpoints["alpha"].path).fingerprints()
    for key, fingerprint in fingerprints.items():
        assert fingerprint.token_table == expected[key].token_table
        assert fingerprint.mean_length == expected[key].mean_length
        assert fingerprint.text_encoder is None


def test_a_file_that_is_gone_and_not_in_memory(unreadable: A1111) -> None:
    info = unreadable.model.sd_checkpoint_info
    unreadable.model_data.sd_model = None
    unreadable.infos[info.title] = info
    unreadable.around.install(
        sd_models={
            "model_data": unreadable.model_data,
            "checkpoints_list": unreadable.infos,
            "checkpoint_aliases": {info.title: info},
        }
    )
    with pytest.raises(CheckpointError, match="gone"):
        WebuiHost().active()


def test_an_unreadable_file_keeps_no_model_alive(unreadable: A1111) -> None:
    host = WebuiHost()
    host.active()
    gone = weakref.ref(unreadable.model)
    unreadable.model_data.sd_model = None
    gc.collect()
    assert gone() is None


def test_an_error_that_is_told_again_does_not_grow(around: Surroundings, tmp_path: Path) -> None:
    double = Forge(around)
    double.around.infos  # noqa: B018 -- made at the first look
    double.model_data.forge_loading_parameters["checkpoint_info"].filename = str(tmp_path / "gone.safetensors")
    host = WebuiHost()
    depths = []
    for _ in range(3):
        with pytest.raises(CheckpointError) as told:
            host.active()
        depths.append(len(told.traceback))
    assert depths[1] == depths[2]
    assert told.value.__context__ is None


def test_another_checkpoint_in_the_same_layers_stops_what_began_before(around: Surroundings) -> None:
    double = A1111(around)
    double.load()
    model = WebuiHost().active().model
    model.encoders[0].vectors([CAT])
    double._load_into(around.info("beta"))
    with pytest.raises(HostError, match="Another model was loaded"):
        model.encoders[0].vectors([CAT])
    with pytest.raises(HostError, match="Another model was loaded"):
        model.fingerprints()


@pytest.mark.parametrize("kind", [A1111, Forge])
def test_other_capitals_replace_the_embedding_that_prompts_find(around: Surroundings, kind: Any) -> None:
    double = kind(around)
    (double.reload if kind is Forge else double.load)()
    host = WebuiHost()
    engines = [double.model.text_processing_engine_l, double.model.text_processing_engine_g] if kind is Forge else []
    databases = [engine.embeddings for engine in engines] or [double.database]
    for source, name in (("'cat'", "MyStyle7"), ("'dog'", "mystyle7")):
        path = build_embedding(host.active().model, source, name).save(host.embeddings_folder, overwrite=True)
        host.embedding_saved(path)
    for database in databases:
        assert list(database.word_embeddings) == ["mystyle7"]
        (entries,) = [found for found in database.ids_lookup.values() if found]
        assert [entry[1].name for entry in entries] == ["mystyle7"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_no_embedding_file_stays_mapped(around: Surroundings) -> None:
    """Windows neither replaces nor deletes a mapped file."""
    double = Forge(around)
    double.reload()
    host = WebuiHost()
    path = build_embedding(host.active().model, "'cat'", "mapped7").save(host.embeddings_folder)
    for engine in (double.model.text_processing_engine_l, double.model.text_processing_engine_g):
        engine.embeddings.load_from_file(str(path), path.name)
    host.before_replacing(path)
    gc.collect()
    assert "mapped7" not in Path("/proc/self/maps").read_text(encoding="utf-8")
    host.embedding_saved(path)
    gc.collect()
    assert "mapped7" not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_modules_of_a_forge_model_whose_file_is_gone(around: Surroundings, tmp_path: Path) -> None:
    module = write_clip_l(tmp_path / "clip_l.safetensors", around.checkpoints["beta"].tables["clip_l"])
    vae = save(tmp_path / "vae.safetensors", {"decoder.conv_in.weight": torch.zeros(1)})
    forge = Forge(around)
    info = forge.model_data.forge_loading_parameters["checkpoint_info"]
    forge.select([vae, module])
    forge.reload()
    info.filename = str(tmp_path / "gone.safetensors")
    forge.model_data.forge_loading_parameters["additional_modules"].append(str(tmp_path / "gone-too.safetensors"))
    forge.model_data.forge_hash = str(forge.model_data.forge_loading_parameters)
    assert WebuiHost().active().model.facts.text_encoder_files == ("clip_l.safetensors",)


def test_a_file_that_changes_is_opened_again(around: Surroundings, tmp_path: Path) -> None:
    double = A1111(around)
    info = double.infos[double.options.sd_model_checkpoint]
    path = tmp_path / "copy.safetensors"
    info.filename = str(path)
    path.write_bytes(around.checkpoints["one"].path.read_bytes())
    host = WebuiHost()
    first = host.active().model
    assert host.active().model.encoders[0] is first.encoders[0]
    path.write_bytes(around.checkpoints["refiner"].path.read_bytes())
    assert [encoder.key for encoder in host.active().model.encoders] == ["clip_g"]


# Saved embeddings


def test_the_folder_is_made_where_it_is_missing(around: Surroundings) -> None:
    A1111(around)
    host = WebuiHost()
    assert not host.embeddings_folder.exists()
    assert host.library().names() == ()
    assert host.embeddings_folder.is_dir()


def test_another_folder_after_a_restart_of_the_ui(around: Surroundings, tmp_path: Path) -> None:
    double = A1111(around)
    host = WebuiHost()
    first = host.library()
    assert host.library() is first
    other = SimpleNamespace(embeddings_dir=str(tmp_path / "other"))
    around.install(shared={"opts": double.options, "cmd_opts": other})
    assert host.library().folder == tmp_path / "other"


def test_a_fault_of_one_database_leaves_the_other(
    around: Surroundings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge = Forge(around)
    forge.reload()
    host = WebuiHost()
    path = build_embedding(host.active().model, "'cat'", "faulty").save(host.embeddings_folder)

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(forge.model.text_processing_engine_l.embeddings, "load_from_file", fail)
    with caplog.at_level(logging.WARNING):
        host.embedding_saved(path)
    assert "could not load 'faulty.safetensors'" in caplog.text
    assert "faulty" in forge.model.text_processing_engine_g.embeddings.word_embeddings


def test_a_web_ui_without_conditioning_caches(around: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    double = A1111(around)
    double.load()
    around.install(processing={})
    host = WebuiHost()
    path = build_embedding(host.active().model, "'cat'", "nocache").save(host.embeddings_folder)
    host.embedding_saved(path)
    assert "nocache" in double.database.word_embeddings
    assert "Refresh its list of embeddings" in caplog.text


def test_an_older_file_of_another_architecture_is_not_listed_twice(around: Surroundings) -> None:
    double = A1111(around)
    double.load()
    double.database.skipped_embeddings["twice"] = object()
    host = WebuiHost()
    path = build_embedding(host.active().model, "'cat'", "twice").save(host.embeddings_folder)
    host.embedding_saved(path)
    assert "twice" not in double.database.skipped_embeddings
    assert "twice" in double.database.word_embeddings
