"""Other extensions that take prompts apart, count them, or have them encoded by themselves. On the real ones: webui."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from arrays import equal
from contract.generations import TEMPORARY, Case
from doubles.extensions import AsksFunctions, NegPip, Regions, installed
from doubles.generation import Script, ScriptRunner, script_data
from generating import Webui, bare, checkpoints, double, refused  # noqa: F401 -- fixtures

from lib_embedmerge.hosts.prompt_words import StandInWords
from lib_embedmerge.hosts.webui.prompt_hook import PromptHook
from lib_embedmerge.hosts.webui.settings import FOLLOW, INLINE, LITERAL
from lib_embedmerge.hosts.webui.settings import MISTAKES as ON_MISTAKE

# fastapi's own imports warn of one another.
pytestmark = pytest.mark.filterwarnings("ignore:Please use .import python_multipart:PendingDeprecationWarning")

EXPRESSIONS = [
    "<'cat'+'dog'>",
    "<('cat'+'dog')*0.5>",
    "<slerp('cat','dog',0.3)>",
    "<'cat':3>",
    "<'(cat:1.2) [dog|x] AND it', 'b BREAK'>",
    "{'cat'+'dog'}",
]
"""Among them brackets, colons and commas, which those who cut prompts look for."""

USUAL: dict[str, Any] = {"steps": 2, "width": 64, "height": 64}

Take = Callable[..., Webui]


@pytest.fixture
def take(bare: Webui, monkeypatch: pytest.MonkeyPatch) -> Iterator[Take]:
    """The web UI with ours and with these extensions."""
    seam = PromptHook(lambda: bare.host)

    def taken(*scripts: type[Script]) -> Webui:
        monkeypatch.setattr(sys.modules["modules.scripts"], "scripts_data", installed(*scripts))
        seam.install()
        bare.settle()
        return bare

    yield taken
    seam.remove()


def encoded(webui: Webui, text: str) -> Any:
    """The conditioning of a text by our seam, which is judged elsewhere."""
    generated = webui.generate(text, **USUAL)
    return generated.p.sampled[0][0].batch[0][0].schedules[0].cond


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return equal(one, other)


# What takes prompts apart and counts


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("negative", [False, True])
def test_negpip(take: Take, expression: str, negative: bool) -> None:
    webui = take(NegPip)
    expected = encoded(webui, f"({expression}:1.2)")
    script = NegPip()
    runner = ScriptRunner(script)
    typed = f"a photo ({expression}:-1.2)"
    generated = webui.generate(*(("x", typed) if negative else (typed, "x")), **USUAL, scripts=runner)
    assert runner.reported == []
    ((text, weight, count),) = script.found
    assert weight == -1.2
    assert TEMPORARY.fullmatch(text)  # it sees one word
    assert count == vectors(expression)
    assert same(script.conds[0], expected)
    # The rest of the prompt is encoded without it, and the picture says what was typed, and that it was ours.
    assert webui.wrong(Case("", ["a photo ", "x", f"«{expression[1:-1]}»"]), generated) == []
    (infotext,) = generated.infotexts
    assert typed in infotext
    assert "EmbedMerge: " in infotext
    assert not TEMPORARY.search(infotext + generated.comments)


def vectors(expression: str) -> int:
    from lib_embedmerge.core.outline import Outliner
    from lib_embedmerge.core.texts import NoEmbeddings, TextReader
    from lib_embedmerge.lang.source import parse
    from lib_embedmerge.tokenizer import clip_tokenizer

    return len(Outliner(TextReader(clip_tokenizer(), NoEmbeddings())).outline(parse(expression)))


def test_regions(take: Take) -> None:
    """An expression of eleven terms counts as its vectors, however many characters it has, and is cut nowhere."""
    webui = take(Regions)
    eleven = "<" + "+".join(f"'{word} AND x'*0.1" for word in "abcdefghijk") + ">"
    script = Regions()
    runner = ScriptRunner(script)
    typed = f"best <'quality','x'>, y ADDCOL {eleven}sky ADDCOL a <'dog','cat'>, tree"
    generated = webui.generate(typed, **USUAL, scripts=runner)
    assert runner.reported == []
    assert script.counts == [1 + 2 + 1 + 3 + 1, 1 + 2 + 1 + 1 + 2 + 1 + 1]
    assert generated.infotexts[0].startswith(typed + "\n")
    assert not TEMPORARY.search(generated.infotexts[0])
    regions = generated.p.extra_generation_params["Regions"]
    assert regions == f"best <'quality','x'>,  {eleven} sky  BREAK best <'quality','x'>,  a <'dog','cat'>, tree"


def test_both(take: Take) -> None:
    webui = take(Regions, NegPip)
    negpip, regions = NegPip(), Regions()
    runner = ScriptRunner(regions, negpip)
    typed = "x ADDCOL a (<slerp('cat','dog',0.5)>:-1) ADDCOL <'b','c'>"
    generated = webui.generate(typed, **USUAL, n_iter=2, scripts=runner)
    assert runner.reported == []
    assert [count for _, _, count in negpip.found] == [1, 1]
    assert regions.counts == [4, 4]
    assert [text.split("\n")[0] for text in generated.infotexts] == [typed] * 2


def test_what_is_glued_to_words_comes_back_as_it_was(take: Take) -> None:
    webui = take(NegPip)
    generated = webui.generate("re<'cat'*2>ly (x:-1)", **USUAL, scripts=ScriptRunner(NegPip()))
    assert generated.infotexts[0].startswith("re<'cat'*2>ly (x:-1)\n")


def test_words_that_an_extension_keeps_are_still_expressions(take: Take) -> None:
    """It hands them on to another one, which does not read prompts, and to the infotext."""
    kept: list[str] = []

    class Keeps(Script):
        reads: Any = None

        def process(self, p: Any, *_: Any) -> None:
            self.reads = sys.modules["modules.prompt_parser"].get_learned_conditioning
            kept[:] = p.all_prompts
            p.extra_generation_params["Kept"] = [*kept, "and more"]

    class Puts(Script):
        def process_batch(self, p: Any, *_: Any, **__: Any) -> None:
            p.prompts[:] = kept

    webui = take(Keeps, Puts)
    generated = webui.generate("a <'cat'*2>, <'dog','x'>", **USUAL, scripts=ScriptRunner(Keeps(), Puts()))
    assert webui.wrong(Case("", ["a «'cat'*2», «'dog','x'»", ""]), generated) == []
    assert len(TEMPORARY.findall(kept[0])) == 2
    assert generated.p.extra_generation_params["Kept"] == ["a <'cat'*2>, <'dog','x'>", "and more"]


def test_hires(take: Take) -> None:
    """Its prompts have words in the turns of such a script, and in the end what was typed."""
    seen: list[str] = []

    class Looks(Script):
        reads: Any = None

        def process_batch(self, p: Any, *_: Any, **__: Any) -> None:
            self.reads = sys.modules["modules.prompt_parser"].get_learned_conditioning
            seen.extend(p.hr_prompts)

    webui = take(Looks)
    asked: dict[str, Any] = {"enable_hr": True, "hr_prompt": "fine <'dog','x'>", "hr_cfg": 7.0}
    generated = webui.generate("a <'cat'*2>", **USUAL, **asked, scripts=ScriptRunner(Looks()))
    assert webui.wrong(Case("", ["a «'cat'*2»", "fine «'dog','x'»", ""]), generated) == []
    assert "Hires prompt: \"fine <'dog','x'>\"" in generated.infotexts[0]
    assert [len(TEMPORARY.findall(text)) for text in seen] == [1]


# Who asks the web UI's functions


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_way_of_encoding(take: Take, expression: str) -> None:
    webui = take(AsksFunctions)
    text = f"x, ({expression}:1.1) [y]"
    expected = encoded(webui, text)
    script = AsksFunctions(text)
    runner = ScriptRunner(script)
    webui.generate("plain", **USUAL, scripts=runner)
    assert runner.reported == []
    assert set(script.found) == {
        "parser", "parser, held", "parser, with AND", "parser, with AND, held", "model",
    }  # fmt: skip
    assert [way for way, cond in script.found.items() if not same(cond, expected)] == []
    assert script.count == 3 + vectors(expression)


def test_a_mistake_there_is_said(take: Take) -> None:
    webui = take(AsksFunctions)
    runner = ScriptRunner(AsksFunctions("a <'cat'+>"))
    webui.generate("plain", **USUAL, scripts=runner)
    (error,) = runner.reported
    assert "Nothing follows +. (At character 9 of the text that another extension encodes, in <'cat'+>.)" in str(error)


def test_a_mistake_there_can_be_used_as_text(take: Take) -> None:
    webui = take(AsksFunctions)
    webui.double.options.set(ON_MISTAKE, LITERAL)
    script = AsksFunctions("a <'cat'+>")
    runner = ScriptRunner(script)
    webui.generate("plain", **USUAL, scripts=runner)
    assert runner.reported == []
    assert script.count == 7


def test_a_mistake_in_a_prompt_stops_before_it_is_taken_apart(take: Take) -> None:
    webui = take(NegPip)
    script = NegPip()
    with refused("Nothing follows"):
        webui.generate("a photo (<'cat'+>:-1.2)", **USUAL, scripts=ScriptRunner(script))
    assert script.found == []


def test_a_mistake_that_another_script_mends_is_none(take: Take) -> None:
    """One that fills in wildcards for each batch has its turn first."""

    class Fills(Script):
        def process_batch(self, p: Any, *_: Any, **__: Any) -> None:
            p.prompts[:] = [text.replace("__number__", "0.5") for text in p.prompts]

    webui = take(NegPip, Fills)
    script = NegPip()
    runner = ScriptRunner(Fills(), script)
    generated = webui.generate("a (<'cat'*__number__>:-1)", **USUAL, scripts=runner)
    assert runner.reported == []
    assert webui.wrong(Case("", ["a ", "«'cat'*0.5»", ""]), generated) == []


def test_a_fault_of_the_web_uis_model_is_not_taken_for_a_mistake(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    webui = take(NegPip)
    monkeypatch.setattr(type(webui.host), "find_loaded_model", lambda _: 1 / 0)
    runner = ScriptRunner(NegPip())
    with pytest.raises(ZeroDivisionError):
        webui.generate("a <'cat'*7.5>", **USUAL, scripts=runner)
    assert [type(error) for error in runner.reported] == [ZeroDivisionError]


def test_a_mistake_in_a_prompt_can_be_used_as_text(take: Take) -> None:
    webui = take(NegPip)
    webui.double.options.set(ON_MISTAKE, LITERAL)
    script = NegPip()
    generated = webui.generate("a photo (<'cat'+>:-1.2)", **USUAL, scripts=ScriptRunner(script))
    assert [text for text, _, _ in script.found] == ["<'cat'+>"]
    assert "The text was used as it stands." in generated.comments


def test_recipes_that_follow_do_so_there_too(take: Take) -> None:
    webui = take(AsksFunctions)
    source = "'cat'-'dog'*0.5"
    webui.save("follows7", source)
    webui.double.options.set(FOLLOW, True)
    webui.double.switch_to(webui.double.around.info("beta"))
    script = AsksFunctions("x follows7")
    runner = ScriptRunner(script)
    webui.generate("plain", **USUAL, scripts=runner, override_settings={"sd_model_checkpoint": webui.title("beta")})
    assert runner.reported == []
    webui.double.options.set(FOLLOW, False)
    wanted = AsksFunctions(f"x <{source}>")
    runner = ScriptRunner(wanted)
    webui.generate("plain", **USUAL, scripts=runner, override_settings={"sd_model_checkpoint": webui.title("beta")})
    assert runner.reported == []
    assert all(same(script.found[way], cond) for way, cond in wanted.found.items())


def test_switched_off_nothing_is_touched(take: Take) -> None:
    webui = take(NegPip)
    webui.double.options.set(INLINE, False)
    script = NegPip()
    webui.generate("a photo (<'cat'+'dog'>:-1.2)", **USUAL, scripts=ScriptRunner(script))
    assert [text for text, _, _ in script.found] == ["<'cat'+'dog'>"]


def test_users_of_dynamic_prompts_are_told_once(
    bare: Webui, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/webui/extensions/sd-dynamic-prompts/scripts/dynamic_prompting.py"
    monkeypatch.setattr(sys.modules["modules.scripts"], "scripts_data", [script_data(Writes, path)])
    for acts, lines in ((True, 1), (False, 0)):
        bare.double.options.set(INLINE, acts)
        seam = PromptHook(lambda: bare.host)
        seam.install()
        bare.generate("a <'cat'*2>", **USUAL)
        seam.remove()
        assert capsys.readouterr().err.count("EmbedMerge: Dynamic Prompts reads prompts before") == lines


# Which scripts these are


class Writes(Script):
    """Of another kind: writes prompts, and so must see what was typed."""

    def process(self, p: Any, *_: Any) -> None:
        p.all_prompts = [text.replace("__bird__", "sparrow") for text in p.all_prompts]


def test_scripts_that_write_prompts_see_what_was_typed(take: Take) -> None:
    webui = take(Writes, NegPip)
    generated = webui.generate("a <'__bird__'*2>", **USUAL, scripts=ScriptRunner(Writes(), NegPip()))
    assert webui.wrong(Case("", ["a «'sparrow'*2»", ""]), generated) == []


def test_the_web_uis_own_scripts_are_left_alone(bare: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie in its folder; img2img alternative test encodes prompts too."""
    before = vars(NegPip)["process_batch"]
    module = ModuleType(NegPip.__module__)
    module.NegPip = NegPip  # type: ignore[attr-defined]
    data = [script_data(NegPip, "/webui/scripts/img2imgalt.py", module)]
    monkeypatch.setattr(sys.modules["modules.scripts"], "scripts_data", data)
    seam = PromptHook(lambda: bare.host)
    seam.install()
    assert vars(NegPip)["process_batch"] is before
    seam.remove()


def test_removing_puts_everything_back(bare: Webui, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = sys.modules["modules.prompt_parser"]
    encoder = type(next(iter(bare_encoders(bare))))
    owners: list[tuple[Any, str]] = [
        (NegPip, "process_batch"),
        (ScriptRunner, "process_batch"),
        (parser, "get_learned_conditioning_prompt_schedules"),
        (parser, "get_multicond_prompt_list"),
        (encoder, "tokenize_line"),
    ]
    before = [vars(owner)[name] for owner, name in owners]
    monkeypatch.setattr(sys.modules["modules.scripts"], "scripts_data", installed(NegPip))
    seam = PromptHook(lambda: bare.host)
    seam.install()
    assert [vars(owner)[name] is one for (owner, name), one in zip(owners, before, strict=True)] == [False] * 5
    seam.remove()
    assert [vars(owner)[name] is one for (owner, name), one in zip(owners, before, strict=True)] == [True] * 5


def bare_encoders(webui: Webui) -> list[Any]:
    webui.settle()
    model = webui.double.model
    return list(
        getattr(model, "engines", None) or [one for one in model.conditioner.embedders if hasattr(one, "wrapped")]
    )


# Words


def test_words_come_back_as_they_were_typed() -> None:
    words = StandInWords()
    text = "a <'cat'+'dog'> (b:1.2) {'x','y'} <'broken'+>"
    covered = words.cover(text)
    assert len(TEMPORARY.findall(covered)) == 2
    assert "<'broken'+>" in covered
    assert words.uncover(covered) == text
    assert words.are_used_in(covered)
    assert not words.are_used_in(text)
    assert not StandInWords().are_used_in(covered)
    assert StandInWords().uncover(covered) == covered


def test_words_are_remembered_up_to_an_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_embedmerge.hosts.prompt_words._MAX_CHARACTERS", 30)
    words = StandInWords()
    first, second, third = (words.cover(f"<'{word}'*2>") for word in ("first", "second", "third"))
    assert (words.are_used_in(first), words.are_used_in(second), words.are_used_in(third)) == (False, True, True)
