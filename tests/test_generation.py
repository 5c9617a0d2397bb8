"""Whole generations with inline expressions, on the doubles of three web UIs. On real ones: tests/webui."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import re
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import as_tensor, as_tensors, equal
from contract.generations import (
    CASES,
    MISTAKES,
    NAMED,
    NAMED_SOURCE,
    OTHER,
    TEMPORARY,
    Case,
    judge_infotexts,
    judge_parameters,
)
from doubles import forge as forge_module
from doubles.a1111 import A1111
from doubles.checkpoints import Checkpoint, Checkpoints
from doubles.forge import Forge, with_t5
from doubles.generation import (
    ScriptRunner,
    StableDiffusionProcessing,
    StableDiffusionProcessingTxt2Img,
    script_data,
)
from doubles.installed import Surroundings
from doubles.layers import TableWithEmbeddings
from doubles.neo import OTHER_ENGINES, Neo, dynamic_args, without_clip
from doubles.prompts import parse_prompt
from generating import DOUBLES, Generated, Webui, bare, checkpoints, double, refused, webui  # noqa: F401 -- fixtures
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib_embedmerge import open_checkpoint
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.hosts.webui import embedding_merge
from lib_embedmerge.hosts.webui.prompt_hook import PromptHook
from lib_embedmerge.hosts.webui.settings import INLINE, LITERAL, STOP
from lib_embedmerge.hosts.webui.settings import MISTAKES as ON_MISTAKE
from lib_embedmerge.lang.openings import may_have_expressions
from lib_embedmerge.lang.source import parse
from lib_embedmerge.version import __version__

# fastapi's own imports warn of one another.
pytestmark = pytest.mark.filterwarnings("ignore:Please use .import python_multipart:PendingDeprecationWarning")

SEAM = "get_conds_with_caching"
BROKEN = "a <'cat'+> b"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors are small here; threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(one: Any, other: Any) -> bool:
    """Whether two conditionings are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def spy(patch: pytest.MonkeyPatch) -> list[Any]:
    """The prompts that from now on come through here."""
    original, seen = vars(StableDiffusionProcessing)[SEAM], []

    def spying(p: Any, function: Any, required_prompts: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(required_prompts)
        return original(p, function, required_prompts, *args, **kwargs)

    patch.setattr(StableDiffusionProcessing, SEAM, spying)
    return seen


def fields_of(case: Case) -> dict[str, Any]:
    """hr_cfg: Forge encodes no negative hires prompt where it is 1, as it is from the start."""
    fields = {key: "beta" if value == OTHER else value for key, value in case.request.items()}
    return fields if case.image else {"hr_cfg": 7.0, **fields}


# The table of cases


@pytest.mark.parametrize("name", CASES)
def test_case(webui: Webui, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    webui.save(NAMED, NAMED_SOURCE)
    before = webui.entries()
    generated = webui.generate(**fields_of(case), image=case.image)
    assert webui.wrong(case, generated) == []
    assert judge_infotexts(case, generated.infotexts) == []
    assert judge_parameters(generated.parameters) == []
    assert not TEMPORARY.search(capsys.readouterr().out + generated.comments)
    if not case.by_other:
        assert webui.entries() == before
        assert webui.generate(**fields_of(case), image=case.image).calls == 0
    assert not any(TEMPORARY.search(name) for database in webui.databases() for name in database.word_embeddings)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(webui: Webui, name: str) -> None:
    mistake = MISTAKES[name]
    webui.settle()
    before = webui.entries()
    p = StableDiffusionProcessingTxt2Img(**mistake.request, override_settings={"CLIP_stop_at_last_layers": 3})
    with refused() as caught:
        webui.run(p)
    detail: Any = caught.value.detail
    assert type(caught.value).__name__ == "EmbedMerge"
    assert caught.value.status_code == 422
    assert detail["field"] == mistake.field
    assert detail["source"] == mistake.request[mistake.field]
    assert detail["source"][detail["start"] : detail["end"]] == mistake.marked
    assert json.loads(json.dumps(detail)) == detail
    assert p.sampled == []
    assert webui.double.options.CLIP_stop_at_last_layers == 1
    assert webui.entries() == before
    assert webui.wrong(CASES["one"], webui.generate(CASES["one"].prompt)) == []


# Prompts that are none of ours

PIECES = [*"[](){}<>:|\\',.'", "a", "cat", " ", "AND", " BREAK ", "0.5]", ":1.2)", "::2]", "<lora:x:1>", "'a'", "\n"]


def _is_plain(text: str) -> bool:
    """Also when the web UI has taken out the extra networks: {<lora:x:1>'a' is one, unless it is a negative prompt."""
    return not may_have_expressions(text) and not may_have_expressions(parse_prompt(text)[0])


PLAIN = st.lists(st.sampled_from(PIECES), max_size=14).map("".join).filter(_is_plain)


@settings(max_examples=15)
@given(prompt=PLAIN, negative=PLAIN, hires=st.none() | PLAIN)
@example("[cat:dog:0.5] AND (b:1.3) BREAK it's {a|b}", "<lora:x:1>, <EM_1>", "'a' <b> 'c'")
@example("it's < 'cat'", "", None)
@example("", "{['::2]", None)
@example("a {['::2] cat", "", "<['::2]")
def test_plain_prompts_are_the_web_uis_alone(double: Webui, prompt: str, negative: str, hires: str | None) -> None:
    def generated() -> Generated:
        double.forget_conditionings()
        return double.generate(prompt, negative, enable_hr=hires is not None, hr_prompt=hires or "", hr_cfg=7.0)

    alone = generated()
    with pytest.MonkeyPatch.context() as patch:
        below = spy(patch)
        seam = PromptHook(lambda: double.host)
        seam.install()
        above = spy(patch)
        ours = generated()
        patch.undo()
        seam.remove()
    assert len(above) == len(below) >= 2
    assert all(one is other for one, other in zip(above, below, strict=True))
    assert ours.infotexts == alone.infotexts
    assert ours.comments == alone.comments == ""
    assert same(ours.p.sampled, alone.p.sampled)
    assert same(dict(ours.outputs), dict(alone.outputs))


def test_a_plain_prompt_after_one_with_expressions(webui: Webui) -> None:
    expected = webui.generate("a cat", "bad")
    webui.generate("a <'cat'*2>", "<'bad'>")
    found = webui.generate("a cat", "bad")
    assert found.infotexts == expected.infotexts
    assert same(found.p.sampled, expected.p.sampled)


def test_two_prompts_in_turns(webui: Webui) -> None:
    for name in ("one", "alone", "one", "alone"):
        generated = webui.generate(CASES[name].prompt)
        assert [text for text in webui.wrong(CASES[name], generated) if "not encoded: ''" not in text] == []


def test_switched_off_nothing_is_touched(webui: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    webui.double.options.set(INLINE, False)
    seen = spy(monkeypatch)
    generated = webui.generate("a <'cat'*2>", "{'dog'}")
    assert list(map(list, seen)) == [["{'dog'}"], ["a <'cat'*2>"]]
    assert webui.wrong(Case("", ["a <'cat'*2>", "{'dog'}"]), generated) == []
    assert "EmbedMerge" not in generated.infotexts[0]


# Nothing is left


def test_nothing_is_left_when_encoding_fails(
    webui: Webui, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    webui.save("stays", "'cat'*2")
    before = webui.entries()

    def fails(*_: Any) -> None:
        # In the middle of it, the names can be found, but are not listed.
        assert any(TEMPORARY.match(one.name) for some in _looked_up(webui) for one in some)
        assert all(list(database.word_embeddings) == ["stays"] for database in webui.databases())
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(TableWithEmbeddings, "forward", fails)
        with pytest.raises(RuntimeError, match="no memory"):
            webui.generate("a <'cat'*2>, stays", "<'cat'>")
    assert webui.entries() == before
    assert "print" not in vars(forge_module)
    generated = webui.generate("a <'cat'*2>, stays", "<'cat'>")
    assert webui.entries() == before
    assert "print" not in vars(forge_module)
    assert not TEMPORARY.search(capsys.readouterr().out + generated.comments + "".join(generated.infotexts))
    assert ('TI: "stays, stays"' if _is_forge(webui) else 'TI hashes: "stays: ') in generated.infotexts[0]


def test_nothing_is_left_when_the_second_encoder_fails(webui: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has said by then which embeddings are used."""
    webui.settle()
    original = TableWithEmbeddings.forward

    def fails_for_clip_g(layer: Any, ids: torch.Tensor) -> torch.Tensor:
        if layer.textual_inversion_key == "clip_g":
            raise RuntimeError("no memory")
        return original(layer, ids)

    with monkeypatch.context() as patch:
        patch.setattr(TableWithEmbeddings, "forward", fails_for_clip_g)
        with pytest.raises(RuntimeError, match="no memory"):
            webui.generate("a <'cat'*2>")
    said = [forge_module.last_extra_generation_params, dynamic_args.last_extra_generation_params, webui.double.said()]
    assert not TEMPORARY.search(str(said))
    assert "TI" not in webui.generate("a cat").infotexts[0]


def _looked_up(webui: Webui) -> list[list[Any]]:
    return [[one for _, one in found] for database in webui.databases() for found in database.ids_lookup.values()]


def _is_forge(webui: Webui) -> bool:
    return isinstance(webui.double, Forge)


def test_embeddings_that_are_used_are_still_told(webui: Webui, capsys: pytest.CaptureFixture[str]) -> None:
    webui.save("told", "'cat'")
    both = webui.generate("told <'cat'*2>")
    printed = capsys.readouterr().out
    again = webui.generate("told <'cat'*2>")
    assert again.calls == 0
    if _is_forge(webui):  # A1111 forgets them with the second
        assert again.infotexts == both.infotexts
    webui.forget_conditionings()
    alone = webui.generate("told")
    assert capsys.readouterr().out == printed
    hashed = "told: [0-9a-f]{12}"
    told = re.compile('TI: "told, told"' if _is_forge(webui) else f'TI hashes: "{hashed}, {hashed}"')
    found, expected = (told.search(one.infotexts[0]) for one in (both, alone))
    assert found
    assert expected
    assert found.group() == expected.group()


# Other models


def test_another_checkpoint_gives_other_vectors(webui: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    seam = PromptHook(lambda: webui.host)
    case = CASES["in the negative prompt"]
    names = []
    with monkeypatch.context() as patch:
        seen = spy_below(patch, seam)
        for checkpoint in ("alpha", "beta", "alpha"):
            seen.clear()
            settings_ = {"sd_model_checkpoint": webui.title(checkpoint)}
            generated = webui.generate(case.prompt, case.negative, override_settings=settings_)
            assert webui.wrong(case, generated, checkpoint) == []
            assert webui.double.options.sd_model_checkpoint == webui.title("alpha")
            names.append(set(TEMPORARY.findall(str(seen))))
        seam.remove()
    assert names[0] == names[2]
    assert names[0].isdisjoint(names[1])


def spy_below(patch: pytest.MonkeyPatch, seam: PromptHook) -> list[Any]:
    """What our seam gives to the web UI. seam: one on top of the installed one, which then has nothing to do."""
    seen = spy(patch)
    seam.install()
    return seen


def test_an_embedding_file_that_is_replaced(webui: Webui) -> None:
    case = Case("", [f"a «'{NAMED}'*2»", ""])
    for source in (NAMED_SOURCE, "'dog'", "'a':3"):
        webui.save(NAMED, source)
        assert webui.wrong(case, webui.generate(f"a <'{NAMED}'*2>")) == []


def test_an_embedding_file_that_another_program_writes_over(webui: Webui) -> None:
    case = Case("", [f"a «'{NAMED}'*2»", ""])
    webui.save("another", "'dog'")
    webui.save(NAMED, "'cat'")
    assert webui.wrong(case, webui.generate(f"a <'{NAMED}'*2>")) == []
    folder = webui.double.around.embeddings
    (folder / f"{NAMED}.safetensors").write_bytes((folder / "another.safetensors").read_bytes())
    webui.forget_conditionings()
    generated = webui.generate(f"a <'{NAMED}'*2>")
    assert webui.wrong(Case("", ["a «'dog'*2»", ""]), generated) == []


def test_hires_on_forge_while_another_checkpoint_is_selected(webui: Webui) -> None:
    """What is selected and what is in memory differ there, and are not mixed up."""
    case = CASES["hires with another checkpoint"]
    seen: list[tuple[str, str]] = []

    class Script:
        def before_hr(self, p: Any) -> None:
            seen.append((webui.double.options.sd_model_checkpoint, p.sd_model.sd_checkpoint_info.name_for_extra))

    generated = webui.generate(**fields_of(case), scripts=ScriptRunner(Script()))
    assert seen == [(webui.title("alpha"), "beta")]
    assert "Model: alpha" in generated.infotexts[0]


@dataclass(frozen=True)
class Kind:
    """A kind of model. keys: its encoders."""

    name: str
    keys: tuple[str, ...]


KINDS = [Kind("one", ("clip_l",)), Kind("two", ("clip_h",)), Kind("refiner", ("clip_g",))]


@pytest.fixture(scope="module")
def full(checkpoints: Checkpoints) -> Checkpoints:
    """Their small models with all tokens in memory; 3000 are too few to encode with."""
    tables = dict(checkpoints["alpha"].tables)
    tables["clip_h"] = tables["clip_g"][:, :1024].contiguous()
    found = {
        name: Checkpoint(one.path, {key: tables[key] for key in one.tables})
        for name, one in checkpoints.by_name.items()
    }
    return Checkpoints(checkpoints.folder, found)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", DOUBLES)
def test_models_of_one_encoder(
    full: Checkpoints, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str, kind: Kind
) -> None:
    scratch = tmp_path_factory.getbasetemp() / "tokenizers"
    (tmp_path / "embeddings").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        webui = Webui(DOUBLES[name](Surroundings(patch, full, tmp_path / "embeddings", scratch), kind.name))
        webui.settle()  # Forge forgets conditionings of before and right after it
        seam = PromptHook(lambda: webui.host)
        seam.install()
        generated = webui.generate("a (<'cat'*2+'dog'>:1.2), <'dog'*3>", "<'cat'*2+'dog'>")
        again = webui.generate("a (<'cat'*2+'dog'>:1.2), <'dog'*3>", "<'cat'*2+'dog'>")
        model = webui.host.find_loaded_model()
        expected = {source: evaluate(parse(source), model) for source in ("'cat'*2+'dog'", "'dog'*3")}
        seam.remove()
    assert set(generated.outputs) == set(kind.keys)
    (key,) = kind.keys
    negative, positive = (output[0] for output in generated.outputs[key])
    assert equal(negative[1], expected["'cat'*2+'dog'"][key][0])
    assert equal(positive[2], expected["'cat'*2+'dog'"][key][0])
    assert equal(positive[4], expected["'dog'*3"][key][0])
    assert again.calls == 0
    assert f"EmbedMerge: {__version__}" in generated.infotexts[0]


def test_half_precision_rounds_the_vectors_once(
    checkpoints: Checkpoints, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        webui = Webui(A1111(Surroundings(patch, checkpoints, tmp_path, tmp_path_factory.getbasetemp() / "tokenizers")))
        seam = PromptHook(lambda: webui.host)
        seam.install()
        generated = webui.generate("<'cat'/3>")
        expected = evaluate(parse("'cat'/3"), webui.host.find_loaded_model())
        seam.remove()
    for key, outputs in generated.outputs.items():
        assert outputs[1].dtype == torch.float16
        assert equal(outputs[1][0, 1], as_tensor(expected[key])[0].half())


FOREIGN: dict[str, tuple[type[Forge], Callable[[Any], Any]]] = {
    "Flux": (Forge, lambda info: with_t5(info, "l")),
    "SD3.5": (Forge, lambda info: with_t5(info, "l", "g")),
    "Chroma": (Forge, with_t5),
    "Flux on Forge Neo": (Neo, lambda info: with_t5(info, "l")),
} | {
    f"{name} on Forge Neo": (Neo, functools.partial(without_clip, ending=ending))
    for name, ending in OTHER_ENGINES.items()
}
"""Models with text encoders that are not CLIP: the web UI, and what makes one."""


@pytest.mark.parametrize("name", FOREIGN)
def test_a_model_with_other_encoders(
    checkpoints: Checkpoints, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    kind, make = FOREIGN[name]
    with pytest.MonkeyPatch.context() as patch:
        around = Surroundings(patch, checkpoints, tmp_path, tmp_path_factory.getbasetemp() / "tokenizers")
        webui = Webui(kind(around))
        webui.double.reload()
        webui.double.model_data.sd_model = make(webui.double.model.sd_checkpoint_info)
        seam = PromptHook(lambda: webui.host)
        seam.install()
        assert webui.generate("a cat").infotexts
        with refused(match="other text encoders than CLIP") as caught:
            webui.generate("a <'cat'>")
        webui.double.options.set(ON_MISTAKE, LITERAL)
        literal = webui.generate("a <'cat'>")
        seam.remove()
    detail: Any = caught.value.detail
    assert caught.value.status_code == 422
    assert detail["message"]
    assert detail["start"] is detail["end"] is detail["source"] is detail["field"] is None
    assert "other text encoders than CLIP" in literal.comments


# Mistakes


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"prompt": f"<lora:x:1> {BROKEN}", "styles": ["mine"]}, "prompt"),
        ({"prompt": "x", "negative_prompt": f"q, {BROKEN}", "styles": ["mine"]}, "negative_prompt"),
        ({"prompt": "x", "enable_hr": True, "hr_prompt": f"<lora:x:1>{BROKEN}"}, "hr_prompt"),
        ({"prompt": "x", "enable_hr": True, "hr_negative_prompt": f"no {BROKEN}"}, "hr_negative_prompt"),
        ({"prompt": ["x", f"y {BROKEN}"], "batch_size": 2}, "prompt"),
    ],
    ids=["after an extra network", "negative", "hires", "negative hires", "in a batch"],
)
def test_the_place_of_a_mistake(webui: Webui, fields: dict[str, Any], name: str) -> None:
    webui.double.styles.by_name["mine"] = ("best, {prompt}, sharp", "worst, {prompt}")
    p = StableDiffusionProcessingTxt2Img(**fields, hr_cfg=7.0)
    typed = fields[name][-1] if isinstance(fields[name], list) else fields[name]
    with refused() as caught:
        webui.run(p)
    detail: Any = caught.value.detail
    assert (detail["field"], detail["source"]) == (name, typed)
    assert typed[detail["start"] : detail["end"]] == "+"
    assert detail["start"] == typed.index("+")
    assert f"character {typed.index('+') + 1} of the " in str(caught.value)
    assert "<'cat'+>" in str(caught.value)
    assert p.sampled == []


def test_a_mistake_that_a_style_makes(webui: Webui) -> None:
    webui.double.styles.by_name["mine"] = (BROKEN, "")
    with refused() as caught:
        webui.generate("x", styles=["mine"])
    detail: Any = caught.value.detail
    assert detail["field"] is None
    assert detail["source"][detail["start"] : detail["end"]] == "+"


def test_a_mistake_is_used_as_text(webui: Webui) -> None:
    webui.double.options.set(ON_MISTAKE, LITERAL)
    prompt = f"{BROKEN}, <'cat'*2>"
    generated = webui.generate(prompt, enable_hr=True, hr_cfg=7.0)
    assert webui.wrong(Case("", [f"{BROKEN}, «'cat'*2»", ""]), generated) == []
    assert generated.comments.count("EmbedMerge: ") == 1
    assert "Nothing follows +." in generated.comments
    assert "used as it stands" in generated.comments
    assert generated.infotexts[0].startswith(f"{prompt}\nSteps: ")


def test_an_overridden_setting_counts_for_its_generation_alone(webui: Webui) -> None:
    webui.double.options.set(ON_MISTAKE, STOP)
    assert webui.generate(BROKEN, override_settings={ON_MISTAKE: LITERAL}).comments
    with refused():
        webui.generate(BROKEN)


# Several pictures, scripts


@pytest.mark.parametrize("size", [{"batch_size": 2}, {"n_iter": 2}], ids=["one batch", "two batches"])
@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_only_pictures_with_expressions_say_so(webui: Webui, which: int, size: dict[str, Any]) -> None:
    prompts = ["a cat", "a cat"]
    prompts[which] = "a <'cat'*2>"
    generated = webui.generate(prompts, **size)
    assert ["EmbedMerge: " in text for text in generated.infotexts] == [place == which for place in range(2)]
    assert [text.split("\n")[0] for text in generated.infotexts] == prompts
    assert webui.wrong(Case("", ["a cat", "a «'cat'*2»", ""]), generated) == []


def test_the_grid_says_so_too(webui: Webui) -> None:
    generated = webui.generate("a <'cat'*2>", batch_size=2, do_not_save_grid=False)
    assert len(generated.infotexts) == 3
    assert all("EmbedMerge: " in text for text in generated.infotexts)


def test_x_y_z_plot(webui: Webui) -> None:
    """Its cells are copies which share one set of parameters."""
    first = StableDiffusionProcessingTxt2Img(prompt="a <'cat'*2>")
    cells = []
    for expression in ("<'cat'*2>", "<'dog'*2>", "dog", "<'cat'*2>"):
        cell = copy.copy(first)
        cell.prompt = first.prompt.replace("<'cat'*2>", expression)
        cells.append(webui.run(cell))
    assert first.extra_generation_params is cells[-1].p.extra_generation_params
    assert ["EmbedMerge: " in cell.infotexts[0] for cell in cells] == [True, True, False, True]
    for one, text in zip(cells, ("a «'cat'*2»", "a «'dog'*2»", "a dog", "a «'cat'*2»"), strict=True):
        # The negative prompt is encoded for the first alone.
        assert [fault for fault in webui.wrong(Case("", [text, ""]), one) if "not encoded: ''" not in fault] == []


def test_scripts_that_rewrite_prompts(webui: Webui) -> None:
    """Like Dynamic Prompts, before anything, and like wildcards, for each batch."""
    choices = ("<'cat'*2>", "dog")

    class Dynamic:
        def process(self, p: Any) -> None:
            chosen = zip(p.all_prompts, choices, strict=True)
            p.all_prompts = [text.replace("{'cat'*2|dog}", choice) for text, choice in chosen]

        def process_batch(self, p: Any, **_: Any) -> None:
            p.prompts = [text.replace("__bird__", "<'bird'*2>") for text in p.prompts]

    runner = ScriptRunner(Dynamic())
    generated = webui.generate("a {'cat'*2|dog} __bird__", "bad", n_iter=2, scripts=runner)
    assert runner.reported == []
    texts = ["a «'cat'*2» «'bird'*2»", "a dog «'bird'*2»", "bad"]
    assert webui.wrong(Case("", texts), generated) == []
    assert [text.split("\n")[0] for text in generated.infotexts] == [f"a {choice} __bird__" for choice in choices]


def test_styles_hold_expressions(webui: Webui) -> None:
    webui.double.styles.by_name["mine"] = ("<'dog'*2>, {prompt}", "<'bad'*2>")
    generated = webui.generate("a <'cat'*2>", "ugly", styles=["mine"])
    assert webui.wrong(Case("", ["«'dog'*2», a «'cat'*2»", "ugly, «'bad'*2»"]), generated) == []
    assert generated.infotexts[0].startswith("<'dog'*2>, a <'cat'*2>\nNegative prompt: ugly, <'bad'*2>\nSteps")


# The other extension, EM


class EmbeddingMergeScript:
    """EM's: rewrites prompts in `process`."""

    acted = 0

    def process(self, p: Any, *_: Any) -> None:
        type(self).acted += 1
        p.all_prompts = [text.replace("<'cat'*2>", "<'EM_1'>") for text in p.all_prompts]


@pytest.fixture
def rival(bare: Webui, monkeypatch: pytest.MonkeyPatch) -> type[EmbeddingMergeScript]:
    from modules import scripts  # noqa: TID251 -- the double

    found = type("EmbeddingMergeScript", (EmbeddingMergeScript,), {"process": EmbeddingMergeScript.process})
    path = str(Path("extensions") / "embedding-merge" / "scripts" / "embedding_merge.py")
    data = [script_data(ScriptRunner, "other.py"), script_data(found, path)]
    monkeypatch.setattr(scripts, "scripts_data", data)
    return found


@pytest.mark.parametrize("ours", [True, False])
def test_exactly_one_of_two_extensions_acts(bare: Webui, rival: type[EmbeddingMergeScript], ours: bool) -> None:
    assert embedding_merge.is_installed()
    process = vars(rival)["process"]
    bare.double.options.set(INLINE, ours)
    seam = PromptHook(lambda: bare.host)
    seam.install()
    runner = ScriptRunner(rival())
    generated = bare.generate("a <'cat'*2>", scripts=runner)
    seam.remove()
    assert runner.reported == []
    assert rival.acted == (0 if ours else 1)
    text = "a «'cat'*2»" if ours else "a <'EM_1'>"
    assert bare.wrong(Case("", [text, ""]), generated) == []
    assert vars(rival)["process"] is process


# Taking hold and off


def test_removing_puts_everything_back(bare: Webui, rival: type[EmbeddingMergeScript]) -> None:
    owners: list[tuple[Any, str]] = [(StableDiffusionProcessing, SEAM), (rival, "process")]
    before = [vars(owner)[name] for owner, name in owners]
    subclass = dict(vars(StableDiffusionProcessingTxt2Img))
    seam = PromptHook(lambda: bare.host)
    for _ in range(2):
        seam.install()
        seam.install()
        assert [vars(owner)[name] is one for (owner, name), one in zip(owners, before, strict=True)] == [False] * 2
        seam.remove()
        seam.remove()
        assert [vars(owner)[name] is one for (owner, name), one in zip(owners, before, strict=True)] == [True] * 2
    assert dict(vars(StableDiffusionProcessingTxt2Img)) == subclass


def test_what_others_put_on_top_stays(bare: Webui) -> None:
    before: Callable[..., Any] = vars(StableDiffusionProcessing)[SEAM]
    seam = PromptHook(lambda: bare.host)
    seam.install()
    with pytest.MonkeyPatch.context() as patch:
        seen = spy(patch)
        top = vars(StableDiffusionProcessing)[SEAM]
        assert bare.wrong(CASES["one"], bare.generate(CASES["one"].prompt)) == []
        seam.remove()
        assert vars(StableDiffusionProcessing)[SEAM] is top
        seen.clear()
        generated = bare.generate("a <'cat'*2>", "x")
        assert list(map(list, seen)) == [["x"], ["a <'cat'*2>"]]
        assert bare.wrong(Case("", ["a <'cat'*2>", "x"]), generated) == []
        assert "EmbedMerge" not in generated.infotexts[0]
    patch.setattr(StableDiffusionProcessing, SEAM, before)
    assert vars(StableDiffusionProcessing)[SEAM] is before


def test_a_mistake_is_a_line_in_the_console(webui: Webui, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever prints what stopped a generation; other exceptions are printed as ever."""
    printed = {}
    for name, prompt, expected in (
        ("mistake", "a <'cat'+>", refused()),
        ("other", None, pytest.raises(TypeError)),
    ):
        with expected:
            try:
                webui.generate(prompt)
            except Exception as error:
                errors = sys.modules["modules.errors"]
                errors.report("Error completing request", exc_info=True)
                errors.display(error, "generating image for xyz plot")
                traceback.print_exc()
                raise
        printed[name] = capsys.readouterr().err
    assert printed["mistake"].count("*** EmbedMerge: Nothing follows +.") == 2
    assert "Traceback" not in printed["mistake"]
    assert printed["other"].count("Traceback") == 3


def test_a_mistake_comes_over_from_the_thread_that_generates(bare: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    """reForge's and Forge's main thread keeps results alone; what it gives of others stays as it is."""

    def run_and_wait_result(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        results: list[Any] = []

        def work() -> None:
            with contextlib.suppress(Exception):
                results.append(function(*args, **kwargs))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        return results[0] if results else None

    main_thread = types.ModuleType("modules_forge.main_thread")
    main_thread.run_and_wait_result = run_and_wait_result  # type: ignore[attr-defined] # a module's contents
    monkeypatch.setitem(sys.modules, main_thread.__name__, main_thread)
    seam = PromptHook(lambda: bare.host)
    seam.install()
    try:
        with refused("Nothing follows"):
            main_thread.run_and_wait_result(bare.generate, "a <'cat'+>")
        assert main_thread.run_and_wait_result(bare.generate, None) is None  # a fault of another kind
        found = main_thread.run_and_wait_result(bare.generate, prompt="a <'cat'>")
        assert found.infotexts[0].startswith("a <'cat'>\n")
    finally:
        seam.remove()
    assert main_thread.run_and_wait_result is run_and_wait_result


# Recipes that follow the model


FOLLOWED = "followed1"


def _expected(webui: Webui, source: str, checkpoint: str) -> dict[str, torch.Tensor]:
    model = open_checkpoint(webui.double.around.checkpoints[checkpoint].path)
    return as_tensors(evaluate(parse(source), model))


def _stands(webui: Webui, generated: Generated, vectors: Mapping[str, torch.Tensor], place: int = 2) -> bool:
    """Whether the first prompt's chunk with words in it has these vectors at that place, in both encoders."""
    del webui
    return all(
        any(equal(row[place : place + len(rows)], rows.to(row.dtype)) for out in generated.outputs[key] for row in out)
        for key, rows in vectors.items()
    )


def test_following_switched_on_and_off_again(webui: Webui) -> None:
    """The same prompt on another model: nothing is remembered from when it was the other way."""
    webui.save(FOLLOWED, "'cat'+'dog'")
    other = {"sd_model_checkpoint": webui.title("beta")}
    made_on, on_beta = (_expected(webui, "'cat'+'dog'", name) for name in ("alpha", "beta"))
    for follow in (False, True, False, True):
        settings = {**other, "embedmerge_follow": follow}
        generated = webui.generate(f"a {FOLLOWED}", override_settings=settings)
        assert _stands(webui, generated, on_beta if follow else made_on)
        assert not _stands(webui, generated, made_on if follow else on_beta)
    again = webui.generate(f"a {FOLLOWED}", override_settings={**other, "embedmerge_follow": True})
    assert again.infotexts[0].startswith(f"a {FOLLOWED}\n")
    assert "EmbedMerge" not in again.infotexts[0]


def test_following_leaves_no_trace_and_the_infotext_as_it_is(
    webui: Webui, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    webui.save(FOLLOWED, "'cat'+'dog'")
    other = {"sd_model_checkpoint": webui.title("beta")}
    plain = webui.generate(f"a {FOLLOWED}", override_settings=other)
    before = webui.entries()
    webui.double.options.set("embedmerge_follow", True)
    capsys.readouterr()
    followed = webui.generate(f"b {FOLLOWED}", override_settings=other)
    assert followed.infotexts[0][1:] == plain.infotexts[0][1:]
    assert "embedmerge0" not in capsys.readouterr().out
    assert webui.entries()[0][1:] == before[0][1:]
    del monkeypatch


def test_following_when_encoding_fails(webui: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    webui.save(FOLLOWED, "'cat'+'dog'")
    webui.generate("x")
    before = webui.entries()
    webui.double.options.set("embedmerge_follow", True)

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(TableWithEmbeddings, "forward", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        webui.generate(f"a {FOLLOWED}")
    assert webui.entries() == before


def test_following_on_the_model_it_was_made_for_changes_nothing(webui: Webui) -> None:
    webui.save(FOLLOWED, "'cat'+'dog'")
    webui.double.options.set("embedmerge_follow", True)
    generated = webui.generate(f"a {FOLLOWED}")
    assert _stands(webui, generated, _expected(webui, "'cat'+'dog'", "alpha"))


def test_following_when_the_web_ui_reads_its_files_again_meanwhile(
    webui: Webui, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that it has forgotten comes back."""
    webui.save(FOLLOWED, "'cat'+'dog'")
    webui.double.options.set("embedmerge_follow", True)
    forward = TableWithEmbeddings.forward

    def forgetting(layer: Any, ids: torch.Tensor) -> Any:
        for database in webui.databases():
            database.ids_lookup.clear()
        return forward(layer, ids)

    monkeypatch.setattr(TableWithEmbeddings, "forward", forgetting)
    prompt = f"a {FOLLOWED}"  # in both, for the negative one is encoded first
    webui.generate(prompt, prompt, override_settings={"sd_model_checkpoint": webui.title("beta")})
    assert all(not database.ids_lookup for database in webui.databases())
