"""The page's events over a model in memory, without gradio: HTML for everything, faults in a sentence."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from memory_model import MemoryModel, random_model
from safetensors.torch import save

from lib_embedmerge import load_embedding
from lib_embedmerge.actions.saving_values import SaveRequest
from lib_embedmerge.actions.values import ReadingOptions
from lib_embedmerge.errors import UNEXPECTED, CheckpointError, EmbedMergeError, HostError, StorageError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.ui.handlers import Handlers
from lib_embedmerge.ui.optimising_handlers import OptimiseForm

IMAGE = "<img src=x onerror=alert(1)>"

READING = ReadingOptions()


@pytest.fixture(scope="module")
def model() -> MemoryModel:
    return random_model()


@pytest.fixture
def host(model: MemoryModel, tmp_path: Path) -> MemoryHost:
    folder = tmp_path / "embeddings"
    folder.mkdir()
    return MemoryHost(model, folder)


@pytest.fixture
def handlers(host: MemoryHost) -> Handlers:
    return Handlers(lambda: host, prompts=True)


def dropped(name: str, content: bytes, asked: int = 1) -> str:
    """What the script sends of a file."""
    file = {"name": name, "size": len(content), "data": base64.b64encode(content).decode("ascii")}
    return json.dumps([str(asked), json.dumps(file)])


EVENTS: dict[str, Callable[[Handlers], str]] = {
    "describe_model": lambda h: h.describe_model("1"),
    "read_typed_text": lambda h: h.read_typed_text("1", "'cat'", "parts", READING),
    "draw_vectors": lambda h: h.draw_vectors("1", "'cat'", "parts", READING),
    "check_name": lambda h: h.check_name("1", "my_one"),
    "complete": lambda h: h.complete("1\n'my"),
    "save": lambda h: h.save(SaveRequest("'cat'", "my_one")),
    "inspect": lambda h: h.inspect("my_one"),
    "inspect_place": lambda h: h.inspect_place("1\nmy_one.safetensors"),
    "inspect_dropped": lambda h: h.inspect_dropped(dropped("my_one.safetensors", b"x")),
    "fix": lambda h: h.fix('["my_one", "", ""]'),
    "choose_checkpoint": lambda h: h.choose_checkpoint("one.safetensors"),
    "show_report": lambda h: h.show_report(),
}
"""Every event that gives HTML."""

OF_SECTIONS: dict[str, Callable[[Handlers], str]] = {
    "weigh_tokens": lambda h: h.measuring.weigh_tokens("a cat"),
    "shorten": lambda h: h.measuring.shorten("a cat"),
    "start_library": lambda h: h.measuring.start_library(["one.safetensors"], "[]", remade=False),
    "start_groups": lambda h: h.measuring.start_groups(["one.safetensors"], "", "", "10", "[]"),
    "compress": lambda h: h.optimising.compress(OptimiseForm("[]"), "", "1"),
    "port": lambda h: h.optimising.port(OptimiseForm("[]"), "one.safetensors"),
    "repair": lambda h: h.optimising.repair(OptimiseForm("[]")),
}
"""Events of the sections that measure effects, and of those that improve vectors."""

LISTS: dict[str, Callable[[Handlers], object]] = {
    "list_names": lambda h: h.list_names(),
    "list_checkpoints": lambda h: h.list_checkpoints(),
    "find_chosen_checkpoint": lambda h: h.find_chosen_checkpoint(),
}


class TestALookalike:
    def test_is_not_saved_at_once(self, host: MemoryHost) -> None:
        handlers = Handlers(lambda: host, prompts=True)
        shown = handlers.save(SaveRequest("cat+dog*0.5", "my_one"))
        assert "Use the expression" in shown
        assert "Save it as a prompt" in shown
        assert not list(host.embeddings_folder.iterdir())

    def test_is_saved_where_the_user_insists(self, host: MemoryHost) -> None:
        shown = Handlers(lambda: host, prompts=True).save(SaveRequest("cat+dog*0.5", "my_one", insist=True))
        assert "Saved <bdi>my_one</bdi>" in shown
        assert "Did you mean" in shown

    def test_is_said_while_typing(self, host: MemoryHost) -> None:
        shown = Handlers(lambda: host, prompts=True).read_typed_text("1", "cat+dog*0.5", "parts", READING)
        assert "Did you mean this?" in shown
        assert 'data-embedmerge-text="&#39;cat&#39;+&#39;dog&#39;*0.5"' in shown


def test_a_prompt_is_shown_as_it_is_read(host: MemoryHost) -> None:
    handlers = Handlers(lambda: host, prompts=True)
    assert "<bdi>a (b)</bdi>" in handlers.read_typed_text("1", r"(a:1.2) \(b\)", "parts", ReadingOptions("drop"))
    assert "&lt;&#39;a&#39;*1.2&gt;" in handlers.read_typed_text("1", "(a:1.2)", "parts", ReadingOptions("scale"))
    assert "Read as" not in handlers.read_typed_text("1", "(a:1.2)", "parts", ReadingOptions("keep"))


def test_these_are_all_events() -> None:
    public = {name for name in vars(Handlers) if not name.startswith("_")}
    assert public == {*EVENTS, *LISTS}


def test_the_host_is_asked_at_the_first_event_and_not_before(host: MemoryHost) -> None:
    asked = []

    def give() -> MemoryHost:
        asked.append(1)
        return host

    handlers = Handlers(give, prompts=True)
    assert asked == []
    handlers.describe_model("1")
    assert asked


@pytest.mark.parametrize("event", [*EVENTS, *OF_SECTIONS])
@pytest.mark.parametrize(
    "error",
    [
        HostError("No model is <here>.", hint="Load one."),
        CheckpointError("The file is <torn>.", hint="Get another."),
        StorageError("The folder is <gone>.", hint="Make one."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_host_that_cannot_be_had(event: str, error: EmbedMergeError, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise error

    shown = (EVENTS | OF_SECTIONS)[event](Handlers(fail, prompts=True))
    assert "embedmerge-error-box" in shown
    assert error.message.replace("<", "&lt;").replace(">", "&gt;") in shown
    assert error.hint and error.hint in shown
    assert caplog.records == []


@pytest.mark.parametrize("event", [*EVENTS, *OF_SECTIONS])
def test_a_bug_of_ours_is_logged_and_told(event: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise ZeroDivisionError("a secret of the inside")

    with caplog.at_level(logging.ERROR):
        shown = (EVENTS | OF_SECTIONS)[event](Handlers(fail, prompts=True))
    assert UNEXPECTED in shown
    assert "Please report it" in shown
    assert "secret" not in shown
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert "secret" in caplog.text


@pytest.mark.parametrize("event", LISTS)
def test_lists_are_empty_where_there_is_a_fault(event: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> Callable[[], Any]:
        def host() -> Any:
            raise error

        return host

    assert not LISTS[event](Handlers(fail(StorageError("No folder.")), prompts=True))
    assert caplog.records == []
    assert not LISTS[event](Handlers(fail(KeyError("x")), prompts=True))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("event", ["read_typed_text", "draw_vectors", "check_name"])
@pytest.mark.parametrize("asked", ["7", '"><b>'])
def test_answers_come_with_the_number_of_the_question(handlers: Handlers, event: str, asked: str) -> None:
    arguments: dict[str, Sequence[Any]] = {
        "read_typed_text": ("'cat'", "parts", READING),
        "draw_vectors": ("'cat'", "parts", READING),
        "check_name": ("my_one",),
    }
    number = asked.replace('"', "&#34;").replace("<", "&lt;").replace(">", "&gt;")
    assert getattr(handlers, event)(asked, *arguments[event]).startswith(f'<div data-embedmerge-asked="{number}">')

    def fail() -> Any:
        raise ValueError

    broken = Handlers(fail, prompts=True)
    assert getattr(broken, event)(asked, *arguments[event]).startswith(f'<div data-embedmerge-asked="{number}">')


def test_status_and_answers(handlers: Handlers) -> None:
    assert "memory" in handlers.describe_model("1")
    shown = handlers.read_typed_text("1", "'cat'+'dog'", "parts", READING)
    assert ">1/75<" in shown
    assert "embedmerge-error-box" not in shown
    assert "This quote is never closed." in handlers.read_typed_text("1", "'cat", "parts", READING)
    info = "a <'EM_1'>\nSteps: 20, Sampler: Euler, EmbeddingMerge: \"<'EM_1'>=<'cat'+'dog'>\", Seed: 1"
    assert "Use the prompt" in handlers.read_typed_text("1", info, "parts", READING)
    assert "onerror" in handlers.read_typed_text("1", IMAGE, "parts", READING)
    assert IMAGE not in handlers.read_typed_text("1", IMAGE, "parts", READING)


def test_vectors_are_shown_or_the_mistake_is_left_to_the_answer(handlers: Handlers) -> None:
    assert "CLIP-G" in handlers.draw_vectors("1", "'cat'*9", "parts", READING)
    assert handlers.draw_vectors("1", "'cat", "parts", READING) == '<div data-embedmerge-asked="1"></div>'
    assert "embedmerge-error-box" not in handlers.draw_vectors("1", "", "parts", READING)


def test_a_fault_that_only_the_vectors_meet_is_told_there(
    handlers: Handlers, model: MemoryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(_: object, ids: Sequence[int]) -> torch.Tensor:
        raise CheckpointError("The file ends too early.")

    monkeypatch.setattr(type(model.encoders[0]), "vectors", torn)
    assert "The file ends too early." in handlers.draw_vectors("1", "'cat'", "parts", READING)
    assert "embedmerge-error-box" not in handlers.read_typed_text("1", "'cat'", "parts", READING)


def test_without_a_model_the_status_says_so_and_the_vectors_are_silent(
    handlers: Handlers, host: MemoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Any:
        raise HostError("There is no model.")

    monkeypatch.setattr(host, "active", none)
    assert "There is no model." in handlers.describe_model("1")
    assert "There is no model." not in handlers.draw_vectors("1", "'cat'", "parts", READING)
    assert ">1/75<" in handlers.read_typed_text("1", "'cat'", "parts", READING)


def test_names(handlers: Handlers) -> None:
    assert "This name can be used." in handlers.check_name("1", "my_one_x")
    assert "Use this name" in handlers.check_name("1", "cat")
    assert "embedmerge-is-bad" in handlers.check_name("1", IMAGE)
    assert IMAGE not in handlers.check_name("1", IMAGE)
    assert "<p" not in handlers.check_name("1", " ")


def test_saving_asks_and_replaces_only_what_was_agreed_to(handlers: Handlers, host: MemoryHost) -> None:
    assert "Saved <bdi>my_one</bdi>" in handlers.save(SaveRequest("'cat'", "my_one"))
    assert host.saved == [host.embeddings_folder / "my_one.safetensors"]
    again = SaveRequest("'cat dog'", "my_one")
    for confirmed in ((), ("",), ("other",)):
        assert "Nothing was saved." in handlers.save(replace(again, agreed=frozenset(confirmed)))
        assert load_embedding(host.saved[0]).count == 1
    assert "2 vectors" in handlers.save(replace(again, agreed=frozenset({"other", "my_one"})))
    assert load_embedding(host.saved[0]).count == 2


def test_of_split_files_all_have_to_be_agreed_to(handlers: Handlers, host: MemoryHost) -> None:
    long = SaveRequest(", ".join(["cat dog"] * 30), "long_one", split=True)
    assert "long_one-2" in handlers.save(long)
    host.saved.clear()
    assert "Replace them" in handlers.save(replace(long, agreed=frozenset({"long_one-1"})))
    assert host.saved == []
    handlers.save(replace(long, agreed=frozenset({"long_one-1", "long_one-2"})))
    assert len(host.saved) == 2


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (SaveRequest("'cat'", ""), "The embedding needs a name."),
        (SaveRequest("'cat'", "a/b"), "A file name cannot contain"),
        (SaveRequest("'cat'+", "my_one"), "Nothing follows +."),
        (SaveRequest("'cat':76", "my_one"), "This makes 76 vectors"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_cannot_be_saved(handlers: Handlers, host: MemoryHost, request_: SaveRequest, said: str) -> None:
    assert said in handlers.save(request_)
    assert list(host.embeddings_folder.iterdir()) == []


@pytest.mark.parametrize("prompts", [True, False])
def test_buttons_to_prompts_are_there_where_prompts_are(host: MemoryHost, *, prompts: bool) -> None:
    shown = Handlers(lambda: host, prompts=prompts).save(SaveRequest("'cat'", "my_one"))
    assert ("Send to txt2img prompt" in shown) is prompts
    assert "Copy" in shown


def test_inspecting(handlers: Handlers) -> None:
    handlers.save(SaveRequest("'cat'+'dog'", "my_one"))
    assert handlers.list_names() == ("my_one",)
    assert "Made for this model" in handlers.inspect("my_one")
    assert handlers.inspect("") == ""
    assert "embedmerge-error-box" in handlers.inspect(IMAGE)
    assert IMAGE not in handlers.inspect(IMAGE)
    tensors = {"clip_l": torch.ones(1, 768) * 0.01, "clip_g": torch.ones(1, 1280) * 0.01}
    shown = handlers.inspect_dropped(dropped(f"{IMAGE}.safetensors", save(tensors, {"name": IMAGE}), 7))
    assert "1 vector" in shown
    assert 'data-embedmerge-asked="7"' in shown
    assert IMAGE not in shown
    torn = dropped("what-i-dropped.safetensors", b"\xff" * 40)
    assert "what-i-dropped.safetensors" in handlers.inspect_dropped(torn)


def test_a_copy_without_flaws(handlers: Handlers, host: MemoryHost) -> None:
    long = {"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}
    handlers.save(SaveRequest("'cat'", "sound"))
    assert "embedmerge-is-warning" not in handlers.inspect("sound")
    assert "Nothing in" in handlers.fix('["sound", "", ""]')
    original, fixed = (host.embeddings_folder / f"{name}.safetensors" for name in ("loud", "loud-fixed"))
    original.write_bytes(content := save(long))
    host.library().refresh()
    shown = handlers.inspect("loud")
    assert "times as long as those of words, and drown out the rest of the prompt." in shown
    assert "Save a copy without this as loud-fixed" in shown
    assert "Saved <bdi>loud-fixed</bdi>" in handlers.fix('["loud", "", ""]')
    assert host.saved[-1] == fixed
    assert original.read_bytes() == content
    assert "drown out the rest" not in handlers.inspect("loud-fixed")
    fixed.write_bytes(b"mine")
    shown = handlers.fix('["loud", "", ""]')
    assert "already exists" in shown
    assert 'data-embedmerge-agreed="yes"' in shown
    assert fixed.read_bytes() == b"mine"
    assert "Saved <bdi>loud-fixed</bdi>" in handlers.fix('["loud", "yes", ""]')
    assert load_embedding(fixed).count == 2
    _, file = json.loads(dropped(f"{IMAGE}.safetensors", save(long)))
    assert "A file name cannot contain" in handlers.fix(json.dumps(["", "", file]))
    _, file = json.loads(dropped("other.safetensors", save(long)))
    assert "Saved <bdi>other-fixed</bdi>" in handlers.fix(json.dumps(["", "", file]))
    assert sorted(path.stem for path in host.embeddings_folder.iterdir() if path.suffix) == [
        "loud", "loud-fixed", "other-fixed", "sound",
    ]  # fmt: skip


@pytest.mark.parametrize("said", ["", "{}", "[]", "[1, 2, 3]", "[" * 5000, "null", '["1", "{}"]', '["1", "[]"]', "猫"])
def test_what_the_script_would_not_send(handlers: Handlers, said: str) -> None:
    assert "The file did not arrive." in handlers.inspect_dropped(said)
    assert "The file did not arrive." in handlers.fix(said)


class Chooser:
    """Chooses one of two checkpoints, the other of which is torn."""

    def __init__(self) -> None:
        self.chosen: str | None = "one.safetensors"

    def choose(self, checkpoint: str) -> None:
        if checkpoint == "torn.safetensors":
            raise CheckpointError("torn.safetensors cannot be read.")
        self.chosen = checkpoint


def test_choosing(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = Handlers(lambda: host, prompts=False)
    assert (
        handlers.list_checkpoints(),
        handlers.find_chosen_checkpoint(),
        handlers.choose_checkpoint("one.safetensors"),
    ) == ((), None, "")
    chooser = Chooser()
    monkeypatch.setattr(host, "chooser", chooser)
    names = ("one.safetensors", "torn.safetensors")
    monkeypatch.setattr(host, "checkpoints", lambda: {name: Path(name) for name in names})
    chooser.chosen = None
    assert handlers.find_chosen_checkpoint() is None
    assert handlers.choose_checkpoint(None) == ""
    assert handlers.choose_checkpoint("one.safetensors") == ""
    assert (handlers.list_checkpoints(), handlers.find_chosen_checkpoint()) == (names, "one.safetensors")
    assert "torn.safetensors cannot be read." in handlers.choose_checkpoint("torn.safetensors")
    assert handlers.find_chosen_checkpoint() == "one.safetensors"


def test_a_file_name_that_is_no_text_leaves_the_others_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = Handlers(lambda: MemoryHost(random_model(10), tmp_path), prompts=True)
    monkeypatch.setattr("lib_embedmerge.actions.inspecting.list_names", lambda _: ("good", "a\udcff", "カード"))
    assert handlers.list_names() == ("good", "カード")
