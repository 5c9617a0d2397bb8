"""SD.Next: generations with inline expressions, saving and removing, on its double. On the real one: tests/webui."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import as_tensor, equal
from contract.generations import NAMED, NAMED_SOURCE, TEMPORARY
from contract.sdnext_generations import CASES, Case, Watch, judge
from doubles.checkpoints import Checkpoints
from doubles.installed import Surroundings
from doubles.sdnext import Processing, SdNext
from generating import checkpoints, refused  # noqa: F401 -- a fixture

from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts import this_webui
from lib_embedmerge.hosts.sdnext.added_tokens import list_tokens, retire_tokens
from lib_embedmerge.hosts.sdnext.sdnext_hook import SdNextHook
from lib_embedmerge.hosts.sdnext.sdnext_host import SdNextHost
from lib_embedmerge.hosts.webui.settings import FOLLOW, INLINE, LITERAL
from lib_embedmerge.hosts.webui.settings import MISTAKES as ON_MISTAKE
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.version import __version__

# fastapi's own imports warn of one another.
pytestmark = pytest.mark.filterwarnings("ignore:Please use .import python_multipart:PendingDeprecationWarning")


A = 320


@dataclass
class Program:
    """The double with our host. outputs: of the token layers in the last generation."""

    double: SdNext
    host: SdNextHost = field(default_factory=SdNextHost)
    outputs: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    def generate(self, **fields: Any) -> Processing:
        watch = Watch()
        try:
            return self.double.generate(**fields)
        finally:
            watch.end()
            self.outputs = watch.outputs

    def wrong(self, case: Case, checkpoint: str = "alpha", refiner: str = "") -> list[str]:
        around = self.double.around
        files = around.checkpoints[checkpoint].path, around.embeddings
        return judge(case, self.outputs, *files, around.checkpoints[refiner].path if refiner else None)

    def save(self, name: str, source: str) -> Path:
        path = build_embedding(self.host.active().model, source, name).save(self.host.embeddings_folder, overwrite=True)
        self.host.embedding_saved(path)
        return path

    @property
    def calls(self) -> int:
        return sum(map(len, self.outputs.values()))

    def hooks(self) -> int:
        """Hooks on the layers, which must be gone after a generation."""
        pipelines = self.double.model, self.double.model_data.sd_refiner
        encoders = [encoder for pipeline in pipelines if pipeline is not None for encoder, _ in pipeline.encoders]
        return sum(len(encoder.layer._forward_hooks) for encoder in encoders)


@pytest.fixture(scope="module")
def installed(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("sdnext")
    (folder / "embeddings").mkdir()
    scratch = tmp_path_factory.getbasetemp() / "tokenizers"
    with pytest.MonkeyPatch.context() as patch:
        yield Program(SdNext(Surroundings(patch, checkpoints, folder / "embeddings", scratch)))
    shutil.rmtree(folder)


@pytest.fixture
def bare(installed: Program) -> Iterator[Program]:
    """With a model in memory, without our hook."""
    data = dict(installed.double.options.data)
    installed.double.load()
    installed.double.cache.clear()
    yield installed
    installed.double.options.data.clear()
    installed.double.options.data.update(data)
    installed.double.model_data.sd_refiner = None
    for path in list(installed.double.around.embeddings.rglob("*.safetensors")):
        path.unlink()
        installed.host.embedding_removed(path)
    installed.double.load()


@pytest.fixture
def program(bare: Program) -> Iterator[Program]:
    """With it."""
    hook = SdNextHook(lambda: bare.host)
    hook.install()
    yield bare
    hook.remove()


@pytest.mark.parametrize("name", CASES)
def test_case(program: Program, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    if NAMED in case.prompt:
        program.save(NAMED, NAMED_SOURCE)
    p = program.generate(**case.request)
    assert program.wrong(case) == []
    assert len(p.infotexts) == case.pictures
    for infotext in p.infotexts:
        assert (f"EmbedMerge: {__version__}" in infotext) == case.expressions
        assert not TEMPORARY.search(infotext)
    assert program.hooks() == 0
    assert not TEMPORARY.search(capsys.readouterr().out)
    program.generate(**case.request)
    assert (program.calls == 0) == (case.settings.get("prompt_attention") != "fixed")  # it was in SD.Next's cache
    if program.calls:
        assert program.wrong(case) == []


def test_without_the_setting_nothing_is_replaced(program: Program) -> None:
    setattr(program.double.options, INLINE, False)
    program.generate(prompt="a <'cat'*2>")
    assert program.wrong(Case("", ["a <'cat'*2>"])) == []


@pytest.mark.parametrize(
    ("fields", "where", "marked"),
    [
        ({"prompt": "a b <'cat'+> c"}, "prompt", "+"),
        ({"negative_prompt": "x <blur('a')>"}, "negative_prompt", "blur"),
        ({"prompt": "x", "enable_hr": True, "refiner_prompt": "fine <'a'*>"}, "refiner_prompt", "*"),
        ({"prompt": "x", "enable_hr": True, "refiner_negative": "b <'a':76>"}, "refiner_negative", "<'a':76>"),
    ],
)
def test_a_mistake_stops_the_generation(program: Program, fields: dict[str, Any], where: str, marked: str) -> None:
    with refused() as caught:
        program.generate(**fields)
    detail: Any = caught.value.detail
    assert detail["field"] == where
    assert fields[where].startswith(marked, detail["start"])
    assert program.calls == 0
    assert program.double.state.job_count == 0  # else SD.Next would show a job that runs
    assert program.hooks() == 0


def test_a_mistake_may_be_used_as_it_stands(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    setattr(program.double.options, ON_MISTAKE, LITERAL)
    program.generate(prompt="a <'cat'+> b <'dog'*2>")
    assert program.wrong(Case("", ["a <'cat'+> b «'dog'*2»"])) == []
    assert "The text was used as it stands." in caplog.text


def test_other_expressions_are_not_in_the_cache(program: Program) -> None:
    """SD.Next's cache knows prompts by their texts."""
    program.save(NAMED, "'cat'")
    program.generate(prompt=f"a <'{NAMED}'*2>")
    program.save(NAMED, "'dog'")
    program.generate(prompt=f"a <'{NAMED}'*2>")
    assert program.wrong(Case("", ["a «'dog'*2»"])) == []


def test_the_cache_of_pipelines_is_not_used_for_words(program: Program) -> None:
    """With "fixed" the pipeline encodes, and SD.Next remembers that by the text."""
    program.double.options.prompt_attention = "fixed"
    program.double.pipeline_prompts["a"] = "its conditioning"
    program.generate(prompt="a <'cat'*2>")
    assert program.double.pipeline_prompts == {}


def test_words_in_the_prompt_are_not_lent(program: Program) -> None:
    program.generate(prompt="a <'cat'*2>")
    (lent,) = {word for text in program.double.encoded[-2:] for word in text.split()} - {"a"}
    program.generate(prompt=f"a <'cat'*2> {lent}", negative_prompt=lent)
    assert program.wrong(Case("", [f"a «'cat'*2» {lent}", lent])) == []


def test_words_with_the_name_of_an_embedding_are_not_lent(program: Program) -> None:
    """SD.Next finds names inside words too."""
    program.generate(prompt="a <'cat'*2>")
    (lent,) = {word for text in program.double.encoded[-2:] for word in text.split()} - {"a"}
    program.save(lent[:4], "'photo'")
    program.double.cache.clear()
    program.generate(prompt="a <'cat'*2>")
    assert program.wrong(Case("", ["a «'cat'*2»"])) == []


def test_an_interrupted_generation_leaves_nothing(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(program.double.model), "encode", _interrupt)
    for parser in ("native", "fixed"):
        with pytest.raises(KeyboardInterrupt):
            program.generate(prompt="a <'cat'*2>", override_settings={"prompt_attention": parser})
        assert program.hooks() == 0


def _interrupt(_pipeline: object, _text: str) -> None:
    raise KeyboardInterrupt


def test_another_thread_sees_no_vectors(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's question, while a picture is made with a word that is lent."""
    layer = program.double.model.text_encoder.layer
    seen: list[torch.Tensor] = []
    original = type(program.double.model).encode

    def encode(pipeline: Any, text: str) -> Any:
        ids = pipeline.tokenizer(text, add_special_tokens=False).input_ids
        thread = threading.Thread(target=lambda: seen.append(layer(torch.tensor(ids, dtype=torch.int64))))
        thread.start()
        thread.join(60)
        assert equal(seen[-1].detach(), layer.weight[ids].detach())
        return original(pipeline, text)

    monkeypatch.setattr(type(program.double.model), "encode", encode)
    program.generate(prompt="a <'cat'*2>")
    assert program.wrong(Case("", ["a «'cat'*2»"])) == []
    assert seen


def test_more_vectors_than_a_chunk(program: Program) -> None:
    program.generate(prompt=" ".join([f"<'{'a ' * 60}'*2>"] * 4))
    found = torch.cat([rows[0, 1:76] for rows in program.outputs["clip_l"]])
    vectors = as_tensor(program.host.active().model.encoders[0].vectors([A])) * 2
    assert int((found == vectors.to(found.dtype)).all(-1).sum()) == 240


def test_saving_draws_no_rows_at_random(program: Program) -> None:
    """transformers would take seconds for each embedding, for rows that are written over at once."""
    before = [encoder.slow_resizes for encoder, _ in program.double.model.encoders]
    program.save(NAMED, "'cat','dog'")
    assert [encoder.slow_resizes for encoder, _ in program.double.model.encoders] == before


@pytest.mark.parametrize("followed", [True, False])
def test_recipes_follow_the_model(program: Program, *, followed: bool) -> None:
    program.save(NAMED, NAMED_SOURCE)
    setattr(program.double.options, FOLLOW, followed)
    program.double.options.sd_model_checkpoint = "beta"
    program.double.load()
    program.generate(prompt=f"a {NAMED}, <'x {NAMED}'>")
    text = f"a «{NAMED_SOURCE}», «cat(('x'),({NAMED_SOURCE}))»" if followed else f"a «'{NAMED}'», «'x {NAMED}'»"
    assert program.wrong(Case("", [text]), "beta") == []


@pytest.mark.parametrize("parser", ["native", "fixed"])
def test_the_refiner_reads_vectors_of_its_own(program: Program, parser: str) -> None:
    """It encodes the prompt itself, after the model has."""
    program.double.load_refiner("beta")
    texts = {"prompt": "a <'cat'+'dog'> <'cat','dog'*2>", "negative_prompt": "x <'bad'*2>"}
    p = program.generate(**texts, enable_hr=True, refiner_start=0.5, override_settings={"prompt_attention": parser})
    wanted = ["a «'cat'+'dog'» «'cat','dog'*2»", "x «'bad'*2»"]
    assert program.wrong(Case("", wanted), refiner="beta") == []
    assert program.hooks() == 0
    assert "EmbedMerge: " in p.infotexts[0]


def test_recipes_follow_the_refiner(program: Program) -> None:
    program.save(NAMED, NAMED_SOURCE)
    setattr(program.double.options, FOLLOW, True)
    program.double.load_refiner("beta")
    program.generate(prompt=f"<'x {NAMED}'>", enable_hr=True, refiner_start=0.5)
    # By the model that it was made on, the file and its recipe are the same.
    assert program.wrong(Case("", [f"«cat(('x'),({NAMED_SOURCE}))»"]), refiner="beta") == []


def test_a_refiner_may_have_one_text_encoder(program: Program) -> None:
    program.double.load_refiner("beta", ["clip_g"])
    program.generate(prompt="a <'cat'*2>", enable_hr=True, refiner_start=0.5)
    wrong = program.wrong(Case("", ["a «'cat'*2»"]), refiner="beta")
    assert wrong == ["clip_l: not encoded: \"a «'cat'*2» (by the refiner)\""]
    assert program.hooks() == 0


def test_a_shorter_embedding_takes_the_place_of_a_longer_one(program: Program) -> None:
    program.save(NAMED, "'cat','dog','photo'")
    program.save(NAMED, "'dog'*2")
    program.generate(prompt=f"a {NAMED} b")
    assert program.wrong(Case("", [f"a «'{NAMED}'» b"])) == []
    program.save(NAMED, "'cat','dog','photo','x'")
    program.generate(prompt=f"a {NAMED} b")
    assert program.wrong(Case("", [f"a «'{NAMED}'» b"])) == []


def test_a_name_with_other_capitals_takes_its_place(program: Program) -> None:
    program.save("EmSdNext", "'cat'").unlink()
    program.save("emsdnext", "'dog'*2")
    tokenizer = program.double.model.tokenizer
    assert "emsdnext" in tokenizer.added_tokens_encoder
    assert "EmSdNext" not in tokenizer.added_tokens_encoder
    assert list(program.double.model.embedding_db.word_embeddings) == ["emsdnext"]


def test_ids_of_other_embeddings_stay(program: Program) -> None:
    program.save("emfirst1", "'cat','dog'")
    program.save("emsecond1", "'photo'*2")
    path = program.host.library().path("emfirst1")
    path.unlink()
    program.host.embedding_removed(path)
    program.generate(prompt="a emsecond1 b")
    assert program.wrong(Case("", ["a «'emsecond1'» b"])) == []


def test_a_removed_namesake_in_another_folder_stays(program: Program) -> None:
    path = program.save(NAMED, "'cat'")
    program.host.embedding_removed(path.parent / "folder" / path.name)
    assert NAMED in program.double.model.embedding_db.word_embeddings


def test_what_sdnext_cannot_load_is_logged(
    program: Program, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_filenames: list[str]) -> None:
        raise RuntimeError("some fault")

    monkeypatch.setattr(program.double.model.embedding_db, "load_diffusers_embedding", fail)
    path = program.save(NAMED, "'cat'")
    assert load_embedding(path).count == 1
    assert "SD.Next could not load" in caplog.text


def test_vectors_are_no_views_into_a_file(program: Program) -> None:
    path = program.save(NAMED, "'cat'")
    loaded = program.double.model.embedding_db.word_embeddings[NAMED]
    before = loaded.vec
    program.host.before_replacing(path)
    assert all(new is not old and equal(new, old) for new, old in zip(loaded.vec, before, strict=True))


def test_the_counter_counts_vectors(program: Program) -> None:
    from modules import ui_common  # noqa: TID251 -- the double's

    assert ui_common.update_token_counter("a <'cat dog':4>") == 5
    assert ui_common.update_token_counter("it's a cat") == 4


def test_the_host_tells_of_the_program(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program.host.program == "SD.Next, of an unknown version"
    monkeypatch.setitem(sys.modules, "installer", type(sys)("installer"))
    sys.modules["installer"].version = {"commit": "058a7f0", "updated": "2026-07-23", "url": "x"}  # type: ignore[attr-defined] # a module's contents
    assert program.host.program == "SD.Next, 058a7f0 2026-07-23"


def test_embeddings_that_are_switched_off_are_told_of(program: Program) -> None:
    assert program.host.active().warnings == ()
    program.double.options.diffusers_enable_embed = False
    (warning,) = program.host.active().warnings
    assert "Enable embeddings support" in warning


def test_a_model_with_other_encoders_is_refused(program: Program) -> None:
    model = program.double.model
    model.text_encoder_3 = torch.nn.Identity()
    try:
        with pytest.raises(HostError, match="other text encoders than CLIP"):
            program.host.active()
        program.host.embedding_saved(program.double.around.embeddings / "x.safetensors")
    finally:
        del model.text_encoder_3


def test_tables_that_are_elsewhere_are_read_from_the_file(program: Program) -> None:
    """As with sequential offloading."""
    layer = program.double.model.text_encoder.layer
    before = layer.weight
    layer.weight = torch.nn.Parameter(before.to("meta"))
    try:
        assert program.host.active().vectors_from == "the checkpoint file; the model is not loaded yet"
    finally:
        layer.weight = before


def test_functions_are_restored(bare: Program) -> None:
    names = ("processing_args", "processing_diffusers", "processing", "styles", "ui_common", "prompt_parser_diffusers")
    before = {name: dict(vars(sys.modules[f"modules.{name}"])) for name in names}
    hook = SdNextHook(lambda: bare.host)
    for _ in range(2):
        hook.install()
    assert {name: dict(vars(sys.modules[f"modules.{name}"])) for name in names} != before
    hook.remove()
    assert {name: dict(vars(sys.modules[f"modules.{name}"])) for name in names} == before


def test_it_is_recognised_by_how_it_encodes(bare: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(this_webui.make_host(), SdNextHost)
    assert isinstance(this_webui.make_prompt_hook(lambda: bare.host), SdNextHook)
    monkeypatch.delitem(sys.modules, "modules.prompt_parser_diffusers")
    assert not this_webui.encodes_with_pipelines()


def test_retired_tokens_are_found_no_more(bare: Program) -> None:
    tokenizer = bare.double.model.tokenizer
    tokenizer.add_tokens(["emretire1", "emretire1_1", "emretire1_2"])
    assert list_tokens("emretire1", tokenizer) == ["emretire1", "emretire1_1", "emretire1_2"]
    kept = tokenizer.convert_tokens_to_ids("emretire1")
    retire_tokens(list_tokens("emretire1", tokenizer, 1), tokenizer)
    assert list_tokens("emretire1", tokenizer) == ["emretire1"]
    assert tokenizer("emretire1", add_special_tokens=False).input_ids == [kept]
    tokenizer.add_tokens(["emretire2"])
    assert tokenizer.convert_tokens_to_ids("emretire2") == kept + 3
